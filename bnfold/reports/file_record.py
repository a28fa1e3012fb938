"""Files of models, as reports describe them: where they are, how large, and with which digest."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfold.files import OpenedModel, open_model
from bnfold.files.pieces import sha256_of
from bnfold.files.remote import called, url_of
from bnfold.files.stores import FileStore, open_regular
from bnfold.frozen import sealed
from bnfold.plain import Plain


@sealed
class DataFile(Plain):
    """A file in which a model has numbers.

    Attributes:
        location: Its name, as the model writes it: relative to the model's folder.
        size: Its size in bytes.
    """

    location: str
    size: int


@sealed
class FileRecord(Plain):
    """A model file.

    Attributes:
        path: Where it is, or is to be; of a source that is no file, what it is.
        sha256: The digest of its bytes; None where it was not asked for or nothing was written.
        size: Its size in bytes; None where nothing was written.
        data_files: The files beside it in which it has numbers.
    """

    path: str
    sha256: str | None = None
    size: int | None = None
    data_files: tuple[DataFile, ...] = ()

    @property
    def whole_size(self) -> int | None:
        """Its size with its data files, in bytes; None where nothing was written."""
        return None if self.size is None else self.size + sum(f.size for f in self.data_files)

    @classmethod
    def of(cls, path: Path, *, digest: bool) -> "FileRecord":
        """Return the record of a file that exists; of one in a store, what it is called."""
        if url_of(path):
            return cls(called(path))
        with open_model(path) as opened:
            return cls.of_opened(opened, path, digest=digest)

    @classmethod
    def of_whole(cls, path: Path, *, digest: bool) -> "FileRecord":
        """Return the record of a file that is known to hold all numbers of its model."""
        with closing(FileStore(path, open_regular(path))) as store:
            return cls(str(path), sha256_of(store) if digest else None, store.size)

    @classmethod
    def of_opened(cls, opened: "OpenedModel", path: Path, *, digest: bool) -> "FileRecord":
        """Return the record of a model's file as it was opened; it may be replaced by now."""
        if opened.file is None:
            return cls.of(path, digest=digest)
        data = {} if opened.data is None else opened.data.by_location
        beside = tuple(DataFile(location, store.size) for location, store in sorted(data.items()))
        sha = sha256_of(opened.file) if digest else None
        return cls(str(path), sha, opened.file.size, beside)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FileRecord":
        """Return the record of which these are the fields, as `to_dict` gives them."""
        data_files = tuple(DataFile(**file) for file in data.get("data_files", ()))
        return cls(data["path"], data["sha256"], data["size"], data_files)

    def calling(self, files: Mapping[str, str]) -> "FileRecord":
        """Return the record of a file that is called otherwise, if it is one of these."""
        return replace(self, path=files.get(self.path, self.path))
