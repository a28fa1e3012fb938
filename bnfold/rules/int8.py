"""What a weight loses as int8: its signal-to-quantization-noise ratio, SQNR, in dB.

Symmetric int8, as quantizers store weights: a step of max |w| / 127, and every number rounded to
the nearest multiple of it,

    ŵ = Δ round(w / Δ),      Δ = max |w| / 127,      SQNR = 10 log₁₀ (Σ w² / Σ (w − ŵ)²)

with one Δ for the whole weight, *per tensor*, or one for each index along the axis of its output
channels, *per channel*. A fold multiplies channels by different factors: one that multiplies
output channels changes nothing per channel, but may spread or draw together their ranges, and
with them what is lost per tensor; one that multiplies input channels changes both.

The ranges max |w| and the signal Σ w² are those of all numbers. What rounding takes away is
computed of evenly spread numbers where a weight has more than 2¹⁴, which tells the ratio within
about 0.1 dB.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import inf, isinf, log10, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.rules.affine import F64

STEPS: Final = 127
"""Steps from 0 to the largest number; −128 is left out, so that the range is symmetric."""

NOTABLE: Final = 3.0
"""So much of a ratio, in dB, is half a bit; less is not worth a word."""

_SAMPLE: Final = 1 << 14
"""So many numbers are rounded."""

_GOLDEN: Final = 0.6180339887498949

_SMALL: Final = 1e-12
_LARGE: Final = 1e12
"""Between these, squares and their sums are numbers that float32 has."""

_ELEMENTS: Final = 1 << 15
"""Elements that are looked at at once, so that a processor's cache holds them."""

Floats = NDArray[np.floating[Any]]


@frozen(eq=False)
class Int8:
    """A weight as int8.

    Attributes:
        per_tensor: The SQNR with one step for the whole weight, in dB; infinite where every number
            is kept exactly.
        per_channel: The SQNR with a step for each output channel, likewise.
        ranges: max |w| of each output channel, float64.
    """

    per_tensor: float
    per_channel: float
    ranges: F64


@frozen(eq=False)
class Spread:
    """How the numbers of a weight lie: all that decides what it loses as int8.

    Attributes:
        ranges: max |w| of each output channel, float64.
        signals: Σ w² of each output channel, float64.
        numbers: Evenly spread numbers of the weight, float64.
        channels: The output channel of each.
        share: How many numbers of the weight each stands for.
        importance: How much Σ w² of each output channel counts, float64.
    """

    ranges: F64
    signals: F64
    numbers: F64
    channels: NDArray[np.intp]
    share: float
    importance: F64

    @classmethod
    @np.errstate(all="ignore")
    def of(cls, weight: NDArray[np.generic], axis: int) -> "Spread":
        """Look at a weight, floating-point numbers with their output channels along `axis`.

        Of one that holds NaN or infinity the ratio is NaN.
        """
        before, channels = prod(weight.shape[:axis]), weight.shape[axis]
        behind = prod(weight.shape[axis + 1 :])
        ranges, signals = np.zeros(channels), np.zeros(channels)
        for part, values in _parts(weight.reshape(before, channels, behind)):
            largest = _largest(values)
            np.maximum(ranges[part], largest, out=ranges[part])
            signals[part] += _energies(_squarable(values, largest))
        at = _evenly_spread(weight.size)
        numbers = weight.reshape(-1)[at].astype(np.float64)
        of = at // behind % channels
        share = weight.size / max(at.size, 1)
        return cls(ranges, signals, numbers, of, share, np.ones(channels))

    @np.errstate(all="ignore")
    def times(self, factor: F64, axis: int) -> "Spread | None":
        """Return how the numbers lie when the weight is multiplied by a factor of its rank.

        None where the factor varies within an output channel: then the numbers must be looked at.
        """
        if factor.size != factor.shape[axis]:
            return None
        factor = np.broadcast_to(factor.reshape(-1), self.ranges.shape)
        return replace(
            self,
            ranges=self.ranges * np.abs(factor),
            signals=self.signals * np.square(factor),
            numbers=self.numbers * factor[self.channels],
        )

    @np.errstate(all="ignore")
    def counting(self, variances: F64) -> "Spread":
        """Return the same weight, of which each output channel counts as it does in the output.

        Rounding adds to the output of a channel what it takes from the channel's Σ w², in
        proportion. A channel whose output is as large as others' although its weight is small, as
        behind a normalization, so loses more than Σ w² of all channels together shows. `variances`
        are those of the output of each channel, [Cout].
        """
        counted = np.where(self.signals > 0, variances / self.signals, 0)
        return replace(self, importance=counted)

    @np.errstate(all="ignore")
    def int8(self) -> Int8:
        """Return what is lost as int8."""
        signal, top = float((self.signals * self.importance).sum()), self.ranges.max(initial=0)
        counts = self.importance[self.channels]
        whole = _rounding(self.numbers, np.full_like(self.numbers, top))
        each = _rounding(self.numbers, self.ranges[self.channels])
        ratios = [
            _decibels(signal, self.share * float((np.square(errors) * counts).sum()))
            for errors in (whole, each)
        ]
        return Int8(ratios[0], ratios[1], self.ranges)


