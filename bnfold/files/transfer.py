"""Bytes into a file: from another file within the kernel, from memory by writing."""

import errno
import os
from collections.abc import Callable, Iterable
from typing import Final

from bnfold.files.pieces import Piece, Slice
from bnfold.files.stores import FileStore

STRIDE: Final = 64 << 20
"""Bytes copied by one call, after which a signal gets its turn."""

_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)
"""How a kernel or a file system says that it does not offer a call."""


def write_pieces(pieces: Iterable[Piece], descriptor: int) -> None:
    """Write `pieces` to a new file, one after the other."""
    write = _writer(descriptor)
    for piece in pieces:
        if isinstance(piece, Slice) and isinstance(piece.store, FileStore):
            _copy(piece.store, piece.offset, piece.length, descriptor, write)
        else:
            send(piece, write)


def send(piece: Piece, write: Callable[[bytes | memoryview], object]) -> None:
    """Hand the bytes of `piece` to `write`, in bounded blocks."""
    if isinstance(piece, bytes):
        write(piece)
        return
    done = 0
    for block in piece.blocks():
        write(block)
        done += len(block)
    if done != len(piece):
        raise ValueError(f"a recipe announced {len(piece)} bytes and made {done}")


def _writer(descriptor: int) -> Callable[[bytes | memoryview], None]:
    def write(data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


def _copy(
    store: FileStore,
    offset: int,
    length: int,
    descriptor: int,
    write: Callable[[bytes | memoryview], None],
) -> None:
    """Copy a stretch of a file by the fastest way that works here."""
    for attempt in (_by_range, _by_sendfile):
        done = attempt(store.descriptor, offset, length, descriptor)
        offset, length = offset + done, length - done
    send(Slice(store, offset, length), write)  # also notices when the source became shorter


def _by_range(source: int, offset: int, length: int, target: int) -> int:
    """Copy with `copy_file_range`, which may share blocks; return how much could be done."""
    if not hasattr(os, "copy_file_range"):
        return 0
    return _repeat(
        lambda at, count: os.copy_file_range(source, target, count, offset_src=at), offset, length
    )


def _by_sendfile(source: int, offset: int, length: int, target: int) -> int:
    """Copy with `sendfile`; return how much could be done."""
    if not hasattr(os, "sendfile"):
        return 0
    return _repeat(lambda at, count: os.sendfile(target, source, at, count), offset, length)


def _repeat(call: Callable[[int, int], int], offset: int, length: int) -> int:
    done = 0
    while done < length:
        try:
            count = call(offset + done, min(STRIDE, length - done))
        except OSError as error:
            if error.errno in _CANNOT:
                break
            raise
        if not count:
            break
        done += count
    return done
