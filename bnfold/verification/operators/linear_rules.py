"""What each operator makes of linear maps: the rules in the column `linear_map` of the table.

A rule gets a node whose operands are linear maps of what enters a region, or constants, and
returns its output as such a map. It raises `OtherMapError` where the output is none, and where
a kernel would read zeros beside numbers that an affine has shifted: a `Map` cannot say that.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.frame import Frame
from bnfold.verification.operators.linear_map import (
    LARGEST,
    Kernel,
    Map,
    Order,
    OtherMapError,
    Way,
    place_of,
)
from bnfold.verification.operators.node import Attributes, attributes_of
from bnfold.verification.operators.weights import KERNEL, TRANSPOSED_KERNEL, Weight

SPATIAL = 2
"""The first spatial axis of a tensor (N, C, …), and of a kernel."""


@frozen(eq=False)
class Region:
    """What is known of the tensors of a region so far.

    Attributes:
        maps: Those that vary, as linear maps of what enters it.
        constants: Its constants, in float64.
        axes: How many spatial axes its tensors have; 0 for products of matrices.
        matrices: The tensors that are matrices, so that their channels lie on the last axis.
    """

    maps: dict[str, Map]
    constants: Mapping[str, Array]
    axes: int
    matrices: Collection[str]


class Operands:
    """A node and its operands, by their index."""

    def __init__(self, node: onnx.NodeProto, region: Region) -> None:
        self.attributes: Attributes = attributes_of(node)
        self._names, self._region = list(node.input), region

    def __len__(self) -> int:
        return len(self._names)

    @property
    def axes(self) -> int:
        """How many spatial axes the tensors have."""
        return self._region.axes

    def _name(self, index: int) -> str:
        return self._names[index] if index < len(self) else ""

    def varies(self, index: int) -> bool:
        """Tell whether an operand depends on what enters the region."""
        return self._name(index) in self._region.maps

    def is_matrix(self, index: int) -> bool:
        """Tell whether an operand certainly has two axes."""
        return self._name(index) in self._region.matrices

    @property
    def channel(self) -> int:
        """The axis of channels, counted from the end, where no axes have changed places."""
        return -1 - self.axes

    def map(self, index: int = 0) -> Map:
        """Return an operand that varies, in whatever order its axes are.

        Raises:
            OtherMapError: It is a constant.
        """
        if not self.varies(index):
            raise OtherMapError("it does not vary")
        return self._region.maps[self._name(index)]

    def plain(self) -> Map:
        """Return the first operand, with its axes in the order of what enters the region.

        Raises:
            OtherMapError: It is a constant, or its axes cannot be in this order.
        """
        return self.map().with_order((), self.channel)

    def along(self, axis: int, index: int = 0) -> Map:
        """Return an operand that varies, so that its channels lie on an axis, from the end.

        Raises:
            OtherMapError: It is a constant, or they lie on another.
        """
        made = self.map(index)
        if place_of(self.channel, made.order) == axis:
            return made
        return made.with_order(self.order_for(axis), self.channel)

    def order_for(self, axis: int) -> Order:
        """Return an order that lets the channels lie on an axis, counted from the end.

        Raises:
            OtherMapError: How many axes there are is not known.
        """
        if axis == self.channel:
            return ()
        if not self.axes:
            raise OtherMapError("any number of axes")
        order = [n for n in range(SPATIAL + self.axes) if n != SPATIAL - 1]
        order.insert(SPATIAL + self.axes + axis, SPATIAL - 1)
        return tuple(order)

    def constant(self, index: int) -> Array | None:
        """Return an operand that is a constant; None where it is left out.

        Raises:
            OtherMapError: It varies.
        """
        name = self._name(index)
        if name and name not in self._region.constants:
            raise OtherMapError("it varies")
        return self._region.constants[name] if name else None

    def needed(self, index: int) -> Array:
        """Return a constant that the operator cannot do without.

        Raises:
            OtherMapError: It varies or is left out.
        """
        value = self.constant(index)
        if value is None:
            raise OtherMapError("it is left out")
        return value


def _axis(constant: Array) -> int | None:
    """Return along which axis, counted from the end, a constant varies; None if along none.

    Raises:
        OtherMapError: It varies along several.
    """
    if constant.size == 1:
        return None
    axis = int(np.argmax(constant.shape)) - constant.ndim
    if constant.shape[axis] != constant.size:
        raise OtherMapError("no numbers of channels")
    return axis


def _under(operands: Operands, constant: Array, index: int = 0) -> tuple[Map, Array]:
    """Return an operand that varies, and a constant that is broadcast to it by channel.

    Raises:
        OtherMapError: It varies along other axes.
    """
    axis = _axis(constant)
    varying = operands.map(index) if axis is None else operands.along(axis, index)
    return varying, constant.reshape(-1)


Rule = Callable[[Operands], Map]
"""Returns what a node makes of its operands.

Raises:
    OtherMapError: That is no linear map of them.