def change(before: float, after: float) -> str:
    """Return two ratios for people, in dB."""
    both = ("exact" if isinf(ratio) else f"{ratio:.1f}" for ratio in (before, after))
    return f"{' → '.join(both)} dB"


def int8(weight: NDArray[np.generic], axis: int) -> Int8:
    """Return what a weight of finite numbers, its output channels along an axis, loses as int8."""
    return Spread.of(weight, axis).int8()


def _parts(laid: NDArray[np.generic]) -> Iterator[tuple[slice, Floats]]:
    """Yield pieces of [before, channels, behind], and which of the channels they are of."""
    before, channels, behind = laid.shape
    dtype = np.float64 if laid.dtype == np.float64 else np.float32
    along_channels = before == 1
    size, length = (behind, channels) if along_channels else (channels * behind, before)
    step = max(_ELEMENTS // max(size, 1), 1)
    for start in range(0, length, step):
        piece, every = slice(start, start + step), slice(None)
        values = laid[:, piece] if along_channels else laid[piece]
        yield piece if along_channels else every, values.astype(dtype, copy=False)


def _largest(values: Floats) -> Floats:
    """Return max |w| of each channel of [before, channels, behind]."""
    along = values[0] if len(values) == 1 else values
    if along is values:  # row by row, which is the fast way through memory
        along = np.maximum(values.max(axis=0), -values.min(axis=0))
    largest: Floats = np.maximum(along.max(axis=1), -along.min(axis=1))
    return largest


def _squarable(values: Floats, largest: Floats) -> Floats:
    """Return numbers of whose squares, in their type, none is too large and not all vanish."""
    fits = (largest == 0) | (largest > _SMALL) & (largest < _LARGE)
    return values if fits.all() else values.astype(np.float64)


def _energies(values: Floats) -> F64:
    """Return Σ w² of each channel of [before, channels, behind]."""
    if len(values) == 1:
        energies: F64 = np.einsum("cb,cb->c", values[0], values[0]).astype(np.float64)
    else:
        energies = np.einsum("acb,acb->cb", values, values).sum(axis=1, dtype=np.float64)
    return energies


def _evenly_spread(size: int) -> NDArray[np.intp]:
    """Return where to look: everywhere, or once within each of equal stretches.

    Where in a stretch follows the golden section, so that no period of the weight is met.
    """
    if size <= _SAMPLE:
        return np.arange(size)
    at = (_places() * size).astype(np.intp)
    return np.minimum(at, size - 1)


@cache
def _places() -> F64:
    """Return the places to look at as fractions of the whole."""
    stretches = np.arange(_SAMPLE)
    places: F64 = (stretches + stretches * _GOLDEN % 1) / _SAMPLE
    return places


def _rounding(values: F64, largest: F64) -> F64:
    """Return what rounding to steps of largest / 127 takes away.

    The division comes first, so that the largest number itself is 127 steps exactly.
    """
    exact = values / np.where(largest > 0, largest, 1)
    exact *= STEPS
    exact -= np.rint(exact)
    exact *= largest / STEPS
    return exact


def _decibels(signal: float, noise: float) -> float:
    return 10 * log10(signal / noise) if signal and noise else inf
