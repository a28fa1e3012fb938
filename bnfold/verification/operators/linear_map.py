"""A tensor as a linear map of others: y[o, p] = b[o] + Σ K[o, i, q] x[i, p · stride + q − begin].

Such a map has only one kernel for each way in which it goes over a tensor. So branches that are
added up are added up here, each weight in its place. It is written with nothing of the folder's
own rule for sums: a kernel is an array and where it begins, and what does not go over a tensor in
the same way is kept beside it. The axes of x may be turned before, and those of y behind.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array

LARGEST = 1 << 24
"""Elements of a kernel that are held."""


Order = tuple[int, ...]
"""Which axis of what is read each axis is, as of a Transpose; empty where all stay in place."""


def after(first: Order, second: Order) -> Order:
    """Return one order after another."""
    if not (first and second):
        return first or second
    both = tuple(first[axis] for axis in second)
    return () if both == tuple(range(len(both))) else both


def undone(order: Order) -> Order:
    """Return the order that makes up for one."""
    return tuple(map(order.index, range(len(order))))


class OtherMapError(Exception):
    """A tensor is no linear map of those that enter, or none of the form that this module has."""


@frozen
class Way:
    """How a kernel goes over a tensor.

    Attributes:
        leaf: The tensor.
        strides: From one position to the next; of a matrix product, nothing.
        transposed: Whether it spreads every element instead.
        order: The order of the tensor's axes before.
    """

    leaf: str
    strides: tuple[int, ...]
    transposed: bool = False
    order: Order = ()


@frozen(eq=False)
class Kernel:
    """A kernel, and the magnitudes of its numbers: sums of absolute values instead of sums.

    Attributes:
        values: (groups, outputs, inputs, taps…). A map of every channel to itself, for which
            `alone` holds, is (channels, 1, 1, taps…), or (1, 1, 1, taps…) for any number of them.
        sizes: The magnitudes of these.
        begin: How far along each spatial axis the first tap stands before its position.
        alone: Whether every channel is mapped to itself, and to no other.
        cropped: Whether elements at the ends of the tensor are left out.
    """

    values: Array
    sizes: Array
    begin: tuple[int, ...]
    alone: bool = False
    cropped: bool = False

    @property
    def is_point(self) -> bool:
        """Whether it maps every element to itself, times a number for its channel."""
        return self.alone and all(size == 1 for size in self.values.shape[3:])

    def times(self, factor: Array) -> "Kernel":
        """Return it with its outputs multiplied by numbers, [outputs] or [1].

        Raises:
            OtherMapError: There are more or fewer numbers than outputs.
        """
        groups, outs = self.values.shape[:2]
        anywhere = self.alone and groups == 1  # a map of any number of channels to themselves
        if factor.size not in {1, groups * outs} and not anywhere:
            raise OtherMapError("different channels")
        shape = (1, 1) if factor.size == 1 else (-1, outs)
        laid = factor.reshape(*shape, *[1] * (self.values.ndim - 2))
        return replace(self, values=self.values * laid, sizes=self.sizes * np.abs(laid))

    def of(self, groups: int, channels: int) -> "Kernel":
        """Return it with fewer groups, of a tensor of so many channels."""
        if self.alone:
            shape = (channels, *self.values.shape[1:])
            values, sizes = (np.broadcast_to(a, shape) for a in (self.values, self.sizes))
            return replace(self, values=values, sizes=sizes, alone=False).of(groups, channels)
        if len(self.values) == groups:
            return self
        return replace(
            self, values=_grouped(self.values, groups), sizes=_grouped(self.sizes, groups)
        )

    def within(self, begin: Sequence[int], taps: Sequence[int]) -> "Kernel":
        """Return it with zeros around, so that it begins there and is so large."""
        before = [b - own for b, own in zip(begin, self.begin, strict=True)]
        around = [
            (less, size - less - own)
            for less, size, own in zip(before, taps, self.values.shape[3:], strict=True)
        ]
        pads = [(0, 0)] * 3 + around
        values, sizes = np.pad(self.values, pads), np.pad(self.sizes, pads)
        return replace(self, values=values, sizes=sizes, begin=tuple(begin))


def _grouped(values: Array, groups: int) -> Array:
    """Return a kernel of more groups as one of fewer."""
    many, outs, ins, *taps = values.shape
    each = many // groups
    wide = np.zeros((groups, each, outs, each, ins, *taps))
    place = np.arange(each)
    wide[:, place, :, place] = values.reshape(groups, each, outs, ins, *taps).swapaxes(0, 1)
    return wide.reshape(groups, each * outs, each * ins, *taps)


def aligned(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return kernels with the same groups, beginning and size.

    Raises:
        OtherMapError: They are of different channels, or too large.
    """
    begin = [max(side) for side in zip(*(k.begin for k in kernels), strict=True)]
    reach = [
        max(size - b for size, b in zip(sides, begins, strict=True))
        for sides, begins in zip(
            zip(*(k.values.shape[3:] for k in kernels), strict=True),
            zip(*(k.begin for k in kernels), strict=True),
            strict=True,
        )
    ]
    taps = [b + r for b, r in zip(begin, reach, strict=True)]
    whole = [k.values.shape[:3] for k in kernels if not k.alone]
    channels = {(g * outs, g * ins) for g, outs, ins in whole}
    alone = {len(k.values) for k in kernels if k.alone} - {1}
    if not whole:
        if len(alone) > 1:
            raise OtherMapError("different channels")
        shape = (max(alone, default=1), 1, 1)
        kernels = [k.times(np.ones(shape[0])) for k in kernels]
        return [k.within(begin, taps) for k in kernels]
    outs, ins = max(channels)
    some_alone = len(whole) < len(kernels)
    if len(channels) > 1 or alone - {ins} or (some_alone and outs != ins):
        raise OtherMapError("different channels")
    groups = math.gcd(*(g for g, *_ in whole), *([ins] if some_alone else []))
    if outs * ins // groups * math.prod(taps) > LARGEST:
        raise OtherMapError("too large")
    return [k.of(groups, ins).within(begin, taps) for k in kernels]


