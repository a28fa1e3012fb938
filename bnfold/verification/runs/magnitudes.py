"""Elements of like magnitude: the allowance for a few huge ones must not cover all others.

A mask writes −10⁸, −10⁴ or −3·10³⁸ where a move is illegal or a token is none. One rounding of such
a number is larger than everything else in the output. So elements are judged by groups of like
magnitude wherever nothing lies between them, and a group that is one huge number over and over is
no evidence of anything.
"""

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array, wide, wide_stretches

_APART = 8
"""Powers of two between groups in which there is no element."""
_HUGE = 100.0
"""Smaller numbers are no masks. (Probabilities are of all magnitudes, and each is as exact as the
largest, or as itself, whoever knows.)"""
_ALIKE = 1.125
"""The largest element of a mask is at most so many times the smallest: a small number was added."""
_SEVERAL = 8
"""Where so many elements, and one in `_SHARE` of all, lie below others, these are two groups."""
_SHARE = 16


@frozen
class Group:
    """Elements of like magnitude.

    Attributes:
        where: Which ones, of the shape of the output.
        mask: Whether they are one huge number over and over.
    """

    where: NDArray[np.bool_]
    mask: bool


def groups(values: Array) -> list[Group]:
    """Return the elements of a floating-point or complex output by magnitude, the smallest first.

    What is not finite, and zeros, are with the smallest. There is one group where all magnitudes
    between the smallest and the largest occur.
    """
    whole = [Group(np.ones(values.shape, np.bool_), mask=False)]
    if _largest(values) < _HUGE:
        return whole
    sizes = np.abs(wide(values))
    counted = np.isfinite(sizes) & (sizes > 0)
    powers = np.frexp(np.where(counted, sizes, 0.0))[1]
    occupied = np.unique(powers[counted])
    steps = np.flatnonzero(np.diff(occupied) > _APART)
    found: list[Group] = []
    left = counted.copy()
    for step in reversed(steps):
        above = left & (powers > occupied[step])
        low, high = float(sizes[above].min()), float(sizes[above].max())
        below = int(np.count_nonzero(counted & (powers <= occupied[step])))
        mask = low >= _HUGE and high <= _ALIKE * low
        if mask or (high >= _HUGE and below >= max(_SEVERAL, sizes.size / _SHARE)):
            found.append(Group(np.asarray(above), mask=mask))
            left &= ~above
    if not found:
        return whole
    covered = np.logical_or.reduce([group.where for group in found])
    return [Group(np.asarray(~covered), mask=False), *reversed(found)]


def _largest(values: Array) -> float:
    """Return the largest finite magnitude."""
    sizes = (np.abs(some) for (some,) in wide_stretches(values))
    return max((float(np.max(some[np.isfinite(some)], initial=0.0)) for some in sizes), default=0.0)
