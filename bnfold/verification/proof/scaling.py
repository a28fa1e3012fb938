"""A tensor that is another times a positive factor for each channel.

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
_NEAR = 0.01
"""A part of the largest element, by which arrays differ at most that may be multiples."""


@frozen
class Factors:
    """Positive factors along an axis.

    Attributes:
        axis: 1 or −1.
        values: One for each channel, float64.
    """

    axis: int
    values: Array

    def times(self, array: Array) -> Array:
        """Return an array times its factors.

        Raises:
            EvaluationError: It does not have so many channels.
        """
        if array.ndim <= max(self.axis, 0) or array.shape[self.axis] != self.values.size:
            raise EvaluationError(f"{array.shape} does not have {self.values.size} channels")
        shape = [1] * array.ndim
        shape[self.axis] = -1
        return np.asarray(array * self.values.reshape(shape))


@frozen
class Multiplied:
    """What of a candidate's region is the original's times factors.

    Attributes:
        entering: By which the tensors that enter are multiplied.
        along: The axis along which the output may be multiplied; None where it may not.
    """

    entering: Mapping[str, Factors] = field(default_factory=dict)
    along: int | None = None


NOTHING_MULTIPLIED = Multiplied()


@np.errstate(all="ignore")  # what is not finite is no factor
def factors_between(before: Sequence[Array], after: Sequence[Array], axis: int) -> Factors | None:
    """Return the factors by which arrays differ if they differ by nothing else; None if not so.

    A channel that is zero has the factor 1. Whether the factors are right is not checked.

    Args:
        before: Arrays of one rank.
        after: Others of the same shapes.
        axis: Where their channels are.
    """
    squares: Array | float = 0.0
    products: Array | float = 0.0
    for one, other in zip(before, after, strict=True):
        alike = one.shape == other.shape and one.size and one.ndim > max(axis, 0)
        if not alike or one.dtype.kind != "f":
            return None
        # So scaled that no square leaves the range of float64.
        rows = [
            np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) * 2.0**-200 for a in (one, other)
        ]
        squares = squares + (rows[0] * rows[0]).sum(axis=1)
        products = products + (rows[0] * rows[1]).sum(axis=1)
    values = np.where(np.asarray(squares) > 0, np.asarray(products) / squares, 1.0)
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        return None
    return Factors(axis, values)


@np.errstate(all="ignore")
def plausible_axes(before: Sequence[Array], after: Sequence[Array]) -> tuple[int, ...]:
    """Return the axes along which arrays may be multiples of others, at a glance."""
    found = []
    for axis in _AXES:
        factors = factors_between(before, after, axis)
        if factors is not None and all(
            np.abs(factors.times(one) - other).max() <= _NEAR * np.abs(other).max()
            for one, other in zip(before, after, strict=True)
        ):
            found.append(axis)
    return tuple(found)
