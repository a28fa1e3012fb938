"""The hidden names that files have on their way, and what killed runs leave under them.

A living process holds a lock on each of its files, so what nobody has locked is left over.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL: Final = ".bnfold-partial"
"""Ends the name of a file that nothing refers to yet: it may go at any time."""

INTERIM: Final = ".bnfold-interim"
"""Ends the name of a data file that a model may refer to: it may go when that is replaced."""


def hidden_name(target: Path, ending: str) -> Path:
    """Return a new name beside `target` by which what belongs to it can be told."""
    return target.with_name(f".{target.name}.{os.urandom(4).hex()}{ending}")


def lock(descriptor: int) -> None:
    """Lock an open file; raise OSError if another process has."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(target: Path, ending: str) -> None:
    """Remove the hidden files of `target` that no living process has locked."""
    if fcntl is None:
        return
    start = f".{target.name}."
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        names += [e.path for e in entries if e.name.startswith(start) and e.name.endswith(ending)]
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                lock(descriptor)
                Path(name).unlink()
            finally:
                os.close(descriptor)
