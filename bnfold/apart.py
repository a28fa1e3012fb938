"""Work that may end the process that does it, done in a copy of that process.

Libraries in C++ end the process where an assertion of theirs fails, and take memory without a
limit. A copy (`fork`) costs milliseconds, may be bounded, and may be lost.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_own_process = False

_FATAL = ("SIGINT", "SIGTERM", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")


def own_process() -> None:
    """Say that this process is bnfold's own, so that it may be copied.

    As a library bnfold must not: in a copy, what other threads were about is left undone.
    """
    global _own_process  # noqa: PLW0603 - a process is one
    _own_process = True


def done_apart(work: Callable[[], bytes], room: int) -> bytes | None:
    """Return what `work` makes, without harm to this process where it is bnfold's own.

    Args:
        work: What to do. It may only read what is there, and takes no locks.
        room: Bytes that it may take, beyond those of the process.

    Returns:
        What it made; None where it failed, by an exception or otherwise.
    """
    if not _own_process or sys.platform != "linux":
        try:
            return work()
        except Exception:  # noqa: BLE001 - as it would be in a copy
            return None
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads; the copy needs none
        child = os.fork()
    if not child:
        _do(work, room, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:  # noqa: PTH123 - it is a descriptor
            made = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    return None if status else made


def _do(work: Callable[[], bytes], room: int, writing: int) -> NoReturn:
    """Do the work in the copy, quietly, and end it."""
    code = 1
    try:
        for name in _FATAL:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _limit_memory(room)
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
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
