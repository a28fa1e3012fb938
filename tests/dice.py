"""Choices for generated models: reproducible from a seed, whatever the process or the platform."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T")


class Dice:
    """A source of choices; equal seeds make equal choices."""

    def __init__(self, *seed: str | int) -> None:
        numbers = [zlib.crc32(s.encode()) if isinstance(s, str) else s for s in seed]
        self._generator = np.random.default_rng(numbers)

    def integer(self, low: int, high: int) -> int:
        """Both ends are possible."""
        return int(self._generator.integers(low, high, endpoint=True))

    def chance(self, probability: float) -> bool:
        return bool(self._generator.random() < probability)

    def choose(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def some(self, options: Sequence[T], least: int = 0) -> list[T]:
        """Choose some of the options, in their order."""
        count = self.integer(min(least, len(options)), len(options))
        taken = sorted(self._generator.permutation(len(options))[:count].tolist())
        return [options[i] for i in taken]

    def shuffled(self, count: int) -> list[int]:
        return [int(i) for i in self._generator.permutation(count)]

    def parts(self, total: int) -> list[int]:
        """Cut a number into positive parts."""
        parts = []
        while total:
            parts.append(self.integer(1, total))
            total -= parts[-1]
        return parts

    def numbers(
        self, shape: Sequence[int], low: float = -1.0, high: float = 1.0
    ) -> NDArray[np.float64]:
        return self._generator.uniform(low, high, tuple(shape))

    def factors(self, shape: Sequence[int], *, positive: bool = False) -> NDArray[np.float64]:
        """Numbers that are safe to multiply and to divide by: 0.5 to 2, of either sign."""
        sizes = 2.0 ** self.numbers(shape)
        return sizes if positive else sizes * self._generator.choice([-1.0, 1.0], tuple(shape))

    def divisor(self, number: int) -> int:
        return self.choose([d for d in range(1, number + 1) if number % d == 0])
