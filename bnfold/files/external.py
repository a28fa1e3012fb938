"""A model's data files, which are as little to be trusted as the model is.

A location must lead to a regular file inside the model's own folder. Absolute paths and `..` are
refused as they stand. Symbolic links are followed and refused when they end outside. A file with
several names (hard links) is refused unless all of them are in its folder, since one that is
elsewhere may be a file that its owner never meant to show. Devices and pipes are refused unread.

A Hugging Face cache keeps every file in `<repository>/blobs` and lets the files below
`<repository>/snapshots/<revision>` link there. A model that is opened below `snapshots` may
therefore have its data in the `blobs` beside it, and nowhere else.
"""

import os
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path, PureWindowsPath

import onnx

from bnfold.errors import ModelError
from bnfold.files.pieces import Slice
from bnfold.files.references import Reference
from bnfold.files.remote import provide
from bnfold.files.stores import FileStore, open_regular
from bnfold.files.values import byte_count
from bnfold.frozen import slotted
from bnfold.paths import real_path


@slotted
class DataFiles:
    """The data files of a model in `folder`, each opened once and when it is first needed."""

    folder: Path
    _stores: dict[str, FileStore] = field(default_factory=dict)
    _by_identity: dict[tuple[int, int], FileStore] = field(default_factory=dict)
    _recent: deque[FileStore] = field(default_factory=deque)

    def slice_of(self, tensor: onnx.TensorProto, reference: Reference) -> Slice:
        """Return where the numbers of an external tensor are.

        Raises:
            ModelError: The location is not allowed, or the bytes are not there.
        """
        store = self._store(reference.location)
        size = byte_count(tensor)
        length = size if reference.length is None else reference.length
        if length != size:
            raise ModelError(
                f"tensor {tensor.name!r} has {length} bytes in {reference.location!r}, not {size}"
            )
        if reference.offset + length > store.size:
            raise ModelError(
                f"tensor {tensor.name!r} goes beyond the end of {reference.location!r}"
                f" (byte {reference.offset + length} of {store.size})"
            )
        return Slice(store, reference.offset, length)

    def require_sane(self, tensors: Iterable[onnx.TensorProto]) -> None:
        """Check all external tensors of a model: each as above, and that no two overlap.

        Two tensors with exactly the same bytes are shared weights, and legal.

        Raises:
            ModelError: One is not sane; the text names it.
        """
        used: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        for tensor in tensors:
            found = self.slice_of(tensor, Reference.of(tensor))
            end = found.offset + found.length
            if found.length:
                used[id(found.store)].append((found.offset, end, tensor.name))
        for stretches in used.values():
            stretches.sort()
            last = (0, 0, "")
            for stretch in stretches:
                if stretch[0] < last[1] and stretch[:2] != last[:2]:
                    raise ModelError(
                        f"tensors {last[2]!r} and {stretch[2]!r} overlap in their file"
                    )
                last = max(last, stretch, key=lambda s: s[1])

    @property
    def stores(self) -> tuple[FileStore, ...]:
        """The files that are open."""
        return tuple(self._by_identity.values())

    @property
    def by_location(self) -> dict[str, FileStore]:
        """The files that are open, by the location that the model writes."""
        return dict(self._stores)

    def close(self) -> None:
        """Close all files."""
        for store in self._by_identity.values():
            store.close()

    def _store(self, location: str) -> FileStore:
        if location not in self._stores:
            path = self._resolve(location)
            try:
                store = FileStore(path, open_regular(path), self._recent)
            except OSError as error:
                raise ModelError(f"data file {location!r}: {error.strerror}") from error
            _require_one_folder(location, store)
            identity = (store.status.st_dev, store.status.st_ino)
            known = self._by_identity.setdefault(identity, store)
            if known is not store:
                store.close()
            self._stores[location] = known
        return self._stores[location]

    def _resolve(self, location: str) -> Path:
        """Return the real path of `location`, which is then known to be a permitted one."""
        as_windows = PureWindowsPath(location)
        if "\0" in location:
            raise ModelError("a tensor's location contains a NUL character")
        if location.startswith("/") or as_windows.drive or as_windows.root:
            raise ModelError(f"data file {location!r}: an absolute path is not allowed")
        if ".." in as_windows.parts:
            raise ModelError(f"data file {location!r}: '..' is not allowed")
        provide(self.folder, location)
        try:
            path = (self.folder / location).resolve(strict=True)
        except FileNotFoundError as error:
            raise ModelError(f"data file {location!r} is missing") from error
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "its symbolic links go in a circle"
            raise ModelError(f"data file {location!r}: {reason}") from error
        blobs = _cache_blobs(self.folder)
        if path.is_relative_to(real_path(self.folder)) or (blobs and path.parent == blobs):
            return path
        where = "the model's folder and its cache's blobs" if blobs else "the model's folder"
        raise ModelError(
            f"data file {location!r} is a symbolic link out of {where}, to {path};"
            " copy the file in if it is yours"
        )


def _cache_blobs(folder: Path) -> Path | None:
    """Return where the Hugging Face cache that `folder` is a snapshot in keeps its files."""
    as_called = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() follows links
    for parent in (*as_called.parents, *real_path(folder).parents):
        blobs = parent.parent / "blobs"
        if parent.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink():
            return real_path(blobs)
    return None


def _require_one_folder(location: str, store: FileStore) -> None:
    """Raise `ModelError` if the file has names outside its folder."""
    if store.status.st_nlink <= 1:
        return
    with os.scandir(store.path.parent) as entries:
        here = sum(
            entry.inode() == store.status.st_ino and not entry.is_symlink() for entry in entries
        )
    if here < store.status.st_nlink:
        raise ModelError(
            f"data file {location!r} is a hard link to a file outside its folder;"
            " copy the file if it is yours"
        )
