"""What a probe measures: how far two results are apart, as a fraction of what they may be.

See `probe` for the bound.
"""

import math
from collections.abc import Mapping
from dataclasses import field

import numpy as np

from bnfold.frozen import frozen
from bnfold.units import counted, instead_of
from bnfold.verification.dtypes import Array
from bnfold.verification.proof.proportion import Excess
from bnfold.verification.proof.scaling import Factors

AT_A_TIME = 1 << 16
"""Elements of two results that are compared at a time, so that a processor's cache holds them."""


@frozen
class Place:
    """Where a probe measured a difference.

    Attributes:
        index: The element of the output.
        original: What the original has there.
        candidate: What the candidate has there.
        channel: Its channel; None where that is not known.
        nothing: Zeros of the shapes of what entered.
    """

    index: tuple[int, ...]
    original: float
    candidate: float
    channel: int | None = None
    nothing: Mapping[str, Array] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say both numbers, and where they are."""
        where = "" if self.channel is None else f" in channel {self.channel}"
        return f"{instead_of(self.candidate, self.original)}{where}"


@frozen
class Finding:
    """What a probe measured.

    Attributes:
        fraction: The largest |new − old| / bound.
        note: Both values at that element and its channel, in words.
        limit: The largest fraction at which the bound counts as kept.
        comparable: Whether both regions could be computed, so that a difference means something.
        zero: Whether the original's output was zero for every input.
        factors: The factors by which the candidate's output is a multiple of the original's, where
            they were asked for.
        along: Where the bound did not hold: the axes along which the candidate's output may be the
            original's times a factor for each index.
        evident: Whether the output has elements and depends on the inputs.
        only: The shapes for which the bound holds, in words, where it does not hold for others.
        place: Where the difference is largest; None where there is none, or no such place.
        excess: The weight that is off, where only looking at each has shown that; else None.
    """

    fraction: float
    note: str = ""
    limit: float = 1.0
    comparable: bool = True
    zero: bool = False
    factors: Factors | None = None
    along: tuple[int, ...] = ()
    evident: bool = True
    only: str = ""
    place: Place | None = None
    excess: Excess | None = None

    @property
    def held(self) -> bool:
        """Whether the bound held everywhere."""
        return self.fraction <= self.limit

    @property
    def times(self) -> float:
        """How many times what rounding may make of it the difference is."""
        return self.fraction / self.limit


Made = tuple[Array, Array, Array, Array | float]
"""Output of the original, output of the candidate, magnitude, and what underflow adds to that."""


@frozen
class Allowed:
    """By how much the two results may differ: `slack` · magnitude + 4 `u` · underflow.

    Attributes:
        u: Unit roundoff of the coarsest dtype of the original's constants; 0 if none was rounded.
        slack: The factor of the magnitude.
        limit: The largest fraction of the bound that is allowed.
    """

    u: float
    slack: float
    limit: float

    def fraction(self, made: Made, factors: Factors | None = None) -> Finding:
        """Return the largest difference as a fraction of its bound, with where it is."""
        old, new, magnitude, extra = made
        if old.dtype.kind != "f":
            unequal = old != new
            if not unequal.any():
                return Finding(0.0)
            number = int(np.count_nonzero(unequal))
            note = f"{counted(number, 'integer')} {'differs' if number == 1 else 'differ'}"
            return Finding(math.inf, note, place=_place(old, new, int(np.argmax(unequal))))
        if factors is not None:
            # What underflow adds comes from the candidate, which has the factors in it.
            old, magnitude = factors.of(old), factors.bound(magnitude)
        worst, place = 0.0, 0
        for start in range(0, old.size, AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            stretches = (_stretch(array, old.shape, part) for array in (old, new, magnitude, extra))
            fractions = np.atleast_1d(self._fractions(*stretches))
            largest = int(np.argmax(fractions))
            if fractions[largest] > worst:
                worst, place = float(fractions[largest]), start + largest
        return Finding(worst, place=_place(old, new, place)) if worst else Finding(0.0)

    @np.errstate(invalid="ignore", divide="ignore")
    def _fractions(self, old: Array, new: Array, magnitude: Array, extra: Array) -> Array:
        """Return |new − old| / bound, 0 / 0 being 0."""
        bound = self.slack * magnitude + 4.0 * self.u * extra
        fractions = np.abs(new - old) / bound
        if math.isfinite(fractions.sum()):  # so it mostly is
            return np.asarray(fractions)
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        fractions = np.where(same, 0.0, fractions)
        return np.where(np.isnan(fractions), math.inf, fractions)


def _place(old: Array, new: Array, number: int) -> Place:
    """Return an element of two results, given its number."""
    index = tuple(map(int, np.unravel_index(number, old.shape)))
    return Place(index, float(old[index]), float(new[index]))


def _stretch(array: Array | float, shape: tuple[int, ...], part: slice) -> Array:
    """Return the elements `part` of an array that is broadcast to a shape and flattened."""
    if np.ndim(array) == 0:
        return np.asarray(array)
    whole = array if np.shape(array) == shape else np.broadcast_to(array, shape)
    return np.reshape(whole, -1)[part]
