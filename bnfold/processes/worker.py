"""The parent's side of a process that may crash; `bnfold.processes.child` is the child's.

ONNX Runtime can take its process down with it, and some providers hang. So it gets a process of
its own. The two speak JSON, one message a line; nothing that came from the child is executed or
unpickled. Every step that the child begins is announced, so that a crash can be reported with
what was going on, and the time limit counts from the last announcement.
"""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any

from bnfold.errors import RequestError
from bnfold.processes.child import environment
from bnfold.processes.exits import how_it_ended

_COMMAND = ("-P", "-m")


class ChildDiedError(Exception):
    """The child process crashed, hung or ran out of memory.

    Attributes:
        how: Which of these, and when: "crashed (SIGSEGV) while running the original".
        said: What it wrote to stderr.
    """

    def __init__(self, how: str, said: str) -> None:
        """Add the last of what it said to how it died."""
        lines = said.strip().splitlines()
        words = f"; its last words: {lines[-1].strip()[:300]}" if lines else ""
        super().__init__(f"{how}{words}")
        self.how, self.said = how, said


class _Started:
    """A child process that has been started, and has no commands yet."""

    def __init__(self, module: str) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `Worker.close`
        self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, *_COMMAND, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(),
        )


_ahead: dict[str, _Started] = {}


def start_ahead(module: str) -> None:
    """Start a child now, which the next `Worker` of that module takes.

    What it imports it imports while this process does something else. If nobody takes it, it ends
    with this process.
    """
    if module not in _ahead:
        _ahead[module] = _Started(module)


class Worker:
    """A child process that answers commands in order."""

    def __init__(
        self, module: str, timeout: float, step: Callable[[str], None] = lambda _: None
    ) -> None:
        """Start the child, unless it has been started already; see `start_ahead`.

        Args:
            module: What it runs; it calls `bnfold.processes.child.serve`.
            timeout: Seconds that each step may take.
            step: Called with the name of each step that is waited for.
        """
        self._timeout = timeout
        self._step = step
        self._doing = "starting"
        self._died: ChildDiedError | None = None
        started = _ahead.pop(module, None) or _Started(module)
        self._log, self._process = started.log, started.process
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it was asked for above
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def send(self, command: str, **arguments: Any) -> None:  # noqa: ANN401 - JSON
        """Give the child something to do; its answer is fetched with `answer`."""
        assert self._process.stdin is not None  # noqa: S101
        message = json.dumps({"command": command, **arguments}) + "\n"
        # A child that has died is noticed when its answer is fetched.
        with contextlib.suppress(OSError):
            self._process.stdin.write(message.encode())
            self._process.stdin.flush()

    def answer(self, within: float | None = None) -> dict[str, Any]:
        """Wait for the answer to the oldest command that has none yet.

        Args:
            within: Seconds that this may take, if not as many as each step may.

        Raises:
            RequestError: The child found that the request cannot be carried out.
            ChildDiedError: There is no child any more, or it took too long.
        """
        while True:
            if self._died is not None:
                raise self._died
            try:
                message = self._messages.get(timeout=self._timeout if within is None else within)
            except queue.Empty:
                limit = f"within {self._timeout:g} s (--timeout)"
                self._give_up(f"did not finish {self._doing} {limit}")
                continue
            if message is None:
                self._give_up(f"{how_it_ended(self._process.wait())} while {self._doing}")
            elif "doing" in message:
                self._doing = message["doing"]
                self._step(self._doing)
            elif "refused" in message:
                raise RequestError(message["refused"])
            else:
                return message

    def _give_up(self, how: str) -> None:
        self._process.kill()
        self._process.wait()
        self._log.seek(0)
        self._died = ChildDiedError(how, self._log.read().decode(errors="replace"))

    def close(self) -> None:
        """End the child, however busy it is."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
