"""What a weight loses as int8: its signal-to-quantization-noise ratio, SQNR, in dB.

Symmetric int8, as quantizers store weights: a step of max |w| / 127, and every number rounded to
the nearest multiple of it,

    ŵ = Δ round(w / Δ),      Δ = max |w| / 127,      SQNR = 10 log₁₀ (Σ w² / Σ (w − ŵ)²)

with one Δ for the whole weight, *per tensor*, or one for each index along the axis of its output
channels, *per channel*. A fold multiplies channels by different factors: one that multiplies
output channels changes nothing per channel, but may spread or draw together their ranges, and
with them what is lost per tensor; one that multiplies input channels changes both.
"""

from collections.abc import Iterator
from math import inf, log10, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.rules.affine import F64

STEPS = 127
"""Steps from 0 to the largest number; −128 is left out, so that the range is symmetric."""

_ELEMENTS = 1 << 15
"""Elements that are worked on at once, so that a processor's cache holds them."""

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


def int8(weight: NDArray[np.generic], axis: int) -> Int8:
    """Return what a weight loses as int8.

    Args:
        weight: Finite floating-point numbers of any shape and dtype; float64 is worked on in
            float64, every other type in float32.
        axis: The axis of its output channels.
    """
    before, channels, behind = (
        prod(weight.shape[:axis]),
        weight.shape[axis],
        prod(weight.shape[axis + 1 :]),
    )
    laid = weight.reshape(before, channels, behind)
    ranges, signal = np.zeros(channels), 0.0
    for _, part, values in _parts(laid):
        largest = np.maximum(values.max(axis=2), -values.min(axis=2)).max(axis=0)
        np.maximum(ranges[part], largest, out=ranges[part])
        signal += _energy(values)
    top = float(ranges.max(initial=0))
    steps = np.where(ranges > 0, ranges, 1)
    whole = each = 0.0
    for _, part, values in _parts(laid):
        whole += _energy(_rounding(values, values.dtype.type(top or 1)))
        own: Floats = steps[part].astype(values.dtype)[None, :, None]
        each += _energy(_rounding(values, own) * own)
    noise = whole * (top / STEPS) ** 2, each / STEPS**2
    return Int8(_decibels(signal, noise[0]), _decibels(signal, noise[1]), ranges)


def _parts(laid: NDArray[np.generic]) -> Iterator[tuple[slice, slice, Floats]]:
    """Yield pieces of [before, channels, behind], and which of the first two axes they are."""
    before, channels, behind = laid.shape
    dtype = np.float64 if laid.dtype == np.float64 else np.float32
    along_channels = before == 1
    size, length = (behind, channels) if along_channels else (channels * behind, before)
    step = max(_ELEMENTS // max(size, 1), 1)
    for start in range(0, length, step):
        piece, every = slice(start, start + step), slice(None)
        index = (every, piece) if along_channels else (piece, every)
        yield *index, laid[index].astype(dtype, copy=False)


def _rounding(values: Floats, largest: np.floating[Any] | Floats) -> Floats:
    """Return what rounding to steps of largest / 127 takes away, in steps.

    The division comes first, so that the largest number itself is 127 steps exactly.
    """
    exact = values / largest
    exact *= STEPS
    exact -= np.rint(exact)
    return exact


def _energy(values: Floats) -> float:
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))


def _decibels(signal: float, noise: float) -> float:
    return 10 * log10(signal / noise) if signal and noise else inf
