"""Bytes into a file: from another file within the kernel, from memory by writing.

What recipes make is made by a few threads, each at another tensor: reading, multiplying and writing
all happen outside of Python's lock. Where every piece belongs is known before it is made.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from bnfold.files.pieces import Made, Piece, Slice
from bnfold.files.stores import FileStore

if TYPE_CHECKING:
    from concurrent.futures import Future

STRIDE: Final = 64 << 20
"""Bytes copied by one call, after which a signal gets its turn."""

_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)
"""How a kernel or a file system says that it does not offer a call."""


WORTH_A_THREAD: Final = 1 << 20
"""Bytes that a recipe must make to be handed to another thread."""

_MOST_THREADS: Final = 4
"""More would wait for Python's lock between two blocks."""


def write_pieces(pieces: Iterable[Piece], descriptor: int, *, threads: bool = False) -> None:
    """Write `pieces` to a new file.

    Args:
        pieces: What to write, in this order.
        descriptor: The file, which is empty.
        threads: The sources can be read by several threads.

    Raises:
        OSError: The system cannot write them.
        ModelError: A source changed while it was being read.
        RoundingOverflow: What a recipe makes is too large for its type.
    """
    write = _writer(descriptor)
    at = 0
    with ExitStack() as stack:
        makers: _Makers | None = None
        for piece in pieces:
            if threads and isinstance(piece, Made) and len(piece) >= WORTH_A_THREAD:
                makers = makers or stack.enter_context(_Makers(descriptor))
                makers.make(piece, at)
            elif len(piece):
                os.lseek(descriptor, at, os.SEEK_SET)
                if isinstance(piece, Slice) and isinstance(piece.store, FileStore):
                    _copy(piece.store, piece.offset, piece.length, descriptor, write)
                else:
                    send(piece, write)
            at += len(piece)


class _Makers:
    """Threads that make pieces and write them where they belong."""

    def __init__(self, descriptor: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(min(_processors(), _MOST_THREADS))
        self._pending: deque[Future[None]] = deque()
        self._stopped = False

    def make(self, piece: Made, at: int) -> None:
        """Let a thread make a piece, which begins at `at`."""
        self._pending.append(self._pool.submit(self._make, piece, at))

    def _make(self, piece: Made, at: int) -> None:
        def write(data: bytes | memoryview) -> None:
            nonlocal at
            if self._stopped:
                raise InterruptedError
            view = memoryview(data)
            while view:
                done = os.pwrite(self._descriptor, view, at)
                view, at = view[done:], at + done

        send(piece, write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait until all is written; after a failure, until nobody writes any more."""
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._stopped = True
            self._pool.shutdown(cancel_futures=True)


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
