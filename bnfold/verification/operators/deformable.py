"""DeformConv in float64, written from its specification: its offsets say where it reads.

Every element of a kernel reads the input at a place of its own, beside the grid, by linear
interpolation between the elements around it; beyond the input there are zeros. So it is linear in
the input, in the weight and in the mask, and in a place it is no steeper than the input is.
"""

import itertools
import math

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape, Shapes, parameter
from bnfold.verification.operators.frame import Frame
from bnfold.verification.operators.kernels import require_room
from bnfold.verification.operators.magnitude import Compute, TrackedInputs, magnitudes, needed_of
from bnfold.verification.operators.node import (
    Attributes,
    Inputs,
    UnsupportedError,
    attributes_of,
    needed,
    optional,
)

_OFFSET, _BIAS, _MASK = 2, 3, 4


@frozen
class _Geometry:
    """Where a kernel lies on the input.

    Attributes:
        kernel: The kernel's size along each spatial axis.
        frame: How it lies on the spatial axes.
        offset_groups: Into how many groups the channels fall that have one offset each.
        out: The output's size along each spatial axis.
    """

    kernel: tuple[int, ...]
    frame: Frame
    offset_groups: int
    out: tuple[int, ...]

    @classmethod
    def of(cls, X: Array, W: Array, attributes: Attributes) -> "_Geometry":
        """Return the geometry of X (N, Cin, d…) under W (Cout, Cin/g, k…)."""
        groups = int(attributes.get("offset_group") or 1)
        if X.ndim != W.ndim or X.shape[1] != W.shape[1] * _groups(attributes):
            raise ValueError(f"X {X.shape} does not fit W {W.shape}")
        if X.shape[1] % groups:
            raise ValueError(f"{X.shape[1]} channels are not {groups} groups of offsets")
        frame = Frame.of(W.shape[2:], attributes)
        out = tuple(frame.places(X.shape[2:], frame.stated))
        if min(out) < 1:
            raise ValueError(f"X {X.shape} is smaller than the kernel of W {W.shape}")
        return cls(W.shape[2:], frame, groups, out)

    @property
    def taps(self) -> int:
        """How many elements the kernel has."""
        return math.prod(self.kernel)

    def offsets(self, given: Array) -> Array:
        """Return offsets as (N, offset groups, taps, axis, places)."""
        axes = len(self.kernel)
        laid = _fitted(given, self.offset_groups * self.taps * axes, self.out, 0.0)
        return laid.reshape(len(given), self.offset_groups, self.taps, axes, math.prod(self.out))

    def masks(self, given: Array | None, samples: int) -> Array:
        """Return a mask as (N, offset groups, taps, places); ones where none is given."""
        shape = (samples, self.offset_groups * self.taps, *self.out)
        laid = np.ones(shape) if given is None else _fitted(given, shape[1], self.out, 1.0)
        return laid.reshape(len(laid), self.offset_groups, self.taps, math.prod(self.out))

    def grid(self, axis: int) -> Array:
        """Return where each element of the kernel reads along an axis, (taps, places)."""
        within = np.indices(self.kernel)[axis].reshape(-1, 1) * self.frame.dilations[axis]
        places = np.indices(self.out)[axis].reshape(1, -1) * self.frame.strides[axis]
        return np.asarray(within + places - self.frame.stated[0][axis])


def _groups(attributes: Attributes) -> int:
    return int(attributes.get("group") or 1)


def _fitted(given: Array, channels: int, out: tuple[int, ...], fill: float) -> Array:
    """Return offsets or a mask of the output's size.

    In a model they have it. Where a probe makes up the sizes of all that enters, they need not:
    then they are cut, and what is missing is filled in, so that it still shows where the kernel
    lies.
    """
    if given.ndim != len(out) + 2 or given.shape[1] != channels:
        raise ValueError(f"{list(given.shape)} does not fit {channels} channels on {list(out)}")
    laid = np.full((*given.shape[:2], *out), fill)
    common = [slice(0, min(sizes)) for sizes in zip(given.shape[2:], out, strict=True)]
    everything = slice(None)
    laid[everything, everything, *common] = given[everything, everything, *common]
    return laid


