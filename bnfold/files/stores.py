"""Stores: files that are read range by range, or bytes in memory."""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np

from bnfold.errors import ModelError
from bnfold.files.remote import Remote, copy_at
from bnfold.frozen import frozen, slotted

WINDOW: Final = 1 << 16

OPEN_LIMIT: Final = 64
"""Data files that are open at once: some exporters write one for each of thousands of tensors."""


class Store(Protocol):
    """Something that bytes are read from."""

    def read(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset` on."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `offset` on."""

    def pinned(self) -> "Store":
        """Return an equal store in which many small reads are cheap."""

    def written(self, offset: int, length: int) -> "Iterator[tuple[int, int]]":
        """Yield where, from `offset` on for `length` bytes, what is written begins and ends.

        All else is zero. A file may declare a terabyte and hold nothing.
        """


@frozen
class MemoryStore:
    """Bytes in memory."""

    data: bytes | memoryview

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def window(self, position: int) -> tuple[bytes, int]:
        """Return all bytes."""
        del position
        return bytes(self.data), 0  # no copy of what is bytes

    def read(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset` on, without a copy."""
        return memoryview(self.data)[offset : offset + length]

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `offset` on."""
        view[:] = self.read(offset, len(view))

    def pinned(self) -> Self:
        """Return itself."""
        return self

    def written(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield where something is written, which is everywhere."""
        yield offset, offset + length


@slotted
class FileStore:
    """A file, and how it was when it was first opened.

    It is read, not mapped: to read a mapped file that someone truncates kills the process.

    Attributes:
        path: Its path.
        status: How it was.
        recent: The stores that share a limited number of descriptors, the latest last; None for
            one that stays open.
        remote: The file in a store that this is a copy of, fetched as it is read; None for others.
    """

    path: Path
    _descriptor: int
    recent: deque["FileStore"] | None = None
    status: os.stat_result = field(init=False)
    remote: Remote | None = field(init=False)

    def __post_init__(self) -> None:
        """Remember the size and times of the file."""
        self.status = os.fstat(self._descriptor)
        self.remote = copy_at(self.path)
        self._make_room()

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.status.st_size

    @property
    def descriptor(self) -> int:
        """The open file; opened again if it was closed to make room."""
        if self._descriptor < 0:
            try:
                self._descriptor = open_regular(self.path)
            except OSError as error:
                raise ModelError(f"{self.path}: {error.strerror}") from error
            self.require_unchanged()
            self._make_room()
        return self._descriptor

    @property
    def is_open(self) -> bool:
        """Whether there is a descriptor now."""
        return self._descriptor >= 0

    def window(self, position: int) -> tuple[bytes, int]:
        """Return some bytes from `position` on."""
        length = min(WINDOW, self.size - position)
        return bytes(self.read(position, length)), position

    def read(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset` on."""
        view = np.empty(length, np.uint8).data
        self.read_into(offset, view)
        return view

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `offset` on."""
        if self.remote is not None:
            self.remote.need(offset, len(view))
        done = 0
        while done < len(view):
            try:
                count = _read_at(self.descriptor, view[done:], offset + done)
            except OSError as error:
                raise ModelError(f"{self.path}: {error.strerror}") from error
            if not count:
                raise ModelError(f"{self.path}: the file changed while it was being read")
            done += count

    def pinned(self) -> Self:
        """Return itself."""
        return self

    def written(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield where something is written, as far as the system tells holes from it."""
        if self.remote is not None:
            self.remote.need(offset, length)
        end = offset + length
        while offset < end:
            begin, offset = self._stretch(offset, end)
            if begin < end:
                yield begin, offset

    def _stretch(self, offset: int, end: int) -> tuple[int, int]:
        """Return the first written stretch, cut at `end`; where nothing is, an empty one there."""
        if not hasattr(os, "SEEK_DATA"):
            return offset, end
        try:
            begin = os.lseek(self.descriptor, offset, os.SEEK_DATA)
            after = os.lseek(self.descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            # Nothing more is written; or the file became shorter, or its system does not tell.
            hole = error.errno == errno.ENXIO and os.fstat(self.descriptor).st_size >= end
            return (end, end) if hole else (offset, end)
        return min(begin, end), min(after, end)

    def require_unchanged(self) -> None:
        """Raise `ModelError` if somebody has written to the file since it was first opened."""
        try:
            closed = self._descriptor < 0
            now = self.path.stat() if closed else os.fstat(self._descriptor)
        except OSError as error:
            raise ModelError(f"{self.path}: {error.strerror}") from error
        if _state(now) != _state(self.status):
            raise ModelError(f"{self.path}: the file changed while it was being read")

    def require_in_place(self) -> None:
        """Raise `ModelError` if another file has taken its place."""
        try:
            now = self.path.stat()
        except OSError:
            return  # it is gone, and there is nothing that could be mistaken for it
        if not os.path.samestat(now, self.status):
            raise ModelError(f"{self.path}: the file was replaced while it was being read")

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _make_room(self) -> None:
        if self.recent is None:
            return
        self.recent.append(self)
        if len(self.recent) > OPEN_LIMIT:
            self.recent.popleft().close()


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_regular(path: Path) -> int:
    """Open a regular file for reading; pipes and devices are not even waited for.

    Raises:
        OSError: The system refused, or it is something else.
    """
    mode = path.stat().st_mode  # before open: to open a device may do something
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    flags = ("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # not all exist everywhere
    return os.open(path, sum(getattr(os, flag, 0) for flag in flags))


def _read_at(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset` on as far as one call goes; return how far."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows and old macOS
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)
