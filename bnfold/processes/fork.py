"""Work that is done in a copy of this process, because it may crash or take too much.

Libraries in C++ end the process where an assertion of theirs fails, and take memory and time
without a limit. A copy (`fork`) costs milliseconds, its memory and time can be bounded, and its
crash harms nothing. It works while this process does something else.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

from bnfold.processes.child import end_with

_own_process = False

_FATAL = ("SIGINT", "SIGTERM", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")


def own_process() -> None:
    """Say that this process runs nothing but bnfold, so that it may be copied.

    As a library bnfold must not copy its process: a copy has only one of its threads, and a lock
    that another thread holds at that moment stays locked in it for ever.
    """
    global _own_process  # noqa: PLW0603 - a process is one
    _own_process = True


def is_own_process() -> bool:
    """Tell whether this process runs nothing but bnfold."""
    return _own_process


class Forked:
    """Work in a copy of this process; in a process that is not bnfold's own, work done later.

    There it is done when somebody asks for the result. Leaving the context ends work whose result
    nobody has asked for.
    """

    def __init__(self, work: Callable[[], bytes], room: int, seconds: int) -> None:
        """Start the work.

        Args:
            work: What to do. It may only read what is in memory, and must take no lock.
            room: Bytes that it may take, beyond those of the process.
            seconds: Seconds of the processor that it may take.
        """
        self._work = work
        self._child = self._pipe = 0
        if not _own_process or sys.platform != "linux":
            return
        self._pipe, writing = os.pipe()
        here = os.getpid()
        with warnings.catch_warnings():  # about threads, of which the copy needs none
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child = os.fork()
        if not self._child:
            _do(work, room, seconds, writing, here)
        os.close(writing)

    def result(self) -> bytes | None:
        """Return what the work makes; None where it failed, by an exception or otherwise."""
        if not self._child:
            try:
                return self._work()
            except Exception:  # noqa: BLE001 - as it would be in a copy
                return None
        with self:
            with open(self._pipe, "rb", closefd=False) as pipe:
                made = pipe.read()
            return None if self._ended() else made

    def __enter__(self) -> Self:
        """Return the work itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the copy, if there still is one."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            self._ended()

    def _ended(self) -> int:
        """Wait for the copy to end; return its status."""
        child, self._child = self._child, 0
        try:
            return os.waitpid(child, 0)[1]
        finally:
            os.close(self._pipe)


def _do(work: Callable[[], bytes], room: int, seconds: int, writing: int, parent: int) -> NoReturn:
    """Do the work in the copy, with stderr closed, write the result and end the copy."""
    code = 1
    try:
        end_with(parent)  # it has the parent's pipes, and who reads them waits for their end
        for name in _FATAL:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _limit_memory(room)
        _limit_time(seconds)
        made = memoryview(work())
        while made:
            made = made[os.write(writing, made) :]
        code = 0
    finally:
        os._exit(code)


def _limit_memory(room: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + room
    _lower(resource.RLIMIT_AS, limit)


def _limit_time(seconds: int) -> None:
    """Let the system end this process, a new one, after this time of the processor."""
    import resource

    _lower(resource.RLIMIT_CPU, seconds)


def _lower(resource_: int, limit: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource_)
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource_, (limit, hard))
