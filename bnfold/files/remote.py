"""Files in object stores and elsewhere, through fsspec: sparse local copies that fill on demand.

A remote file is opened as a local one of the same size without any bytes. Whoever reads a range of
it through a `FileStore` has that range fetched first, in blocks, each once; so of a model that is
only looked at, no more travels than its structure and the numbers that are needed. What other
libraries open by themselves, as ONNX Runtime does, is fetched as a whole before.
"""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from bnfold.errors import RequestError
from bnfold.files.objects import Held, held, opened_store, refusals
from bnfold.frozen import slotted

_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.DOTALL)
"""A URL, also as a `Path` has it, which knows no two slashes."""

BLOCK: Final = 1 << 18
"""Bytes that are fetched together; a range request costs as long as some hundred kilobytes take."""

_REQUEST: Final = 8 << 20
"""Bytes that are asked for at once."""

_ATTEMPTS: Final = 5

_EXACTLY: Final = {"hf": {"cache_type": "none"}}
"""What keeps a driver from reading ahead, by schemes: it would forget at once what it has read."""


def url_of(path: Path) -> str | None:
    """Return the URL that a path stands for, None for a file of this machine."""
    found = _URL.fullmatch(str(path))
    if found is None or os.path.lexists(path):
        return None
    scheme, rest = found.groups()
    return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def called(path: Path) -> str:
    """Return what a file is called, whether of this machine or not."""
    return url_of(path) or str(path)


@slotted
class Remote:
    """A file in a store, and its sparse copy.

    Attributes:
        url: Where it is.
        copy: The local file.
        held: What the store said of it at the beginning.
    """

    url: str
    copy: Path
    _store: Any
    _name: str
    held: Held
    _have: bytearray = field(default_factory=bytearray)
    _lock: Any = field(default_factory=threading.Lock)

    @classmethod
    def begin(cls, url: str, copy: Path, known: Held | None = None) -> "Remote":
        """Make a local file without bytes; the store is asked what is not `known` of the file.

        Raises:
            RequestError: There is no such file, it cannot be read, or fsspec is not installed.
        """
        store, name = opened_store(url)
        remote = cls(url, copy, store, name, known or held(url))
        remote._have = bytearray(-(-remote.held.size // BLOCK))
        with copy.open("xb") as file:
            file.truncate(remote.held.size)
        return remote

    def need(self, offset: int, length: int) -> None:
        """Fetch what is missing of a range."""
        first, last = offset // BLOCK, -(-min(offset + length, self.held.size) // BLOCK)
        if not any(have == 0 for have in self._have[first:last]):
            return
        with self._lock:
            for begin, end in self._missing(first, last):
                self._fetch(begin, end)

    def complete(self) -> None:
        """Fetch all of it."""
        self.need(0, self.held.size)

    def require_unchanged(self) -> None:
        """Raise `RequestError` if it is another file by now."""
        if held(self.url) != self.held:
            raise RequestError(f"{self.url}: the file changed while it was being read")

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        while first < last:
            if self._have[first]:
                first += 1
                continue
            end = first
            while end < last and not self._have[end] and (end - first) * BLOCK < _REQUEST:
                end += 1
            yield first, end
            first = end

    def _fetch(self, first: int, last: int) -> None:
        begin, end = first * BLOCK, min(last * BLOCK, self.held.size)
        data = self._range(begin, end)
        if len(data) > end - begin:  # a server that knows no ranges has sent all
            begin, first, last = 0, 0, len(self._have)
        times = self.copy.stat()
        with self.copy.open("r+b") as file:
            file.seek(begin)
            file.write(data)
        # Who has it open shall not take it for a file that somebody writes to.
        os.utime(self.copy, ns=(times.st_atime_ns, times.st_mtime_ns))
        self._have[first:last] = b"\1" * (last - first)

    def _range(self, begin: int, end: int) -> bytes:
        """Fetch a range, or all where no ranges are known; what breaks is tried a few times."""
        exactly = _EXACTLY.get(self.url.partition(":")[0], {})
        for attempt in range(_ATTEMPTS):
            try:
                with refusals(self.url):
                    data: bytes = self._store.cat_file(self._name, start=begin, end=end, **exactly)
                if len(data) in (end - begin, self.held.size):
                    return data
            except RequestError as error:
                lasting = isinstance(error.__cause__, FileNotFoundError | PermissionError)
                if lasting or attempt == _ATTEMPTS - 1:
                    raise
            time.sleep(0.1 * 2**attempt)
        raise RequestError(f"{self.url}: the file changed while it was being read")


_COPIES: Final[dict[str, Remote]] = {}
"""The copies that are in use, by their local names."""


def copy_at(path: Path) -> Remote | None:
    """Return what a local file is a copy of, None for one that is no copy."""
    return _COPIES.get(os.path.realpath(path)) if _COPIES else None


def provide(folder: Path, location: str) -> None:
    """Begin a copy of a data file of a model that is a copy itself; else do nothing.

    The location is a path from the folder of that copy, which is known to lead nowhere else.
    """
    inside = os.path.realpath(folder)
    model = next((one for name, one in _COPIES.items() if os.path.dirname(name) == inside), None)  # noqa: PTH120
    path = folder / location
    if model is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _COPIES[os.path.realpath(path)] = Remote.begin(
        f"{model.url.rpartition('/')[0]}/{location}", path
    )


@contextmanager
def copied(url: str, folder: Path) -> Iterator[Path]:
    """Give a copy of a remote file, which fills on demand while the context lasts."""
    path = folder / url.rpartition("/")[2]
    _COPIES[os.path.realpath(path)] = Remote.begin(url, path)
    try:
        yield path
        for remote in copies_in(folder):
            remote.require_unchanged()
    finally:
        for remote in copies_in(folder):
            del _COPIES[os.path.realpath(remote.copy)]


@contextmanager
def glimpsed(files: Mapping[Path, tuple[str, Held]]) -> Iterator[None]:
    """Begin copies of remote files that others may change meanwhile, while the context lasts.

    `files` says where each goes, with its URL and what the store said of it just now.
    """
    copies = {
        os.path.realpath(path): Remote.begin(url, path, h) for path, (url, h) in files.items()
    }
    _COPIES.update(copies)
    try:
        yield
    finally:
        for path in copies:
            del _COPIES[path]


def copies_in(folder: Path) -> list[Remote]:
    """Return the copies in a folder or below it."""
    inside = os.path.realpath(folder)
    return [one for name, one in _COPIES.items() if name.startswith(inside + os.sep)]