@frozen(eq=False)
class Map:
    """A tensor as a linear map of others.

    Attributes:
        kernels: By the way in which each goes over its tensor.
        bias: What is added, [channels] or [1].
        size: The magnitude of that.
        order: The order of the axes of all that, behind.
    """

    kernels: Mapping[Way, Kernel]
    bias: Array
    size: Array
    order: Order = ()

    def then(self, scale: Array, shift: Array) -> "Map":
        """Return it with an affine behind it, of [channels] or [1] each."""
        kernels = {way: kernel.times(scale) for way, kernel in self.kernels.items()}
        size = np.abs(scale) * self.size + np.abs(shift)
        return replace(self, kernels=kernels, bias=scale * self.bias + shift, size=size)

    def turned(self, order: Order) -> "Map":
        """Return it with its axes in another order."""
        return replace(self, order=after(self.order, order))

    def with_order(self, order: Order, channel: int) -> "Map":
        """Return the same tensor with another order behind, and what makes up for that before.

        The axis of channels is counted from the end.

        Raises:
            OtherMapError: A kernel goes over axes that it would no longer go over.
        """
        if order == self.order:
            return self
        places = {place_of(channel, each) for each in (order, self.order)}
        even = all(k.values.size == 1 for k in self.kernels.values()) and self.bias.size == 1
        if not (all(map(_takes_each, self.kernels, self.kernels.values()))
                and (even or len(places) == 1)):  # fmt: skip
            raise OtherMapError("kernels over other axes")
        between = after(self.order, undone(order))
        kernels = {
            replace(way, order=after(way.order, between)): k for way, k in self.kernels.items()
        }
        return replace(self, kernels=kernels, order=order)

    def plus(self, other: "Map") -> "Map":
        """Return the sum of two that have the same order."""
        kernels = dict(self.kernels)
        for way, kernel in other.kernels.items():
            if way in kernels:
                one, two = aligned([kernels[way], kernel])
                values, sizes = one.values + two.values, one.sizes + two.sizes
                cropped = one.cropped or two.cropped
                kernel = replace(one, values=values, sizes=sizes, cropped=cropped)  # noqa: PLW2901
            kernels[way] = kernel
        bias, size = self.bias + other.bias, self.size + other.size
        return replace(self, kernels=kernels, bias=bias, size=size)

    @property
    def is_bare(self) -> bool:
        """Whether it is another tensor as it is."""
        kernels = self.kernels.values()
        bare = all(k.is_point and (k.values == 1).all() and not any(k.begin) for k in kernels)
        return len(kernels) == 1 and bare and not self.bias.any()

    @property
    def point(self) -> tuple[Way, Kernel]:
        """The one kernel, where it takes every element by itself.

        Raises:
            OtherMapError: It does not.
        """
        if len(self.kernels) == 1 and not self.order:
            way, kernel = next(iter(self.kernels.items()))
            if kernel.is_point and not way.transposed and set(way.strides) <= {1}:
                return way, kernel
        raise OtherMapError("a linear map of a linear map")


def place_of(axis: int, order: Order) -> int:
    """Return where an axis lies behind a change of order; both are counted from the end."""
    return order.index(axis % len(order)) - len(order) if order else axis


def _takes_each(way: Way, kernel: Kernel) -> bool:
    """Whether a kernel takes every element by itself, from where it is."""
    plain = not (way.transposed or kernel.cropped or any(kernel.begin))
    return plain and kernel.is_point and set(way.strides) <= {1}
