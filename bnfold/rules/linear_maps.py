"""Linear maps of a tensor, as terms of a sum, and what several of one tensor add up to.

A linear map of x is (K, g, stride, begin, end, b):

    y[o, p] = b[o] + Σ K[o, i, q] x₀[i, p · stride + q − begin]

with x₀ being x and zeros around it, `begin` and `end` the zeros that are read before and behind
(negative where x is cropped), and a dilated kernel one with zeros between its taps. So a
convolution is one; so are a bare x, a channel affine of it, an average of neighbours, and a crop.

**Two maps of the same tensor add up to one** iff their strides agree and, on each axis,
begin + end − k agrees, k being the extent of the kernel: then both make as many elements of x,
however many it has. The sum has

    begin' = max begin,   k' = begin' + max(k − begin),   g' = gcd of the groups,

each kernel stands at begin' − begin, and one of more groups is written into the blocks of fewer.
Where a stride skips what lies behind, sizes may agree although begin + end − k does not; that
counts only where the size of x is known.

A transposed convolution adds into y[p · stride + q − begin] instead, so that `begin` and `end` are
what is cropped of the result; the same formulas hold. A matrix product is a convolution without
spatial axes.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64
from bnfold.rules.linear import Linear


@frozen
class Window:
    """Which elements along each spatial axis an element of the result is made of.

    Attributes:
        taps: The elements that are read.
        strides: From one element of the result to the next.
        dilations: From one tap to the next.
        begin: The zeros that are read before x; negative where x is cropped.
        end: The zeros that are read behind it, likewise.
        transposed: Whether elements of x are added into the result instead.
    """

    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    transposed: bool = False

    @classmethod
    def point(cls, begin: tuple[int, ...], end: tuple[int, ...]) -> "Window":
        """Return the window of one element in its own place, but for what is cropped or padded."""
        ones = (1,) * len(begin)
        return cls(ones, ones, ones, begin, end)

    @property
    def extent(self) -> tuple[int, ...]:
        """The elements from the first tap to the last."""
        pairs = zip(self.taps, self.dilations, strict=True)
        return tuple((taps - 1) * step + 1 for taps, step in pairs)

    @property
    def excess(self) -> tuple[int, ...]:
        """begin + end − k: by how much there are more places for the kernel than elements."""
        sides = zip(self.begin, self.end, self.extent, strict=True)
        return tuple(begin + end - extent for begin, end, extent in sides)

    @property
    def is_point(self) -> bool:
        """Whether every element of x is read by itself."""
        return all(n == 1 for n in (*self.taps, *self.strides))

    @property
    def is_plain(self) -> bool:
        """Whether it is a point, and nothing is cropped or padded."""
        return self.is_point and not any((*self.begin, *self.end))

    def sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return how many elements the result has along each axis."""
        axes = zip(sizes, self.strides, self.excess, strict=True)
        if self.transposed:
            return tuple((n - 1) * stride - excess for n, stride, excess in axes)
        return tuple((n + excess) // stride + 1 for n, stride, excess in axes)


@frozen(eq=False)
class Term:
    """A linear map as a term of a sum: its window, its channels, and where its numbers are.

    Attributes:
        data: Index of the input that is x.
        window: What is read along the spatial axes; of a matrix product, nothing.
        groups: g; 0 where every channel is mapped to itself and their number is x's.
        out_channels: Cout, or 0 likewise.
        in_channels: Cin, or 0 likewise.
        layout: How the stored weight lies; None where there is none.
        value: The weight of every tap, where none is stored.
    """

    data: int
    window: Window
    groups: int = 0
    out_channels: int = 0
    in_channels: int = 0
    layout: Linear | None = None
    value: float = 1.0

    @property
    def is_channelwise(self) -> bool:
        """Whether every channel is mapped to itself, without a stored weight."""
        return self.layout is None and not self.groups

    @property
    def is_crop(self) -> bool:
        """Whether it is x itself, but for what is cropped or put around."""
        return self.is_channelwise and self.value == 1.0 and self.window.is_point

    @property
    def weights(self) -> int:
        """How many numbers the kernel has: those that are multiplied for one position."""
        inner = self.in_channels // max(self.groups, 1)
        return self.out_channels * inner * prod(self.window.taps)

    def of(self, channels: int) -> "Term":
        """Return the same term for `channels`, where it does not say itself how many there are."""
        if not self.is_channelwise:
            return self
        return replace(self, groups=channels, out_channels=channels, in_channels=channels)

    def kernel(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a stored weight as [Cout, Cin/g, taps…]; alpha is not in it."""
        layout = self.layout
        inner = (self.in_channels // self.groups, *self.window.taps)
        if layout is None or layout.order == "OI":
            return stored.reshape(self.out_channels, *inner)
        outs = self.out_channels // self.groups
        grouped = stored.reshape(self.groups, inner[0], outs, *self.window.taps)
        return grouped.swapaxes(1, 2).reshape(self.out_channels, *inner)

    def own_kernel(self) -> F64:
        """Return the kernel [C, 1, taps…] of a term without a stored weight."""
        return np.full((self.out_channels, 1, *self.window.taps), self.value)


def crop_of(outer: Term, inner: Term) -> Term:
    """Return `outer` applied to `inner`, of which one only crops, or puts zeros around.

    Raises:
        Refusal: Neither does, what is cropped would be read again as zeros, or zeros would be put
            around what is no longer x.
    """
    other = outer if inner.is_crop else inner
    crop, window = inner if inner.is_crop else outer, other.window
    if window.transposed or not crop.is_crop or len(window.taps) != len(crop.window.taps):
        raise Refusal(Reason.OTHER_GEOMETRY, "two operators follow one another")
    sides = []
    for own, change in ((window.begin, crop.window.begin), (window.end, crop.window.end)):
        if crop is inner:
            clash = any(c < 0 < o for o, c in zip(own, change, strict=True))
            side = tuple(o + c for o, c in zip(own, change, strict=True))
        else:
            clash = any(c > 0 for c in change)
            side = tuple(o + c * s for o, c, s in zip(own, change, window.strides, strict=True))
        if clash:
            raise Refusal(Reason.OTHER_GEOMETRY, "zeros are put around a result or a crop")
        sides.append(side)
    return replace(other, window=replace(window, begin=sides[0], end=sides[1]))


# -- sums ---------------------------------------------------------------------------------------


def added(terms: Sequence[Term], sizes: Sequence[int] | None = None) -> Term:
    """Return the one linear map that terms of the same tensor add up to.

    Args:
        terms: The terms; one at least has channels of its own.
        sizes: The sizes of x along the spatial axes, where all are known.

    Raises:
        Refusal: Their sum is no linear map of this kind, or reads less than all of x.
    """
    channels = {(t.in_channels, t.out_channels) for t in terms if not t.is_channelwise}
    ins, outs = max(channels)
    if len(channels) > 1 or (ins != outs and any(t.is_channelwise for t in terms)):
        told = ", ".join(f"{i} to {o}" for i, o in sorted(channels))
        raise Refusal(Reason.OTHER_GEOMETRY, f"channels {told}")
    window = _added_window([term.window for term in terms], sizes)
    groups = gcd(*(term.of(ins).groups for term in terms))
    return Term(terms[0].data, window, groups, outs, ins)


def _added_window(windows: Sequence[Window], sizes: Sequence[int] | None) -> Window:
    transposed = any(window.transposed for window in windows)
    if any(w.transposed != transposed and not w.is_plain for w in windows):
        raise Refusal(Reason.OTHER_GEOMETRY, "one is transposed")
    strides = {window.strides for window in windows}
    if len(strides) > 1:
        told = " and ".join(str(list(s)) for s in sorted(strides))
        raise Refusal(Reason.OTHER_GEOMETRY, f"strides {told}")
    excess = _agreed([window.excess for window in windows], windows, sizes)
    axes = [_added_axis(windows, axis, excess[axis]) for axis in range(len(excess))]
    taps, steps, begin, end = tuple(zip(*axes, strict=True)) if axes else ((), (), (), ())
    return Window(taps, windows[0].strides, steps, begin, end, transposed)


def _agreed(
    excesses: Sequence[tuple[int, ...]], windows: Sequence[Window], sizes: Sequence[int] | None
) -> tuple[int, ...]:
    """Return begin + end − k of all windows."""
    if len(set(excesses)) == 1:
        return excesses[0]
    made = {window.sizes(sizes) for window in windows} if sizes is not None else set()
    if len(made) != 1 or windows[0].transposed:
        told = " and ".join(str(list(excess)) for excess in sorted(set(excesses)))
        raise Refusal(Reason.OTHER_GEOMETRY, f"pads less kernel {told}")
    return tuple(min(axis) for axis in zip(*excesses, strict=True))


def _added_axis(windows: Sequence[Window], axis: int, excess: int) -> tuple[int, int, int, int]:
    """Return taps, dilation, begin and end of the sum along one axis."""
    begin = max(window.begin[axis] for window in windows)
    reach = begin + max(window.extent[axis] - window.begin[axis] for window in windows)
    step = gcd(
        *(begin - window.begin[axis] for window in windows),
        *(window.dilations[axis] for window in windows if window.taps[axis] > 1),
    )
    step = max(step, 1)
    end = excess + reach - begin
    transposed = any(window.transposed for window in windows)
    if begin < 0 or (end < 0 and not (transposed and -end < windows[0].strides[axis])):
        raise Refusal(Reason.OTHER_GEOMETRY, f"pads {begin} and {end}")
    return (reach - 1) // step + 1, step, begin, end


def add_into(total: F64, start: int, target: Term, term: Term, kernel: F64) -> None:
    """Add rows of a term's kernel to the same rows of a sum's, in place.

    These are `kernel` [rows, Cin/g, taps…] and `total` [rows, Cin/g', taps'…], from output channel
    `start` on; the sum is a `target` that `added` returned for the term and others.
    """
    places = _places(target.window, term.window)
    inner, wide = (t.in_channels // t.groups for t in (term, target))
    if inner == wide:
        total[(slice(None), slice(None), *places)] += kernel
        return
    rows = np.arange(len(total))
    first = (start + rows) // (term.out_channels // term.groups) * inner
    block = (start + rows) // (target.out_channels // target.groups) * wide
    columns = (first - block)[:, None] + np.arange(inner)
    at: tuple[Any, ...] = (rows[:, None], columns, *places)
    total[at] += kernel


def _places(target: Window, own: Window) -> tuple[slice, ...]:
    """Return where among a sum's taps those of a term stand, along each axis."""
    places = []
    for axis, taps in enumerate(own.taps):
        step = target.dilations[axis]
        start = (target.begin[axis] - own.begin[axis]) // step
        stride = own.dilations[axis] // step if taps > 1 else 1
        places.append(slice(start, start + (taps - 1) * stride + 1, stride))
    return tuple(places)
