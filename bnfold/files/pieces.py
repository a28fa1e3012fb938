"""The pieces of a file that is written: bytes, slices of other files, what recipes make."""

import itertools
import os
from collections.abc import Iterator
from typing import Final

import numpy as np

from bnfold.files.recipe import Recipe
from bnfold.files.stores import FileStore, Store
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
        """Whether the bytes are those of another stretch; the same ones are not looked at."""
        if self.length != other.length:
            return False
        if self.offset == other.offset and _is_one_file(self.store, other.store):
            return True
        return all(
            one == two
            for begin, end in _united(self.written(), other.written())
            for one, two in zip(
                self.part(begin, end).blocks(), other.part(begin, end).blocks(), strict=True
            )
        )

    def part(self, begin: int, end: int) -> "Slice":
        """Return some of the stretch."""
        return Slice(self.store, self.offset + begin, end - begin)

    def written(self) -> list[tuple[int, int]]:
        """Return where in it something is written; all else is zero."""
        found = self.store.written(self.offset, self.length)
        return [(begin - self.offset, end - self.offset) for begin, end in found]


def _is_one_file(one: Store, two: Store) -> bool:
    if isinstance(one, FileStore) and isinstance(two, FileStore):
        return os.path.samestat(one.status, two.status)
    return one is two


def _united(*lists: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the stretches that are in any of some lists, those that meet as one."""
    begin = end = 0
    for first, last in sorted(itertools.chain(*lists)):
        if first > end:
            if begin < end:
                yield begin, end
            begin = first
        end = max(end, last)
    if begin < end:
        yield begin, end


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


def sha256_of(store: FileStore) -> str:
    """Return the SHA-256 of an open file as hexadecimal digits.

    It is that of the file that was opened, even if another has taken its name since, and other
    threads run meanwhile.

    Raises:
        ModelError: The file changed while it was being read.
    """
    import hashlib

    digest = hashlib.sha256()
    for block in Slice(store, 0, store.size).blocks():
        digest.update(block)
    return digest.hexdigest()
