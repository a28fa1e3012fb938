"""A tensor that is another times a factor for each channel, and perhaps shifted.

Cross-layer equalization multiplies the channels of a tensor and divides what reads them, through a
Relu where the factors are positive. The tensors between may keep their names. Such a tensor is not
the original's, and not wrong either, as long as all that is computed from it takes the factors back
exactly. No file states the factors: they are found by comparing what a probe computes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError

_STEPS = 8
"""What share of its magnitude is left of a number is rounded to eighths: among elements of which
a like share is left, the largest gives the factor."""
_NEAR = 0.01
"""Multiples of each other differ by no more than this part of the largest element."""


@frozen
class Factors:
    """Factors along an axis, and shifts.

    Attributes:
        axis: Where the channels are.
        values: One for each channel, float64.
        shifts: What is added to each channel after that, float64.
    """

    axis: int
    values: Array
    shifts: Array

    def of(self, array: Array) -> Array:
        """Return an array times its factors, with the shifts added.

        Raises:
            EvaluationError: It has another number of channels.
        """
        return self._times(array, self.values) + self._laid(self.shifts, array.ndim)

    def bound(self, magnitude: Array) -> Array:
        """Return what the magnitude of an array becomes.

        Raises:
            EvaluationError: It has another number of channels.
        """
        return self.error(magnitude) + np.abs(self._laid(self.shifts, magnitude.ndim))

    def error(self, size: Array) -> Array:
        """Return what an error of such a size becomes.

        Raises:
            EvaluationError: It has another number of channels.
        """
        return self._times(size, np.abs(self.values))

    def _times(self, array: Array, values: Array) -> Array:
        if array.ndim <= max(self.axis, 0) or array.shape[self.axis] != values.size:
            raise EvaluationError(f"{array.shape} does not have {values.size} channels")
        return np.asarray(array * self._laid(values, array.ndim))

    def _laid(self, values: Array, rank: int) -> Array:
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)


@frozen
class Multiplied:
    """Which tensors at the border of a candidate's region are the original's times factors.

    Attributes:
        entering: The factors of tensors that enter, by name.
        along: The axis along which the output may be multiplied; None where it may not be.
        shifted: Whether the output may be shifted, too.
    """

    entering: Mapping[str, Factors] = field(default_factory=dict)
    along: int | None = None
    shifted: bool = False


NOTHING_MULTIPLIED = Multiplied()


@frozen
class Sample:
    """What a region makes of one input.

    Attributes:
        old: The original's output, float64.
        new: The candidate's.
        size: The magnitude of `old`.
        underflow: What the candidate's magnitude grows by where its constants have lost digits
            below the smallest normal number.
    """

    old: Array
    new: Array
    size: Array
    underflow: Array | float = 0.0

    def by_channel(self, axis: int) -> "Sample | None":
        """Return it as (channels, elements); None where one cannot be a multiple of the other."""
        old = self.old
        alike = old.shape == self.new.shape == self.size.shape
        floats = old.dtype.kind == self.new.dtype.kind == "f"
        if not (alike and floats) or not old.size or old.ndim <= max(axis, 0):
            return None
        underflow = np.broadcast_to(self.underflow, old.shape)
        moved = (np.moveaxis(a, axis, 0) for a in (old, self.new, self.size, underflow))
        return Sample(*(a.reshape(old.shape[axis], -1) for a in moved))

    def digits(self, made: Array) -> Array:
        """Return which share of its digits underflow leaves of each number of the candidate."""
        sizes = np.abs(made)
        return np.asarray(np.where(self.underflow > 0, sizes / (sizes + self.underflow), 1.0))


@np.errstate(all="ignore")  # what is not finite is no factor
def factors_between(
    samples: Sequence[Sample], axis: int, *, shifted: bool = False
) -> Factors | None:
    """Return the factors by which outputs differ if they differ by nothing else; None if not so.

    Their channels are along `axis`; if they are `shifted`, something may have been added, too. A
    channel that does not vary has the factor 1. Whether the factors are right is not checked.
    """
    laid = [sample.by_channel(axis) for sample in samples]
    known = [sample for sample in laid if sample is not None]
    if not known or len(known) < len(laid) or len({len(sample.old) for sample in known}) > 1:
        return None
    near = there = np.zeros((len(known[0].old), 1))
    if shifted:  # where nothing enters, nothing but the shift is seen
        near, there = _element(known, lambda sample: -sample.size)
    far, beyond = _element(known, lambda sample: _score(sample, near, there))
    values = np.where(far != near, (beyond - there) / (far - near), 1.0)[:, 0]
    shifts = there[:, 0] - values * near[:, 0]
    finite = np.isfinite(values) & np.isfinite(shifts)
    # Nothing is everything's multiple.
    return Factors(axis, values, shifts) if finite.all() and values.any() else None


def _score(sample: Sample, near: Array, there: Array) -> Array:
    """Return how well each number of a channel shows the channel's factor.

    Where terms have cancelled one another, their roundings are large beside what is left of them.
    So the share of the magnitude that is left counts first, in `_STEPS`, and then the size; and all
    as much as underflow leaves of the digits.

    Args:
        sample: The numbers.
        near: What the original makes of nothing.
        there: What the candidate makes of it.
    """
    values = np.abs(sample.old - near)
    score = np.round(_STEPS * values / sample.size) + values / (1 + values)
    return np.asarray(np.where(values > 0, score * sample.digits(sample.new - there), -1.0))


def _element(samples: Sequence[Sample], score: Callable[[Sample], Array]) -> tuple[Array, Array]:
    """Return the element of each channel that scores best, in the original and the candidate."""
    best: list[tuple[Array, ...]] = []
    for sample in samples:
        scores = score(sample)
        place = np.argmax(scores, axis=1)[:, None]
        arrays = sample.old, sample.new, scores
        best.append(tuple(np.take_along_axis(array, place, 1) for array in arrays))
    old, new, scores = (np.concatenate(each, axis=1) for each in zip(*best, strict=True))
    place = np.argmax(scores, axis=1)[:, None]
    return np.take_along_axis(old, place, 1), np.take_along_axis(new, place, 1)


@np.errstate(all="ignore")
def plausible_axes(sample: Sample) -> tuple[int, ...]:
    """Return the axes along which outputs may be multiples of others, at a glance.

    Where the channels may be behind the batch or last, either is tried.
    """
    found = []
    for axis in dict.fromkeys((1, -1, *range(2, sample.old.ndim - 1), 0)):
        factors = factors_between([sample], axis, shifted=True)
        if factors is None:
            continue
        off = np.abs(factors.of(sample.old) - sample.new)
        if off.max() <= _NEAR * np.abs(sample.new).max():
            found.append(axis)
    return tuple(found)
