"""A tensor that is another times a positive factor for each channel, and perhaps shifted.

Cross-layer equalization multiplies the channels of a tensor and divides what reads them, through a
Relu where the factors are positive. The tensors between may keep their names. Such a tensor is not
the original's, and not wrong either, as long as all that is computed from it takes the factors back
exactly. What they are nobody says; they show in what a probe computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError

_AXES = (1, -1)
"""Where channels are: behind the batch, or last."""
_SMALL = 2.0**-200
_NEAR = 0.01
"""A part of the largest element, by which arrays differ at most that may be multiples."""


@frozen
class Factors:
    """Positive factors along an axis, and shifts.

    Attributes:
        axis: 1 or −1.
        values: One for each channel, float64.
        shifts: What is added then.
    """

    axis: int
    values: Array
    shifts: Array

    def of(self, array: Array) -> Array:
        """Return an array times its factors, with the shifts added.

        Raises:
            EvaluationError: It does not have so many channels.
        """
        return np.asarray(self.times(array) + self._laid(self.shifts, array.ndim))

    def bound(self, magnitude: Array) -> Array:
        """Return what the magnitude of an array becomes.

        Raises:
            EvaluationError: It does not have so many channels.
        """
        return np.asarray(self.times(magnitude) + np.abs(self._laid(self.shifts, magnitude.ndim)))

    def times(self, array: Array) -> Array:
        """Return an array times its factors alone.

        Raises:
            EvaluationError: It does not have so many channels.
        """
        if array.ndim <= max(self.axis, 0) or array.shape[self.axis] != self.values.size:
            raise EvaluationError(f"{array.shape} does not have {self.values.size} channels")
        return np.asarray(array * self._laid(self.values, array.ndim))

    def _laid(self, values: Array, rank: int) -> Array:
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)


@frozen
class Multiplied:
    """What of a candidate's region is the original's times factors.

    Attributes:
        entering: By which the tensors that enter are multiplied.
        along: The axis along which the output may be multiplied; None where it may not.
        shifted: It may be shifted, too.
    """

    entering: Mapping[str, Factors] = field(default_factory=dict)
    along: int | None = None
    shifted: bool = False


NOTHING_MULTIPLIED = Multiplied()


@np.errstate(all="ignore")  # what is not finite is no factor
def factors_between(
    before: Sequence[Array], after: Sequence[Array], axis: int, *, shifted: bool = False
) -> Factors | None:
    """Return the factors by which arrays differ if they differ by nothing else; None if not so.

    A channel that is zero has the factor 1. Whether the factors are right is not checked.

    Args:
        before: Arrays of one rank.
        after: Others of the same shapes.
        axis: Where their channels are.
        shifted: Something may have been added, too.
    """
    squares: Array | float = 0.0
    products: Array | float = 0.0
    least: list[tuple[Array, Array]] = []
    for one, other in zip(before, after, strict=True):
        alike = one.shape == other.shape and one.size and one.ndim > max(axis, 0)
        if not alike or one.dtype.kind != "f":
            return None
        old, new = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (one, other))
        place = np.argmin(np.abs(old), axis=1)[:, None]
        least.append((np.take_along_axis(old, place, 1), np.take_along_axis(new, place, 1)))
        old, new = old * _SMALL, new * _SMALL  # no square leaves the range of float64
        squares = squares + (old * old).sum(axis=1)
        products = products + (old * new).sum(axis=1)
    values = np.where(np.asarray(squares) > 0, np.asarray(products) / squares, 1.0)
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        return None
    old, new = (np.concatenate(each, axis=1) for each in zip(*least, strict=True))
    place = np.argmin(np.abs(old), axis=1)[:, None]
    near, there = (np.take_along_axis(each, place, 1)[:, 0] for each in (old, new))
    return Factors(axis, values, (there - values * near) * shifted)


@np.errstate(all="ignore")
def plausible_axes(before: Sequence[Array], after: Sequence[Array]) -> tuple[int, ...]:
    """Return the axes along which arrays may be multiples of others, at a glance."""
    found = []
    for axis in _AXES:
        factors = factors_between(before, after, axis, shifted=True)
        if factors is not None and all(
            np.abs(factors.of(one) - other).max() <= _NEAR * np.abs(other).max()
            for one, other in zip(before, after, strict=True)
        ):
            found.append(axis)
    return tuple(found)
