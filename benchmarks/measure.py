"""Measuring whole processes, and printing what was measured as tables.

Only the standard library is imported here, and by the scripts that measure processes: Linux counts
into a process's peak memory what its parent had in use when it was started, so the parent stays
small.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import IO, Final

HERE: Final = Path(__file__).resolve().parent

_PACKAGES: Final = (
    "bnfold",
    "onnx",
    "onnx-graphsurgeon",
    "numpy",
    "onnxruntime",
    "onnxscript",
    "onnxslim",
    "onnxsim",
    "onnxoptimizer",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a process, its children included.

    Attributes:
        wall: Seconds from its start to its end.
        cpu: Seconds of processor time.
        memory: The largest resident set, in bytes.
        ok: Whether it ended with exit code 0.
        output: What it printed.
        errors: What it complained of.
    """

    wall: float
    cpu: float
    memory: int
    ok: bool
    output: str
    errors: str


def run(command: Sequence[str | Path]) -> Sample:
    """Run a command and measure it."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    # An installed package is compiled, and does not compile itself each time.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        printed, complained = (_content(file) for file in (output, errors))
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(
        wall,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * unit,
        process.returncode == 0,
        printed,
        complained,
    )


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def interleaved(
    commands: Mapping[str, Sequence[str | Path]], rounds: int, *, prepare: "Prepare | None" = None
) -> dict[str, list[Sample]]:
    """Run each command once a round, so that all of them see the same disturbances.

    Args:
        commands: What to run, by name. One that fails is run no more.
        rounds: How often.
        prepare: Is called before each run.
    """
    # pip compiles what it installs; a checkout may forbid what is run to keep its bytecode.
    run([sys.executable, "-m", "compileall", "-q", HERE.parent / "bnfold"])
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            if samples[name] and not samples[name][-1].ok:
                continue
            if prepare is not None:
                prepare()
            samples[name].append(run(command))
    return samples


class Prepare:
    """Lets the disk finish what earlier runs left to it, and removes what they wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self) -> None:
        """Do so."""
        for path in self._folder.iterdir():
            path.unlink()
        os.sync()


def wall(samples: Iterable[Sample]) -> float:
    """Return the median wall time in seconds."""
    return median(sample.wall for sample in samples)


def cpu(samples: Iterable[Sample]) -> float:
    """Return the median processor time in seconds."""
    return median(sample.cpu for sample in samples)


def memory(samples: Iterable[Sample]) -> float:
    """Return the largest resident set in MB."""
    return max(sample.memory for sample in samples) / 1e6


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned on the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, marks, *rows])


def provenance() -> str:
    """Return the date and the versions that a table was made with."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            if package == "bnfold":
                found.append("bnfold from this checkout")
    today = datetime.now(UTC).date().isoformat()
    return f"{today}, Python {platform.python_version()}, {', '.join(found)}"
