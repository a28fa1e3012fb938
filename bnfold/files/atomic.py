"""Files that appear whole or not at all.

A file is written without a name (`O_TMPFILE`) where the system can, so that a process killed at
any moment leaves nothing; elsewhere under a hidden name. It gets its place by `rename`, after its
bytes are on the disk. A file that does have a hidden name is locked by the process that writes
it, so the next run can tell the leftovers of a killed one, and removes them.
"""

import contextlib
import errno
import os
import shutil
import signal
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Self

from bnfold.errors import RequestError
from bnfold.files.leftovers import PARTIAL, hidden_name, lock, remove_abandoned

_NO_ANONYMOUS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system refuses while writing `path` into a `RequestError`."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}") from error


def real_target(target: Path) -> Path:
    """Return the file that writing to `target` shall replace: a symbolic link is followed.

    Raises:
        RequestError: It cannot be written, or is no regular file.
    """
    with explained(target):
        if target.exists() and not target.is_file() and not target.is_dir():
            raise RequestError(f"{target}: this is not a regular file")
        try:
            real = target.resolve() if target.is_symlink() else target
        except RuntimeError as error:  # Python 3.11 and 3.12 say so of links in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
    if not real.parent.is_dir():
        raise RequestError(f"{target}: the folder {real.parent} does not exist")
    if not real.exists():
        return real
    if real.is_dir():
        raise RequestError(f"{target}: this is a folder")
    if not os.access(real, os.W_OK):
        raise RequestError(f"{target}: the file is write-protected")
    return real


@dataclass(slots=True, eq=False)
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
    def create(cls, target: Path, *, like: Path | None = None, hidden: Path | None = None) -> Self:
        """Begin a file; what killed runs left of the same target is removed.

        Args:
            target: What it will be.
            like: A file whose owner and permissions it gets if that exists; by default the target.
            hidden: The name that it has before, if it needs one.
        """
        remove_abandoned(target, PARTIAL)
        flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        hidden = hidden or hidden_name(target, PARTIAL)
        staged = None
        if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
            try:
                descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o666)
                staged = cls(target, descriptor, hidden, named=False)
            except OSError as error:
                if error.errno not in _NO_ANONYMOUS:
                    raise
        if staged is None:
            descriptor = os.open(hidden, flags | os.O_CREAT | os.O_EXCL, 0o666)
            staged = cls(target, descriptor, hidden, named=True)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                lock(descriptor)
            with contextlib.suppress(FileNotFoundError):
                _keep_permissions((like or target).stat(), descriptor)
        except BaseException:
            staged.discard()
            raise
        return staged

    def settle(self) -> None:
        """Bring what is written to the disk."""
        os.fsync(self.descriptor)

    def show(self) -> None:
        """Take the hidden name, if it does not have it already."""
        if not self.named:
            # src_dir_fd makes Python call linkat, which alone can follow the link in /proc.
            source = f"/proc/self/fd/{self.descriptor}"
            self.named = True
            os.link(source, self.hidden, src_dir_fd=self.descriptor, follow_symlinks=True)

    def publish(self) -> None:
        """Take the target's place."""
        self.show()
        self.hidden.replace(self.target)
        sync_folder(self.target.parent)

    def leave(self) -> None:
        """Do not remove the file that has the hidden name, whatever happens."""
        self.named = False

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


def publish_in_order(files: Sequence[Staged]) -> None:
    """Publish files of which all but the last are new; if one fails, none of them is there."""
    published: list[Path] = []
    try:
        for staged in files[:-1]:
            published.append(staged.target)
            staged.publish()
        files[-1].publish()
    except BaseException:
        if not files[-1].is_published():  # it may be, if a signal came just after
            for path in published:
                path.unlink(missing_ok=True)
        raise


def replace_by_second_name(source: Path, target: Path) -> None:
    """Let `target` be another name of `source`, or a copy where files have only one name."""
    hidden = hidden_name(target, PARTIAL)
    try:
        try:
            hidden.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, hidden)
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` last."""
    with contextlib.suppress(OSError):  # some file systems do not offer it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def unwinding_when_terminated() -> Iterator[None]:
    """Let SIGTERM end the process by an exception, so that what must be undone is undone.

    Only while the context lasts, and only where nobody has decided otherwise.
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
