"""Telling what a cone computes as linear maps of what enters it; see `linear_map`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import onnx

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import attributes_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.linear_map import LARGEST, Kernel, Map, OtherMapError, Way

_SPATIAL = 2  # the first spatial axis


def results(cone: Cone, constants: Mapping[str, Array]) -> list[tuple[str, Map]]:
    """Return what a cone computes as linear maps, up to what is none, and then on from there.

    Args:
        cone: The cone.
        constants: Its constants, in float64.

    Returns:
        For each operator that is no linear map, and for the output, which operator that is and
        what enters it. What it makes is a tensor `cut n` of its own from then on.

    Raises:
        OtherMapError: Its linear operators do not go together.
    """
    return list(_Walk(cone, constants).results())


class _Walk:
    def __init__(self, cone: Cone, constants: Mapping[str, Array]) -> None:
        self._cone, self._constants = cone, constants
        linear = [node for node in cone.passing if row_of(node).weight is not None]
        weights = [self._weight(node) for node in linear]
        self._spatial = {
            weight.ndim - _SPATIAL if node.op_type.startswith("Conv") else 0
            for node, weight in zip(linear, weights, strict=True)
        }
        if len(self._spatial) != 1:
            raise OtherMapError("operators of different ranks")
        self._axes = max(self._spatial)
        self._is_table = any(node.op_type == "Gemm" for node in linear)
        self._maps = {leaf: self._itself(leaf) for leaf in cone.leaves}
        self._count = 0

    def results(self) -> Iterator[tuple[str, Map]]:
        for node in self._cone.passing:
            try:
                self._maps[node.output[0]] = self._of(node)
            except OtherMapError:
                yield from self._cut_before(node)
        yield "", self._maps[self._cone.output]

    def _cut_before(self, node: onnx.NodeProto) -> Iterator[tuple[str, Map]]:
        """Let what enters a node be tensors of their own, or else what it makes."""
        varying = [name for name in node.input if name in self._maps]
        yield from ((node.op_type, self._maps[name]) for name in varying)
        if row_of(node).weight is not None and len(varying) == 1:
            self._maps[varying[0]] = self._fresh()
            try:
                self._maps[node.output[0]] = self._of(node)
            except OtherMapError:
                self._maps[node.output[0]] = self._fresh()
            return
        self._maps |= {name: self._fresh() for name in node.output if name}

    def _fresh(self) -> Map:
        self._count += 1
        return self._itself(f"cut {self._count}")

    def _itself(self, name: str) -> Map:
        one = np.ones((1, 1, 1) + (1,) * self._axes)
        way = Way(name, (1,) * self._axes)
        zero = np.zeros(1)
        return Map({way: Kernel(one, one, (0,) * self._axes, alone=True)}, zero, zero)

    def _of(self, node: onnx.NodeProto) -> Map:
        function = _MAPS.get(node.op_type)
        if function is None or node.domain not in {"", "ai.onnx"} or len(node.output) > 1:
            raise OtherMapError(node.op_type)
        return function(self, node, attributes_of(node))

    # -- operands -----------------------------------------------------------------------------

    def _map(self, node: onnx.NodeProto, index: int = 0) -> Map:
        name = node.input[index] if index < len(node.input) else ""
        if name not in self._maps:
            raise OtherMapError("it does not vary")
        return self._maps[name]

    def _constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in self._constants:
            raise OtherMapError("it varies")
        return self._constants[name] if name else None

    def _needed(self, node: onnx.NodeProto, index: int) -> Array:
        value = self._constant(node, index)
        if value is None:
            raise OtherMapError("it is left out")
        return value

    def _weight(self, node: onnx.NodeProto) -> Array:
        return self._needed(node, 1)

    def _laid(self, constant: Array) -> Array:
        """Return a constant that is broadcast as numbers of the channels."""
        if constant.size == 1:
            return constant.reshape(1)
        place = constant.ndim - 1 - self._axes
        if place < 0 or constant.shape[place] != constant.size:
            raise OtherMapError("no numbers of channels")
        return constant.reshape(-1)

    # -- operators ----------------------------------------------------------------------------

    def conv(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        way, point = self._map(node).point
        weight = self._weight(node)
        transposed = node.op_type == "ConvTranspose"
        laid_out = row_of(node).weight
        blocks = None if laid_out is None else laid_out.laid_out(weight, attributes, 1)
        if blocks is None:
            raise OtherMapError("no kernel")
        taps = weight.shape[_SPATIAL:]
        values = _dilated(blocks.reshape(*blocks.shape[:3], *taps), attributes)
        begin = _pads(attributes, values.shape[3:], point)
        if transposed and (any(point.begin) or point.cropped or "output_shape" in attributes):
            raise OtherMapError("what is spread is padded")
        strides = tuple(attributes.get("strides", way.strides))
        kernel, bias, size = self._on_point(values, point, self._map(node), begin)
        stated = self._constant(node, 2)
        if stated is not None:
            bias, size = bias + stated.reshape(-1), size + np.abs(stated.reshape(-1))
        return Map({Way(way.leaf, strides, transposed): kernel}, bias, size)

    def _on_point(
        self, values: Array, point: Kernel, entering: Map, begin: tuple[int, ...]
    ) -> tuple[Kernel, Array, Array]:
        """Return kernel and bias of a kernel behind an affine of x."""
        groups, outs, ins = values.shape[:3]
        tail = [1] * (values.ndim - 3)
        scale = np.broadcast_to(point.values.reshape(-1), groups * ins)
        laid = scale.reshape(groups, 1, ins, *tail)
        bias, size = np.zeros(1), np.zeros(1)
        if entering.bias.any():
            if any(begin) or point.cropped:
                raise OtherMapError("zeros are read beside what was shifted")
            shift = np.broadcast_to(entering.bias, groups * ins).reshape(groups, 1, ins, *tail)
            bias = (values * shift).sum(axis=tuple(range(2, values.ndim))).reshape(-1)
            size = (np.abs(values) * np.abs(shift)).sum(axis=tuple(range(2, values.ndim)))
        made = values * laid
        del outs
        return Kernel(made, np.abs(made), begin, cropped=point.cropped), bias, size.reshape(-1)

    def product(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        way, point = self._map(node).point
        weight = self._weight(node) * attributes.get("alpha", 1.0)
        if weight.ndim != _SPATIAL or attributes.get("transA"):
            raise OtherMapError("no matrix, or of rows")
        matrix = weight if attributes.get("transB") else weight.T
        kernel, bias, size = self._on_point(matrix[None], point, self._map(node), ())
        stated = self._constant(node, 2)
        if stated is not None:
            added = self._laid(stated) * attributes.get("beta", 1.0)
            bias, size = bias + added, size + np.abs(added)
        return Map({way: kernel}, bias, size)

    def pool(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        entering = self._map(node)
        way, point = entering.point
        taps = tuple(attributes["kernel_shape"])
        values = np.full((1, 1, 1, *taps), 1.0 / math.prod(taps))
        values = _dilated(values, attributes)
        begin = _pads(attributes, values.shape[3:], point)
        padded = any(attributes.get("pads", ())) or any(begin)
        if attributes.get("ceil_mode") or (padded and not attributes.get("count_include_pad")):
            raise OtherMapError("an average of fewer at the border")
        if entering.bias.any() and padded:
            raise OtherMapError("zeros are read beside what was shifted")
        made = values * point.values
        kernel = Kernel(made, np.abs(made), begin, alone=True, cropped=point.cropped)
        strides = tuple(attributes.get("strides", (1,) * self._axes))
        return Map({replace(way, strides=strides): kernel}, entering.bias, entering.size)

    def normalization(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        if not self._axes and not self._is_table:
            raise OtherMapError("the channels may lie on another axis")
        if attributes.get("training_mode"):
            raise OtherMapError("training mode")
        gamma, beta, mean, var = (self._needed(node, i) for i in (1, 2, 3, 4))
        scale = gamma / np.sqrt(var + np.float64(np.float32(attributes.get("epsilon", 1e-5))))
        made = self._map(node).then(scale, beta - scale * mean)
        return replace(made, size=made.size + np.abs(scale * mean))

    def added(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        del attributes
        maps = []
        for index, name in enumerate(node.input):
            sign = -1.0 if index and node.op_type == "Sub" else 1.0
            if name in self._maps:
                maps.append(self._maps[name].then(np.full(1, sign), np.zeros(1)))
            else:
                number = sign * self._laid(self._needed(node, index))
                maps.append(Map({}, number, np.abs(number)))
        return reduce(Map.plus, maps)

    def multiplied(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        del attributes
        first_varies = node.input[0] in self._maps
        if node.op_type == "Div" and not first_varies:
            raise OtherMapError("a quotient")
        factor = self._laid(self._needed(node, 1 if first_varies else 0))
        scale = 1.0 / factor if node.op_type == "Div" else factor
        return self._map(node, 0 if first_varies else 1).then(scale, np.zeros(1))

    def negated(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        del attributes
        return self._map(node).then(np.full(1, -1.0), np.zeros(1))

    def same(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        del attributes
        return self._map(node)

    def cropped(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        del attributes
        starts, ends = (self._needed(node, i).reshape(-1) for i in (1, 2))
        axes, steps = self._constant(node, 3), self._constant(node, 4)
        listed = range(len(starts)) if axes is None else map(int, axes.reshape(-1))
        if steps is not None and (steps != 1).any():
            raise OtherMapError("elements are left out in between")
        first = [0] * self._axes
        for axis, start, end in zip(listed, starts, ends, strict=True):
            if axis < _SPATIAL or start < 0:
                raise OtherMapError("where it begins is not known, or channels are left out")
            first[axis - _SPATIAL] = int(start)
            del end
        kernels = {
            way: replace(
                kernel,
                begin=tuple(
                    b - n * s for b, n, s in zip(kernel.begin, first, way.strides, strict=True)
                ),
                cropped=True,
            )
            for way, kernel in self._map(node).kernels.items()
            if not way.transposed
        }
        if len(kernels) < len(self._map(node).kernels):
            raise OtherMapError("what is spread is cropped")
        return replace(self._map(node), kernels=kernels)

    def padded(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Map:
        entering = self._map(node)
        way, point = entering.point
        value = self._constant(node, 2)
        zeros = attributes.get("mode", b"constant") == b"constant" and not np.any(value)
        pads = self._needed(node, 1).reshape(2, -1)
        of_all = len(node.input) <= 3 or not node.input[3]  # noqa: PLR2004 - the axes
        if not zeros or not of_all or entering.bias.any() or point.cropped or (pads < 0).any():
            raise OtherMapError("not with zeros around x")
        if pads[:, :_SPATIAL].any():
            raise OtherMapError("channels are put around")
        begin = tuple(b + int(n) for b, n in zip(point.begin, pads[0, _SPATIAL:], strict=True))
        return replace(entering, kernels={way: replace(point, begin=begin)})


def _dilated(values: Array, attributes: Mapping[str, Any]) -> Array:
    """Return a kernel with zeros between its taps."""
    taps = values.shape[3:]
    steps = attributes.get("dilations", (1,) * len(taps))
    extent = [(n - 1) * step + 1 for n, step in zip(taps, steps, strict=True)]
    if math.prod((*values.shape[:3], *extent)) > LARGEST:
        raise OtherMapError("too large")
    wide = np.zeros((*values.shape[:3], *extent))
    at: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    wide[at] = values
    return wide


def _pads(attributes: Mapping[str, Any], extent: Sequence[int], point: Kernel) -> tuple[int, ...]:
    """Return where a kernel behind a point begins."""
    auto_pad = attributes.get("auto_pad", b"NOTSET")
    pads = list(attributes.get("pads", ())) or [0] * (2 * len(extent))
    if auto_pad.startswith(b"SAME"):
        if any(step != 1 for step in attributes.get("strides", ())):
            raise OtherMapError("the size of x decides where it begins")
        upper = auto_pad == b"SAME_UPPER"
        less = [(n - 1) // 2 if upper else n - 1 - (n - 1) // 2 for n in extent]
        pads = [*less, *(n - 1 - b for n, b in zip(extent, less, strict=True))]
    elif auto_pad == b"VALID":
        pads = [0] * (2 * len(extent))
    if point.cropped and any(pads):
        raise OtherMapError("zeros are read where x was cropped")
    return tuple(b + n for b, n in zip(point.begin, pads, strict=False))


_MAPS: Mapping[str, Callable[[_Walk, onnx.NodeProto, Mapping[str, Any]], Map]] = {
    "Conv": _Walk.conv,
    "ConvTranspose": _Walk.conv,
    "Gemm": _Walk.product,
    "MatMul": _Walk.product,
    "AveragePool": _Walk.pool,
    "BatchNormalization": _Walk.normalization,
    "Add": _Walk.added,
    "Sub": _Walk.added,
    "Sum": _Walk.added,
    "Mul": _Walk.multiplied,
    "Div": _Walk.multiplied,
    "Neg": _Walk.negated,
    "Identity": _Walk.same,
    "Dropout": _Walk.same,
    "Slice": _Walk.cropped,
    "Pad": _Walk.padded,
}
