"""The hidden names that files have on their way, and how what killed runs leave is cleaned up.

A killed run may leave files of two kinds:

- a file on its way, under a hidden name. A living process holds a lock on each of its own, so what
  nobody has locked is left over.
- a data file whose model was not replaced any more, or whose model was replaced. Which files that
  may be is written in a journal, a hidden file that is there while the two take their places. Who
  has the folder's lock and finds a journal knows that nobody else is about it.

A journal is a stranger's file, as a model is: it is believed only about data files with the names
and the identities that bnfold would have given them, and none that a model reads is removed.
"""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Final

from bnfold.files.readers import readers, reads

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL: Final = ".bnfold-partial"
"""Ends the name of a file that nothing refers to yet: it may go at any time."""

JOURNAL: Final = ".bnfold-journal"
"""Ends the name of a journal."""

_HIDDEN: Final = re.compile(
    rf"\..*\.[0-9a-f]{{8}}({re.escape(PARTIAL)}|{re.escape(JOURNAL)})", re.DOTALL
)

_LONGEST: Final = 200
"""Bytes of a name to which more is added; most systems allow 255 in all."""

_PATIENCE: Final = 60.0
"""Seconds to wait for another process that is giving files in the same folder their names."""


_LONGEST_JOURNAL: Final = 1 << 16


def hidden_name(target: Path, ending: str) -> Path:
    """Return a new hidden name beside `target` that tells which target it belongs to."""
    return target.with_name(f"{_start(target)}{os.urandom(4).hex()}{ending}")


def _start(target: Path) -> str:
    """Return how the hidden names of `target` begin."""
    return f".{_short(target.name)}."


def _short(name: str) -> str:
    """Return a name that more can be added to: of a long one the beginning and a hash."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    import hashlib

    digest = hashlib.sha256(encoded).hexdigest()
    return f"{encoded[: _LONGEST // 2].decode('utf-8', 'ignore')}.{digest[:16]}"


def data_file(model: Path) -> Path:
    """Return where the data of `model` goes, if that is free."""
    return model.with_name(f"{model.name}.data")


def free_data_file(model: Path) -> Path:
    """Return a place for the data of `model` while the other one is taken."""
    short = _short(model.name)
    places = (model.with_name(f"{short}.{number}.data") for number in itertools.count(1))
    return next(place for place in places if not os.path.lexists(place))


def data_files(model: Path) -> list[Path]:
    """Return the data files that bnfold may have given `model`."""
    names = re.escape(model.name), rf"{re.escape(_short(model.name))}\.[0-9]+"
    own = re.compile(rf"({'|'.join(names)})\.data")
    with os.scandir(model.parent) as entries:
        return sorted(Path(entry.path) for entry in entries if own.fullmatch(entry.name))


@contextlib.contextmanager
def journal(model: Path, new: os.stat_result, place: Path, old: Iterable[Path]) -> Iterator[None]:
    """Remove those of a model's data files that no model reads when the context ends.

    In it the model's `old` data files are replaced by the `new` one, at `place`. If this process is
    killed meanwhile, the next one that looks after the folder does so.
    """
    files = {place.name: [new.st_dev, new.st_ino]}
    for path in old:
        if path != place:
            status = path.lstat()
            files[path.name] = [status.st_dev, status.st_ino]
    path = hidden_name(model, JOURNAL)
    try:
        _write(path, json.dumps({"model": model.name, "data": files}).encode("ascii"))
        yield
    finally:
        _clear(path)


def _write(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Remove the data files of a journal that no model reads, and the journal."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        if path.stat().st_size <= _LONGEST_JOURNAL:
            journal = json.loads(path.read_text(encoding="ascii"))
            model = path.parent / str(journal["model"])
            for data in data_files(model):
                if journal["data"].get(data.name) == _identity(data) and not _is_read(data, model):
                    data.unlink()
    with contextlib.suppress(OSError):
        path.unlink()


def _identity(path: Path) -> list[int] | None:
    status = path.lstat()
    return [status.st_dev, status.st_ino] if S_ISREG(status.st_mode) else None


def _is_read(data: Path, model: Path) -> bool:
    return reads(model, data) or any(readers(data, but=model))


def tidy(folder: Path) -> None:
    """Remove what killed runs have left in a folder, unless somebody is at work there."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), folder_lock(folder, patience=0.0):
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if _HIDDEN.fullmatch(entry.name)]
        for path in found:
            with contextlib.suppress(OSError):
                _remove_left(path)


def _remove_left(path: Path) -> None:
    """Remove a hidden file that no living process has locked, and what it tells of."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(descriptor)
        if not S_ISREG(os.fstat(descriptor).st_mode):
            return
        if path.name.endswith(JOURNAL):
            _clear(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def folder_lock(folder: Path, *, patience: float | None = None) -> Iterator[None]:
    """Let one process at a time give names to what it wrote in `folder`.

    A model and its data file are renamed one after the other, and two processes that write the
    same model would otherwise leave the one's model with the other's data.

    Raises:
        TimeoutError: Another process has held the lock for a minute, or for what `patience` says.
    """
    descriptor = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None:
            _wait_for(descriptor, _PATIENCE if patience is None else patience)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for(descriptor: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            lock(descriptor)
        except BlockingIOError:
            if time.monotonic() >= end:
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
