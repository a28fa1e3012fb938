"""Checksums of files."""

from contextlib import closing
from pathlib import Path

from bnfold.files.pieces import Slice
from bnfold.files.stores import FileStore, open_regular


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; other threads run meanwhile.

    Raises:
        OSError: The file cannot be read.
    """
    with closing(FileStore(path, open_regular(path))) as store:
        return sha256_of(store)


def sha256_of(store: FileStore) -> str:
    """Return the SHA-256 of an open file, even if another has taken its name since.

    Raises:
        ModelError: The file changed while it was being read.
    """
    import hashlib

    digest = hashlib.sha256()
    for block in Slice(store, 0, store.size).blocks():
        digest.update(block)
    return digest.hexdigest()
