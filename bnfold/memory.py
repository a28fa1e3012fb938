"""A limit on the process's own memory, for code that cannot be told how much it may take."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_own_process = False


def own_process() -> None:
    """Say that this process is bnfold's own, so that its memory may be limited for a while."""
    global _own_process  # noqa: PLW0603 - a process is one
    _own_process = True


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let the process take `count` bytes more at most, where it is bnfold's own.

    As a library bnfold must not: other threads would meet the limit, too. Memory that is asked for
    beyond it raises MemoryError.
    """
    if not _own_process or not Path("/proc/self/statm").exists():
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    room = pages * resource.getpagesize() + count
    if soft != resource.RLIM_INFINITY:
        room = min(room, soft)
    resource.setrlimit(resource.RLIMIT_AS, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
