"""The pieces of a file that is written: bytes, slices of other files, what recipes make."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from bnfold.files.recipe import Recipe
from bnfold.files.stores import FileStore, Store, open_regular
from bnfold.frozen import frozen

BLOCK: Final = 1 << 20
"""Bytes that are in memory at once: small enough for a processor's cache."""


@frozen
class Slice:
    """A range of bytes of a store."""

    store: Store
    offset: int
    length: int

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.length

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes in bounded pieces; each is good until the next one is asked for."""
        store = self.store.pinned()
        room = np.empty(min(BLOCK, self.length), np.uint8).data
        for done in range(0, self.length, BLOCK):
            block = room[: self.length - done]
            store.read_into(self.offset + done, block)
            yield block

    def same(self, other: "Slice") -> bool:
        """Whether the bytes are those of another stretch."""
        pairs = zip(self.blocks(), other.blocks(), strict=True)
        return self.length == other.length and all(one == two for one, two in pairs)


@frozen
class Made:
    """The bytes that a recipe will make; their number is known already."""

    recipe: Recipe
    length: int

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.length

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes in bounded pieces; each is good until the next one is asked for."""
        yield from self.recipe.blocks()


Piece = bytes | Slice | Made


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
