"""Writing pieces into a file: from other files within the kernel, from memory by `write`.

A few threads make what recipes describe, each of them another tensor: they read, multiply and write
without holding Python's lock. The place of every piece in the file is known before it is made.
"""

import contextlib
import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Final, Self

from bnfold.files.pieces import Made, Piece, Slice
from bnfold.files.stores import FileStore
from bnfold.processes.processors import processors
from bnfold.processes.signals import interrupts_held_back

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

STRETCH: Final = 8 << 20
"""Bytes written before the system is asked to bring them to the disk."""


def write_pieces(pieces: Sequence[Piece], descriptor: int, *, threads: bool = False) -> None:
    """Write `pieces` to a new file.

    Args:
        pieces: What to write, in this order.
        descriptor: The file, which is empty.
        threads: The sources can be read by several threads.

    Raises:
        OSError: The system cannot write them.
        ModelError: A source changed while it was being read.
        FoldOverflow: What a recipe makes is too large for its type.
    """
    placed = [*zip(pieces, itertools.accumulate(map(len, pieces), initial=0), strict=False)]
    made = [
        (piece, at)
        for piece, at in placed
        if threads and isinstance(piece, Made) and len(piece) >= WORTH_A_THREAD
    ]
    elsewhere = {at for _, at in made}
    write, trail = _writer(descriptor), _Trail(descriptor, 0)
    with _Makers(descriptor, made) as makers:
        makers.begin()
        for piece, at in placed:
            if not len(piece) or at in elsewhere:
                continue
            if isinstance(piece, Slice) and isinstance(piece.store, FileStore):
                for begin, end in piece.store.written(piece.offset, piece.length):
                    os.lseek(descriptor, at + begin - piece.offset, os.SEEK_SET)
                    _copy(piece.store, begin, end - begin, trail, write)
            else:
                os.lseek(descriptor, at, os.SEEK_SET)
                send(piece, write)
            trail.reach(at + len(piece))
        makers.make()
    size = sum(map(len, pieces))
    if os.fstat(descriptor).st_size < size:  # what is not written at its end is zero
        os.ftruncate(descriptor, size)


class _Makers:
    """The threads that make pieces and write them to their places; the calling thread is one.

    `concurrent.futures` and `Thread.join` cannot be interrupted safely: Ctrl-C may come while one
    thread passes a lock to another, and the lock then stays locked.
    """

    def __init__(self, descriptor: int, made: Iterable[tuple[Made, int]]) -> None:
        self._descriptor = descriptor
        self._waiting = deque(made)
        self._busy: set[threading.Thread] = set()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._errors: list[Exception] = []
        self._stopped = False

    def __enter__(self) -> Self:
        """Start no thread yet: if this method is interrupted, `__exit__` is not called."""
        return self

    def begin(self) -> None:
        """Start the other threads."""
        for _ in range(min(processors(), _MOST_THREADS, len(self._waiting)) - 1):
            thread = threading.Thread(target=self._assist, daemon=True)
            self._busy.add(thread)
            try:
                with interrupts_held_back():
                    thread.start()
            except RuntimeError:  # the system allows no more of them
                self._busy.discard(thread)

    def make(self) -> None:
        """Make pieces until none is left."""
        while not self._stopped:
            try:
                piece, at = self._waiting.popleft()
            except IndexError:
                return
            trail = _Trail(self._descriptor, at)
            send(piece, _writer_at(self._descriptor, at, self._require_going_on, trail))
            trail.reach(at + len(piece), ended=True)

    def _require_going_on(self) -> None:
        if self._stopped:
            raise InterruptedError

    def _assist(self) -> None:
        try:
            self.make()
        except Exception as error:  # noqa: BLE001 - `__exit__` raises it in the calling thread
            self._errors.append(error)
            self._stopped = True
        finally:
            self._busy.discard(threading.current_thread())
            self._ended.put(None)

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait until no thread writes any more, and raise an error of another thread."""
        self._stopped |= kind is not None
        signalled: BaseException | None = None
        while self._busy:
            try:
                self._ended.get()
            except BaseException as signal:  # noqa: BLE001 - the file must not be closed before
                self._stopped, signalled = True, signal
        if signalled is not None:
            raise signalled
        if kind is None or kind is InterruptedError:
            for error in self._errors:
                raise error


def _writer_at(
    descriptor: int, at: int, before: Callable[[], None], trail: "_Trail"
) -> Callable[[bytes | memoryview], None]:
    def write(data: bytes | memoryview) -> None:
        nonlocal at
        before()
        view = memoryview(data)
        while view:
            done = os.pwrite(descriptor, view, at)
            view, at = view[done:], at + done
        trail.reach(at)

    return write


class _Trail:
    """The part of a new file that one thread writes; it goes to the disk while it grows.

    So the wait for the disk in the end is short. `POSIX_FADV_DONTNEED` makes the system begin to
    write pages to the disk; it drops only pages from the cache that are there already.
    """

    def __init__(self, descriptor: int, at: int) -> None:
        self.descriptor = descriptor
        self._begin = at

    def reach(self, end: int, *, ended: bool = False) -> None:
        """Note how far the part is written, and ask the system to bring it to the disk."""
        length = end - self._begin
        if not length or (length < STRETCH and not ended) or not hasattr(os, "posix_fadvise"):
            return
        with contextlib.suppress(OSError):  # it is only advice
            os.posix_fadvise(self.descriptor, self._begin, length, os.POSIX_FADV_DONTNEED)
        self._begin = end


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
    trail: "_Trail",
    write: Callable[[bytes | memoryview], None],
) -> None:
    """Copy a range of a file by the fastest way that works here."""
    for attempt in (_by_range, _by_sendfile):
        done = attempt(store.descriptor, offset, length, trail)
        offset, length = offset + done, length - done
    send(Slice(store, offset, length), write)  # also notices when the source became shorter


def _by_range(source: int, offset: int, length: int, trail: "_Trail") -> int:
    """Copy with `copy_file_range`, which may share blocks; return how much could be done."""
    if not hasattr(os, "copy_file_range"):
        return 0
    return _repeat(
        lambda at, count: os.copy_file_range(source, trail.descriptor, count, offset_src=at),
        offset,
        length,
        trail,
    )


def _by_sendfile(source: int, offset: int, length: int, trail: "_Trail") -> int:
    """Copy with `sendfile`; return how much could be done."""
    if not hasattr(os, "sendfile"):
        return 0
    return _repeat(
        lambda at, count: os.sendfile(trail.descriptor, source, at, count), offset, length, trail
    )


def _repeat(call: Callable[[int, int], int], offset: int, length: int, trail: "_Trail") -> int:
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
        trail.reach(os.lseek(trail.descriptor, 0, os.SEEK_CUR))
    return done