def deform_conv(inputs: Inputs, attributes: Attributes) -> Array:
    """Convolve X (N, Cin, d…) with W (Cout, Cin/g, k…) at the offsets, mask it and add b (Cout)."""
    X, W, b = needed(inputs, 0), needed(inputs, 1), optional(inputs, _BIAS)
    geometry = _Geometry.of(X, W, attributes)
    offsets = geometry.offsets(needed(inputs, _OFFSET))
    read = _sampled(X, offsets, geometry)
    read *= geometry.masks(optional(inputs, _MASK), len(X))[:, :, None]
    Y = _contracted(read, W, _groups(attributes)).reshape(len(X), W.shape[0], *geometry.out)
    return Y if b is None else np.asarray(Y + b.reshape(1, -1, *(1,) * (Y.ndim - 2)))


@np.errstate(invalid="ignore")  # an offset that is no number gives none
def _sampled(X: Array, offsets: Array, geometry: _Geometry) -> Array:
    """Return what the kernel reads, (N, offset groups, channels of one, taps, places)."""
    sizes, groups, samples = X.shape[2:], geometry.offset_groups, len(X)
    channels, places = X.shape[1] // groups, math.prod(geometry.out)
    require_room((samples, X.shape[1], geometry.taps, places))
    lows, parts = [], []
    for axis, size in enumerate(sizes):
        place = np.clip(geometry.grid(axis) + offsets[:, :, :, axis], -2.0, size + 1.0)
        lows.append(np.floor(place))
        parts.append(place - lows[-1])
    flat = X.reshape(samples, groups, channels, -1)
    read = np.zeros((samples, groups, channels, geometry.taps, places))
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        share, index = np.ones(parts[0].shape), np.zeros(parts[0].shape, np.int64)
        for bit, low, part, size in zip(corner, lows, parts, sizes, strict=True):
            at = low + bit
            within = (at >= 0) & (at < size)
            share *= np.where(within, part if bit else 1.0 - part, np.where(np.isnan(at), at, 0.0))
            index = index * size + np.where(within, at, 0).astype(np.int64)
        met = np.take_along_axis(flat, index.reshape(samples, groups, 1, -1), axis=3)
        read += np.where(share[:, :, None] == 0, 0.0, met.reshape(read.shape) * share[:, :, None])
    return read


def _contracted(read: Array, W: Array, groups: int) -> Array:
    """Return the sums over channels and taps, (N, g, Cout/g, places)."""
    samples, places = len(read), read.shape[-1]
    columns = read.reshape(samples, groups, -1, places)
    return np.asarray(W.reshape(groups, W.shape[0] // groups, -1) @ columns)


def magnitude(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Linear in the input and in the mask; an offset moves what is read by its own error.

    Along an axis no two neighbours, zeros beyond the border included, are further apart than twice
    the largest element of the channel.
    """
    X, W, offset = needed_of(inputs, 0), needed_of(inputs, 1), needed_of(inputs, _OFFSET)
    if not W.constant:
        raise UnsupportedError(f"{node.op_type} with a weight that varies")
    sizes = magnitudes(inputs)
    [size] = compute(node, [*sizes[:_OFFSET], offset.value, *sizes[_BIAS:]])
    if offset.constant:
        return [size]
    attributes = attributes_of(node)
    geometry = _Geometry.of(X.value, W.value, attributes)
    moved = np.abs(geometry.offsets(offset.magnitude)).sum(axis=3)
    moved *= geometry.masks(optional(sizes, _MASK), len(X.value))
    axes = tuple(range(2, X.value.ndim))
    steepest = 2.0 * np.abs(X.value).max(axis=axes).reshape(
        len(X.value), geometry.offset_groups, -1, 1, 1
    )
    more = _contracted(steepest * moved[:, :, None], W.magnitude, _groups(attributes))
    return [np.asarray(size + more.reshape(size.shape))]


def demand(index: int, shapes: Shapes, attributes: Attributes, _: int | None) -> Shape | None:
    """X has Cin channels, offsets have one for each tap and axis, a mask has one for each tap."""
    weight = parameter(shapes, 1)
    if weight is None or len(weight) < 3:  # noqa: PLR2004 - outputs, inputs and an axis
        return None
    axes = len(weight) - 2
    taps = math.prod(weight[2:]) * int(attributes.get("offset_group") or 1)
    channels = {0: weight[1] * _groups(attributes), _OFFSET: taps * axes, _MASK: taps}
    return (None, channels[index], *(None,) * axes) if index in channels else None
