"""Files that appear whole or not at all.

A file is written without a name (`O_TMPFILE`) where the system can, so that a process killed at
any moment leaves nothing; elsewhere under a hidden name. It gets its place by `rename`, after its
bytes are on the disk. A file that does have a hidden name is locked by the process that writes
it, so the next run can tell what a killed one has left, and removes it (`leftovers.tidy`).
"""

import contextlib
import errno
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, Self

from bnfold.errors import RequestError
from bnfold.files.leftovers import PARTIAL, folder_lock, hidden_name, lock
from bnfold.frozen import slotted
from bnfold.paths import real_path

_NO_ANONYMOUS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})

_WRITING: Final = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def os_errors_as_requests(path: Path) -> Iterator[None]:
    """Turn an OSError that is raised while `path` is written into a `RequestError`."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}") from error


def real_target(target: Path) -> Path:
    """Return the file that writing to `target` shall replace: a symbolic link is followed.

    Raises:
        RequestError: It cannot be written, or is no regular file.
    """
    with os_errors_as_requests(target):
        if target.exists() and not target.is_file() and not target.is_dir():
            raise RequestError(f"{target}: this is not a regular file")
        real = real_path(target) if target.is_symlink() else target
        if real.is_symlink():  # in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not real.parent.is_dir():
        if real.parent.exists():
            raise RequestError(f"{target}: {real.parent} is not a folder")
        raise RequestError(f"{target}: the folder {real.parent} does not exist")
    if not real.exists():
        return real
    if real.is_dir():
        raise RequestError(f"{target}: this is a folder")
    if not os.access(real, os.W_OK):
        raise RequestError(f"{target}: the file is write-protected")
    return real


@slotted
class Staged:
    """A file being written, on the way to `target`.

    Attributes:
        target: The place it will take.
        descriptor: Where to write.
        hidden: Its name until then.
        named: Whether it has that name already.
    """

    target: Path
    descriptor: int
    hidden: Path
    named: bool

    @classmethod
    def create(cls, target: Path, *, like: Path | None = None) -> Self:
        """Begin a file with the owner and permissions of the target, or of what is `like` it."""
        hidden = hidden_name(target, PARTIAL)
        descriptor = _open_without_name(target.parent)
        named = descriptor is None
        if descriptor is None:
            descriptor = _open_locked(hidden)
        staged = cls(target, descriptor, hidden, named)
        try:
            if not named:
                _lock_if_possible(descriptor)
            with contextlib.suppress(FileNotFoundError):
                _keep_permissions((like or target).stat(), descriptor)
        except BaseException:
            staged.discard()
            raise
        return staged

    def sync(self) -> None:
        """Wait until the bytes are on the disk."""
        os.fsync(self.descriptor)

    def take_hidden_name(self) -> None:
        """Give the file its hidden name, if it has none yet, so that others can open it."""
        if not self.named:
            # src_dir_fd makes Python call linkat, which alone can follow the link in /proc.
            source = f"/proc/self/fd/{self.descriptor}"
            self.named = True
            os.link(source, self.hidden, src_dir_fd=self.descriptor, follow_symlinks=True)

    def publish(self) -> None:
        """Rename the file to its target."""
        self.take_hidden_name()
        self.hidden.replace(self.target)
        sync_folder(self.target.parent)

    def is_published(self) -> bool:
        """Return whether the target is this file, by asking the system."""
        try:
            return os.path.samestat(self.target.stat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def discard(self) -> None:
        """Close the file, and remove it if it did not become the target."""
        if self.named:
            with contextlib.suppress(OSError):  # it is gone if it was published
                self.hidden.unlink()
            self.named = False
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        """Return itself; leaving the context discards what was not published."""
        return self

    def __exit__(self, *_: object) -> None:
        """Discard what was not published."""
        self.discard()


def _open_without_name(folder: Path) -> int | None:
    """Open a new file that has no name; return None where the system has none."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, _WRITING | os.O_TMPFILE, 0o666)
    except OSError as error:
        if error.errno not in _NO_ANONYMOUS:
            raise
        return None


def _open_locked(path: Path) -> int:
    """Open a new file and lock it before another process can take it for one left over."""
    with folder_lock(path.parent):
        descriptor = os.open(path, _WRITING | os.O_CREAT | os.O_EXCL, 0o666)
        _lock_if_possible(descriptor)
        return descriptor


def _lock_if_possible(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        lock(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the renames in `folder` are on the disk."""
    with contextlib.suppress(OSError):  # some file systems do not offer it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def unwinding_when_terminated() -> Iterator[None]:
    """Let SIGTERM raise an exception, so that context managers clean up before the process ends.

    A handler that the program has set itself stays.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)


def _keep_permissions(status: os.stat_result, descriptor: int) -> None:
    """Give a new file the owner, as far as that is allowed, and the mode of the one it replaces."""
    if not hasattr(os, "fchmod"):
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
