"""Watching a process and its children while they run."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from measure import HERE


class Watched:
    """A process and its children, of which the peak resident sets are sampled.

    Attributes:
        wall: Seconds.
        parent: The largest resident set of the process, in bytes.
        child: That of any of its children.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.parent = self.child = 0
        start = time.perf_counter()
        environment = {"PYTHONPATH": str(HERE.parent), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(
            [str(word) for word in command], env=environment, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                self.parent = max(self.parent, _peak(process.pid))
                children = [_peak(pid) for pid in _children(process.pid)]
                self.child = max([self.child, *children])
                time.sleep(0.02)
        self.wall = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}")


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, task.read_text().split())
        except OSError:
            continue


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(found[0]) << 10 if found else 0
