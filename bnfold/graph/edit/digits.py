"""Weights that lose their digits where they are multiplied: by underflow of their type."""

from collections.abc import Callable
from typing import Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.rules.affine import F64
from bnfold.rules.linear import Linear

_OFTEN: Final = 2.0
"""How many times what the unfolded output is rounded by, a folded one may be off."""


def digits_are_lost(
    layout: Linear, exact: F64, stored: NDArray[np.generic], bias: Callable[[], F64]
) -> bool:
    """Tell whether an output channel loses more than half of its digits by how a weight is stored.

    A channel is Σ w x + b. Numbers w below the smallest normal one are off by a fixed distance,
    however small they are. Beside larger ones of the same channel that does not matter. Nor does it
    where as much is rounded anyway: in the channel, because of its bias or because the channel is
    that small, or in what mixes it with the others. Trained networks have dead channels.

    Args:
        layout: How the weight lies.
        exact: The weight, float64.
        stored: The same, rounded.
        bias: Returns the channels' bias, [Cout] in any layout; it is asked only in doubt.
    """
    known = ml_dtypes.finfo(stored.dtype)  # type: ignore[no-untyped-call]
    u, step = float(known.eps) / 2, float(known.smallest_subnormal)
    off = np.abs(stored.astype(np.float64) - exact)
    # What has all its digits is never off by more than u of it.
    if layout.is_diagonal or not (off > u * np.abs(exact)).any():
        return False
    error, size = _by_channel(layout, off), _by_channel(layout, exact)
    lost = error > np.sqrt(u) * size
    if not lost.any():
        return False
    beside = np.abs(bias()).reshape(-1)
    if beside.size not in (1, size.size):
        beside = np.zeros(1)
    beside = beside + np.sqrt(np.mean(size * size))
    return bool((lost & (error > _OFTEN * (u * beside + step / 2))).any())


def _by_channel(layout: Linear, weight: F64) -> F64:
    """Return the Euclidean norm of each output channel's weights, [Cout]."""
    squares = weight * weight
    if layout.stacked and not layout.directions:
        squares = squares.reshape(-1, *weight.shape[-2:]).sum(axis=0)
    sums = layout.weight_gain * layout.response(squares, np.ones(layout.in_channels))
    norms: F64 = np.sqrt(sums)
    return norms
