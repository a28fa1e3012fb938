"""The hidden names that files have on their way, and what killed runs leave under them.

A living process holds a lock on each of its files, so what nobody has locked is left over.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
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


_LONGEST: Final = 200
"""Bytes of a target's name that its hidden names repeat; most systems allow 255 in all."""

_PATIENCE: Final = 60.0
"""Seconds to wait for another process that is giving files in the same folder their names."""


def hidden_name(target: Path, ending: str) -> Path:
    """Return a new name beside `target` by which what belongs to it can be told."""
    return target.with_name(f"{_start(target)}{os.urandom(4).hex()}{ending}")


def _start(target: Path) -> str:
    """Return how the hidden names of `target` begin."""
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST:
        return f".{target.name}."
    import hashlib

    digest = hashlib.sha256(name).hexdigest()
    return f".{name[: _LONGEST // 2].decode('utf-8', 'ignore')}.{digest[:16]}."


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time give names to what it wrote in `folder`.

    A model and its data file are renamed one after the other, and two processes that write the
    same model would otherwise leave the one's model with the other's data.

    Raises:
        TimeoutError: Another process has been about it for a minute.
    """
    descriptor = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None:
            _wait_for(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for(descriptor: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            lock(descriptor)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError("another process is writing into this folder") from None
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


def lock(descriptor: int) -> None:
    """Lock an open file; raise OSError if another process has."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(target: Path, ending: str) -> None:
    """Remove the hidden files of `target` that no living process has locked."""
    if fcntl is None:
        return
    own = re.compile(f"{re.escape(_start(target))}[0-9a-f]{{8}}{re.escape(ending)}")
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        names += [entry.path for entry in entries if own.fullmatch(entry.name)]
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                lock(descriptor)
                Path(name).unlink()
            finally:
                os.close(descriptor)