"""


def _convolved_by(weight: Weight, *, transposed: bool) -> Rule:
    def rule(operands: Operands) -> Map:
        attributes, stored = operands.attributes, operands.needed(1)
        entering = operands.plain()
        way, point = entering.point
        blocks = weight.laid_out(stored, attributes, 1)
        if blocks is None:
            raise OtherMapError("no kernel")
        frame = Frame.of(stored.shape[SPATIAL:], attributes)
        values = _dilated(blocks.reshape(*blocks.shape[:3], *stored.shape[SPATIAL:]), frame)
        begin = _begin(frame, point)
        if transposed and (any(point.begin) or point.cropped or "output_shape" in attributes):
            raise OtherMapError("what is spread is padded")
        made = _applied(values, point, entering, begin)
        bias = operands.constant(2)
        numbers = np.zeros(1) if bias is None else bias.reshape(-1)
        way = replace(way, strides=tuple(frame.strides), transposed=transposed)
        return _biased(way, made, numbers)

    return rule


convolution = _convolved_by(KERNEL, transposed=False)
transposed_convolution = _convolved_by(TRANSPOSED_KERNEL, transposed=True)


def product(operands: Operands) -> Map:
    """A tensor times a matrix, and what a Gemm adds."""
    attributes, entering = operands.attributes, operands.plain()
    way, point = entering.point
    weight = operands.needed(1) * attributes.get("alpha", 1.0)
    if weight.ndim != 2 or attributes.get("transA"):  # noqa: PLR2004 - a matrix
        raise OtherMapError("no matrix, or of rows")
    matrix = weight if attributes.get("transB") else weight.T
    made = _applied(matrix[None], point, entering, ())
    bias = operands.constant(2)
    numbers = np.zeros(1) if bias is None else bias.reshape(-1)
    if bias is not None and _axis(bias) not in {None, operands.channel}:
        raise OtherMapError("a bias for each row")
    return _biased(way, made, numbers * attributes.get("beta", 1.0))


_Made = tuple[Kernel, Array, Array]
"""A kernel, a bias, and the magnitude of that bias."""


def _applied(values: Array, point: Kernel, entering: Map, begin: tuple[int, ...]) -> _Made:
    """Return a kernel (groups, outputs, inputs, taps…) that follows a channel affine."""
    groups, _, ins, *taps = values.shape
    tail = [1] * len(taps)
    scale = np.broadcast_to(point.values.reshape(-1), groups * ins).reshape(groups, 1, ins, *tail)
    bias, size = np.zeros(1), np.zeros(1)
    if entering.bias.any():
        if any(begin) or point.cropped:
            raise OtherMapError("zeros are read beside what was shifted")
        shift = np.broadcast_to(entering.bias, groups * ins).reshape(groups, 1, ins, *tail)
        summed = tuple(range(2, values.ndim))
        bias = (values * shift).sum(axis=summed).reshape(-1)
        size = (np.abs(values) * np.abs(shift)).sum(axis=summed).reshape(-1)
    made = values * scale
    return Kernel(made, np.abs(made), begin, cropped=point.cropped), bias, size


def _biased(way: Way, made: _Made, numbers: Array) -> Map:
    kernel, bias, size = made
    return Map({way: kernel}, bias + numbers, size + np.abs(numbers))


def average(operands: Operands) -> Map:
    """The mean of a window, where every window has the same number of elements."""
    attributes, entering = operands.attributes, operands.plain()
    way, point = entering.point
    taps = tuple(attributes["kernel_shape"])
    frame = Frame.of(taps, attributes)
    values = _dilated(np.full((1, 1, 1, *taps), 1.0 / math.prod(taps)), frame)
    begin = _begin(frame, point)
    padded = any(map(any, (begin, *frame.pads(frame.extents))))
    if attributes.get("ceil_mode") or (padded and not attributes.get("count_include_pad")):
        raise OtherMapError("an average of fewer at the border")
    if entering.bias.any() and padded:
        raise OtherMapError("zeros are read beside what was shifted")
    made = values * point.values
    kernel = Kernel(made, np.abs(made), begin, alone=True, cropped=point.cropped)
    way = replace(way, strides=tuple(frame.strides))
    return Map({way: kernel}, entering.bias, entering.size)


def normalization(operands: Operands) -> Map:
    """γ (x − E) / √(Var + ε) + β, of channels that lie behind the batch, on axis 1."""
    if not operands.axes and not operands.is_matrix(0):
        raise OtherMapError("the channels may not lie on the last axis, as those of a product do")
    epsilon = operands.attributes.get("epsilon", 1e-5)
    if operands.attributes.get("training_mode"):
        raise OtherMapError("training mode")
    gamma, beta, mean, var = (operands.needed(i) for i in (1, 2, 3, 4))
    scale = gamma / np.sqrt(var + np.float64(np.float32(epsilon)))
    made = operands.along(operands.channel).then(scale, beta - scale * mean)
    return replace(made, size=made.size + np.abs(scale * mean))


def _signed(operands: Operands, index: int, sign: float) -> Map:
    if operands.varies(index):
        return operands.map(index).then(np.full(1, sign), np.zeros(1))
    constant = operands.needed(index)
    axis, number = _axis(constant), sign * constant.reshape(-1)
    order = () if axis is None else operands.order_for(axis)
    return Map({}, number, np.abs(number), order)


def _sum_of(operands: Operands, terms: Iterable[Map]) -> Map:
    """Return a sum, its axes in the order of the first term, or of one that cannot be turned."""
    first, *others = terms
    for other in others:
        try:
            first = first.plus(other.with_order(first.order, operands.channel))
        except OtherMapError:
            first = other.plus(first.with_order(other.order, operands.channel))
    return first


def total(operands: Operands) -> Map:
    """The sum of all operands."""
    return _sum_of(operands, (_signed(operands, i, 1.0) for i in range(len(operands))))


def difference(operands: Operands) -> Map:
    """The first operand without the second."""
    return _sum_of(operands, (_signed(operands, i, 1.0 - 2.0 * i) for i in range(2)))


def multiple(operands: Operands) -> Map:
    """A tensor times a constant, which may come first."""
    place = 0 if operands.varies(0) else 1
    varying, factor = _under(operands, operands.needed(1 - place), place)
    return varying.then(factor, np.zeros(1))


def quotient(operands: Operands) -> Map:
    """A tensor by a constant."""
    varying, divisor = _under(operands, operands.needed(1))
    return varying.then(1.0 / divisor, np.zeros(1))


def opposite(operands: Operands) -> Map:
    """A tensor with all signs changed."""
    return operands.map().then(np.full(1, -1.0), np.zeros(1))


def unchanged(operands: Operands) -> Map:
    """The first operand as it is."""
    return operands.map()


def turned(operands: Operands) -> Map:
    """A tensor with its axes in another order."""
    axes = SPATIAL + operands.axes
    order = tuple(operands.attributes.get("perm", range(axes)[::-1]))
    if len(order) != axes or (not operands.axes and "perm" not in operands.attributes):
        raise OtherMapError("as many axes as are turned")
    return operands.map().turned(order)


def crop(operands: Operands) -> Map:
    """A Slice that leaves out elements around a tensor, and none in between."""
    entering, first = operands.plain(), _first_kept(operands)
    if any(way.transposed for way in entering.kernels):
        raise OtherMapError("what is spread is cropped")
    kernels = {}
    for way, kernel in entering.kernels.items():
        places = zip(kernel.begin, first, way.strides, strict=True)
        begin = tuple(before - start * step for before, start, step in places)
        kernels[way] = replace(kernel, begin=begin, cropped=True)
    return replace(entering, kernels=kernels)


def _first_kept(operands: Operands) -> list[int]:
    """Return where a Slice begins along each spatial axis."""
    starts, axes, steps = (operands.needed(1).reshape(-1), *map(operands.constant, (3, 4)))
    if steps is not None and (steps != 1).any():
        raise OtherMapError("elements are left out in between")
    operands.needed(2)
    first = [0] * operands.axes
    listed = range(len(starts)) if axes is None else map(int, axes.reshape(-1))
    for axis, start in zip(listed, starts, strict=True):
        if axis < SPATIAL or start < 0:
            raise OtherMapError("where it begins is not known, or channels are left out")
        first[axis - SPATIAL] = int(start)
    return first


def zeros_around(operands: Operands) -> Map:
    """A Pad that puts zeros around a tensor, which is what a kernel reads there anyway."""
    entering, value = operands.plain(), operands.constant(2)
    way, point = entering.point
    pads = operands.needed(1).reshape(2, -1)
    zeros = operands.attributes.get("mode", b"constant") == b"constant" and not np.any(value)
    of_all_axes = operands.constant(3) is None
    if not zeros or not of_all_axes or entering.bias.any() or point.cropped or (pads < 0).any():
        raise OtherMapError("not with zeros around x")
    if pads[:, :SPATIAL].any():
        raise OtherMapError("channels are put around")
    begin = tuple(b + int(n) for b, n in zip(point.begin, pads[0, SPATIAL:], strict=True))
    return replace(entering, kernels={way: replace(point, begin=begin)})


def _dilated(values: Array, frame: Frame) -> Array:
    """Return a kernel with zeros between its taps."""
    if math.prod((*values.shape[:3], *frame.extents)) > LARGEST:
        raise OtherMapError("too large")
    wide = np.zeros((*values.shape[:3], *frame.extents))
    at: tuple[Any, ...] = (..., *(slice(None, None, step) for step in frame.dilations))
    wide[at] = values
    return wide


def _begin(frame: Frame, point: Kernel) -> tuple[int, ...]:
    """Return how far before its position a kernel behind a point begins."""
    if frame.sizes_decide and any(step != 1 for step in frame.strides):
        raise OtherMapError("the size of x decides where it begins")
    heads, tails = frame.pads(frame.extents)  # without strides they are the same for all sizes
    if point.cropped and any((*heads, *tails)):
        raise OtherMapError("zeros are read where x was cropped")
    return tuple(b + n for b, n in zip(point.begin, heads, strict=False))
