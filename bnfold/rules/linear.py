"""The LINEAR table: how does this node *absorb* an affine on its output, and on its input?

Every linear operator here is y = W x + b with a weight that can be looked at as

    (g, Cout/g, Cin/g, k…)   "OI": Conv, Gemm with transB, Gemm and MatMul with the weight first
    (g, Cin/g, Cout/g, k…)   "IO": ConvTranspose, Gemm and MatMul with the weight second

so one piece of algebra serves all of them. With (s, t) on the output and (q, r) on the input,

    s (W (q x + r) + b) + t  =  (s W q) x + s (b + Σ_i W[o, i] r[i]) + t

that is W'[o, i] = s[o] q[i] W[o, i] and b' = s (b + W r) + t: the weight is multiplied
elementwise by one factor, whatever was composed, and rounded once.

A row says how one operator's weight lies and which shifts on its input are exact. Conv with zero
padding reads zeros where r would have been added, so r must be 0 there, or −r/q one number for
all channels, which an explicit Pad can provide.

A normalization y = γ n(x) + β is not linear in x, but it is in n(x), with a weight that is
diagonal: on its output it absorbs an affine as γ' = s γ, β' = s β + t, on its input none.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine, any_nonzero
from bnfold.rules.operator import FLOATS, Operator, Value
from bnfold.rules.subscripts import Lettered, parse


class Border(Enum):
    """What an operator reads beyond its input, which decides whether a shift may come in."""

    NOTHING = auto()
    ZEROS = auto()  # an explicit Pad can take their place
    NEVER = auto()  # implicit zeros that nothing can take the place of


@frozen
class Linear:
    """How one linear node's weight lies.

    Attributes:
        weight: Index of the input that is the weight.
        data: Index of the input that is the data.
        bias: Index of the input that is or would be the bias; None where the operator has none.
        groups: g.
        order: Whether the output or the input channels come first in the weight.
        out_axis: The axis of the output along which the output channels lie.
        in_axis: The axis of the data along which the input channels lie.
        out_channels: Cout.
        in_channels: Cin.
        border: What is read beyond the input.
        weight_gain: A constant that multiplies W (Gemm's alpha).
        bias_gain: A constant that multiplies b (Gemm's beta).
        with_bias: The operator that is the same but has a bias, for one that has none.
        broadcasts_bias: Whether the bias may be of any shape that broadcasts to the output.
        stacked: How many matrices the weight has, along leading axes; 0 where its first axes are
            the channels.
        shared_by: How many channels of the output share one element of a diagonal weight.
        directions: Of a recurrent cell, in how many directions it goes over its input: its bias
            has as many rows, and behind the numbers of the output channels as many others.
        lettered: How the weight of an Einsum lies, whose channels may lie on several axes.
    """

    weight: int
    data: int
    bias: int | None
    groups: int
    order: Literal["OI", "IO"]
    out_axis: int
    in_axis: int
    out_channels: int
    in_channels: int
    border: Border = Border.NOTHING
    weight_gain: float = 1.0
    bias_gain: float = 1.0
    with_bias: str | None = None
    broadcasts_bias: bool = False
    stacked: int = 0
    shared_by: int = 1
    directions: int = 0
    lettered: Lettered | None = None

    @property
    def is_diagonal(self) -> bool:
        """Whether the weight is a vector [Cout] that scales what a normalization has made."""
        return not self.in_channels

    def output_axis(self, weight_rank: int) -> int:
        """Return the axis of the weight along which its output channels lie.

        Quantizers have one scale for each index along it. Of a ConvTranspose with groups these are
        Cout/g, which all groups share.
        """
        if self.lettered is not None:
            return self.lettered.order[len(self.lettered.sizes[0])]
        first = weight_rank - 2 if self.stacked else 0
        return first if self.order == "OI" else first + 1

    def factor(self, out_scale: F64, in_scale: F64, weight_rank: int) -> F64:
        """Return s[o] q[i], float64, of a shape that broadcasts to the weight.

        s is `out_scale`, [Cout], and q is `in_scale`, [Cin].
        """
        if self.is_diagonal:
            return out_scale
        g = self.groups
        out = out_scale.reshape(g, -1, 1) if any_nonzero(out_scale != 1) else np.ones((1, 1, 1))
        inner = in_scale.reshape(g, 1, -1) if any_nonzero(in_scale != 1) else np.ones((1, 1, 1))
        outer_size = (self.out_channels if self.order == "OI" else self.in_channels) // g
        product = out * inner
        if self.lettered is not None:
            return self.lettered.laid(product)
        if self.order == "IO":
            product = product.swapaxes(1, 2)
        if product.shape[0] > 1:  # groups lie within the first axis: it must be whole
            shape = (g, outer_size, product.shape[2])
            product = np.broadcast_to(product, shape)
        leading: F64 = product.reshape(-1, product.shape[2])
        ones = (1,) * (weight_rank - 2)
        laid: F64 = leading.reshape(ones + leading.shape if self.stacked else leading.shape + ones)
        return laid

    def response(self, weight: NDArray[np.generic], shift: F64) -> F64:
        """Return Σ_i W[o, i, …] r[i] for the shift r [Cin] on the input; float64, [Cout]."""
        if self.lettered is not None:
            matrices = self.lettered.matrices(weight).astype(np.float64)
            made: F64 = matrices @ shift.reshape(self.groups, -1, 1)
            return made.reshape(-1)
        lead = (self.out_channels, self.in_channels)
        first, second = lead if self.order == "OI" else lead[::-1]
        g = self.groups
        kernel = weight.reshape(first, second // g, -1).sum(axis=2, dtype=np.float64)
        grouped = kernel.reshape(g, first // g, second // g)
        r = shift.reshape(g, -1)
        subscripts = "goi,gi->go" if self.order == "OI" else "gio,gi->go"
        total: F64 = np.einsum(subscripts, grouped, r)
        return self.weight_gain * total.reshape(-1)

    def fits_bias(self, shape: tuple[int, ...]) -> bool:
        """Whether a bias of this shape belongs to the output channels.

        A convolution's is [Cout]; a matrix product's broadcasts to the output.
        """
        if self.broadcasts_bias:
            place = max(-self.out_axis, 1)  # counted from the last axis
            return len(shape) < place or shape[-place] in (1, self.out_channels)
        if self.directions:
            return shape == (self.directions, 2 * self.out_channels // self.directions)
        return shape == (self.out_channels,)

    def as_bias(self, vector: F64, beside: float = 0.0) -> F64:
        """Lay a vector [Cout] along the output channels of a bias.

        A bias that is an operand of an Add has an axis for each that lies behind the channels, as
        one behind W x; that of a convolution, whose channels are counted from the front, has none.
        Numbers of a bias that belong to no output channel are `beside`.
        """
        if self.directions:
            rows = vector.reshape(self.directions, -1)
            return np.concatenate([rows, np.full_like(rows, beside)], axis=1)
        if self.lettered is not None:
            return _on_axes(vector, *self._outputs)
        return vector.reshape(-1, *(1,) * max(-self.out_axis - 1, 0))

    @property
    def out_axes(self) -> tuple[int, ...]:
        """The axes of the output along which its channels lie."""
        return (self.out_axis,) if self.lettered is None else self.lettered.out_axes

    @property
    def _outputs(self) -> "_Axes":
        assert self.lettered is not None  # noqa: S101 - it is asked for no other
        groups, outs, _ = self.lettered.sizes
        return self.lettered.out_axes, (*groups, *outs)

    @property
    def _inputs(self) -> "_Axes":
        assert self.lettered is not None  # noqa: S101 - it is asked for no other
        groups, _, ins = self.lettered.sizes
        return self.lettered.in_axes, (*groups, *ins)

    def output_vectors(self, affine: Affine) -> tuple[F64, F64]:
        """Return an affine on the output as (s, t), [Cout] each.

        Raises:
            Refusal: It varies along another axis than the output channels, or between channels
                that share their weight, or the operator is a recurrent cell.
        """
        if self.directions:
            raise Refusal(Reason.NOT_LINEAR)
        if self.lettered is not None:
            return _from_axes(affine, *self._outputs)
        axis, channels = self.out_axis % affine.rank, self.out_channels * self.shared_by
        s, t = affine.vectors(axis, channels)
        if self.shared_by == 1:
            return s, t
        s, t = s.reshape(self.out_channels, -1), t.reshape(self.out_channels, -1)
        if (s != s[:, :1]).any() or (t != t[:, :1]).any():
            raise Refusal(Reason.CHANNELS_MIX, "each group has one scale and one shift")
        return s[:, 0], t[:, 0]

    def input_vectors(self, affine: Affine) -> tuple[F64, F64]:
        """Return an affine on the input as (q, r), [Cin] each.

        Raises:
            Refusal: It varies along another axis than the input channels, or would need a bias for
                each of several matrices, or the operator is a normalization.
        """
        if self.is_diagonal:
            raise Refusal(Reason.NOT_LINEAR)
        if self.stacked > 1 and affine.has_shift and not self.directions:
            raise Refusal(Reason.OTHER_AXIS, "each of several matrices would need its own bias")
        if self.lettered is not None:
            return _from_axes(affine, *self._inputs)
        return affine.vectors(self.in_axis % affine.rank, self.in_channels)


_Axes = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes, counted from the last one, and their lengths: the channels that lie on them, in order."""


def _from_axes(affine: Affine, axes: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[F64, F64]:
    """Return an affine that varies along some axes alone as two vectors.

    Raises:
        Refusal: It varies along others, or has other lengths.
    """
    places = [axis % affine.rank for axis in axes]
    if other := [axis for axis in affine.axes if axis not in places]:
        raise Refusal(Reason.OTHER_AXIS, f"they vary along axis {other[0]}")
    kept = tuple(n for n in range(affine.rank) if n not in places)
    order = np.argsort(np.argsort(places))
    if any(affine.scale.shape[n] not in (1, size) for n, size in zip(places, sizes, strict=True)):
        raise Refusal(
            Reason.OTHER_AXIS, f"{list(affine.scale.shape)} values, {list(sizes)} channels"
        )
    s, t = (
        np.broadcast_to(values.squeeze(kept).transpose(order), sizes).reshape(-1)
        for values in (affine.scale, affine.shift)
    )
    return s, t


def _on_axes(vector: F64, axes: tuple[int, ...], sizes: tuple[int, ...]) -> F64:
    """Return a vector of channels laid along axes that are counted from the last one."""
    shape = [1] * max((-axis for axis in axes), default=0)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return vector.reshape(sizes).transpose(np.argsort(axes)).reshape(shape)


LinearRow = Callable[[Operator], Linear]


def _weight(op: Operator, index: int, rank: int | None = None) -> tuple[int, ...]:
    """Return the shape of the weight, which must be constant and of a type that bnfold folds."""
    value = op.required(index)
    if not value.is_constant:
        raise Refusal(Reason.WEIGHT_NOT_CONSTANT, at=value.name)
    if value.elem_type not in FLOATS:
        raise Refusal(Reason.WEIGHT_NOT_CONSTANT, "no floating-point type", value.name)
    shape = tuple(value.size(axis) for axis in range(value.rank))
    if rank is not None and len(shape) != rank:
        raise Refusal(Reason.OTHER_AXIS, f"its weight has rank {len(shape)}", value.name)
    if any(size <= 0 for size in shape):
        raise Refusal(Reason.BAD_PARAMETERS, f"shape {list(shape)}", value.name)
    return shape


_MIN_CONV_RANK = 3


def _kernel(op: Operator) -> tuple[tuple[int, ...], int]:
    """Return the shape of a convolution's weight, and its groups, which divide axis 0."""
    shape, groups = _weight(op, 1), op.integer("group", 1)
    if len(shape) < _MIN_CONV_RANK:
        raise Refusal(Reason.BAD_PARAMETERS, f"weight of rank {len(shape)}")
    if groups < 1 or shape[0] % groups:
        raise Refusal(Reason.BAD_PARAMETERS, f"group={groups}, {shape[0]} channels")
    return shape, groups


def convolution(op: Operator) -> Linear:
    """Conv: W is [Cout, Cin/g, k…]; reads zeros where it pads."""
    shape, groups = _kernel(op)
    border = Border.NOTHING
    if op.pads is None:
        border = Border.NOTHING if prod(shape[2:]) == 1 else Border.NEVER
    elif any(op.pads):
        border = Border.ZEROS
    return Linear(1, 0, 2, groups, "OI", 1, 1, shape[0], shape[1] * groups, border)


def transposed_convolution(op: Operator) -> Linear:
    """ConvTranspose: W is [Cin, Cout/g, k…].

    Its output elements are sums over varying subsets of the kernel, so a shift on the input
    becomes a bias only where every output element sees the whole kernel: kernel 1, stride 1, no
    padding in or out.
    """
    shape, groups = _kernel(op)
    plain = (
        all(k == 1 for k in shape[2:])
        and all(v == 1 for v in op.integers("strides") or ())
        and not any(op.integers("pads") or ())
        and not any(op.integers("output_padding") or ())
        and op.integers("output_shape") is None
    )
    border = Border.NOTHING if plain else Border.NEVER
    return Linear(1, 0, 2, groups, "IO", 1, 1, shape[1] * groups, shape[0], border)


def deformable_convolution(op: Operator) -> Linear:
    """DeformConv: W is [Cout, Cin/g, k…]; its offsets lead beyond the input, where it reads zeros.

    It is linear in its input, wherever it reads that, so a scale may come in, but no shift.
    """
    shape, groups = _kernel(op)
    return Linear(1, 0, 3, groups, "OI", 1, 1, shape[0], shape[1] * groups, Border.NEVER)


def general_product(op: Operator) -> Linear:
    """Gemm: Y = alpha A B + beta C; the weight is B, or A where that alone is constant.

    B is [K, N], or [N, K] with transB. A is [M, K], or [K, M] with transA; the channels of Y are
    its rows then.
    """
    weight = 1 if op.required(1).is_constant or not op.required(0).is_constant else 0
    first, second = _weight(op, weight, rank=2)
    transposed = [bool(op.integer(name, 0)) for name in ("transA", "transB")]
    outputs_first = transposed[weight] == bool(weight)
    return Linear(
        weight=weight,
        data=1 - weight,
        bias=2,
        groups=1,
        order="OI" if outputs_first else "IO",
        out_axis=1 if weight else -2,
        in_axis=int(transposed[1 - weight] != bool(weight)),
        out_channels=first if outputs_first else second,
        in_channels=second if outputs_first else first,
        weight_gain=op.number("alpha", 1.0),
        bias_gain=op.number("beta", 1.0),
        broadcasts_bias=True,
    )


_MATRIX = 2  # the rank of one
_GEMM_OPSET = 7  # before, Gemm does not broadcast its bias unless told so


def matrix_product(op: Operator) -> Linear:
    """MatMul: x W with channels on the last axis, or W x with channels on the one before it.

    A vector x has its channels on its only axis either way.
    """
    weight_second = op.required(1).is_constant
    data: Value = op.required(0 if weight_second else 1)
    shape = _weight(op, 1 if weight_second else 0)
    if len(shape) < _MATRIX:
        raise Refusal(Reason.OTHER_AXIS, f"its weight has rank {len(shape)}")
    *stack, first, second = shape
    stacked = prod(stack) if stack else 0
    if weight_second:
        is_gemm = not stack and data.rank == _MATRIX and op.opset >= _GEMM_OPSET
        linear = Linear(1, 0, None, 1, "IO", -1, -1, second, first, stacked=stacked)
        return replace(linear, with_bias="Gemm" if is_gemm else None)
    axis = -min(data.rank, _MATRIX)
    return Linear(0, 1, None, 1, "OI", axis, axis, first, second, stacked=stacked)


def contraction(op: Operator) -> Linear:
    """Einsum: a product with a weight, as bic,oc->bio or bthd,hdk->bthk; channels on any axes."""
    equation = op.text("equation", "")
    subscripts = parse(equation, lambda index: op.required(index).rank)
    if len(subscripts.inputs) != len(op.inputs) or len(op.inputs) != 2:  # noqa: PLR2004
        raise Refusal(Reason.NOT_LINEAR, f"{equation} is no product of two operands")
    weight = 1 if op.required(1).is_constant else 0
    shape = _weight(op, weight)
    if len(subscripts.inputs[weight]) != len(shape):
        raise Refusal(Reason.INVALID_NODE, f"{equation}, and a weight of rank {len(shape)}")
    lettered = Lettered.of(subscripts, weight, shape)
    if not set(subscripts.inputs[weight]) - set(subscripts.output):
        raise Refusal(Reason.NOT_LINEAR, f"{equation} sums over no axis of its weight")
    if lettered is None:
        raise Refusal(Reason.NOT_LINEAR, f"{equation} is no product with one weight")
    groups, outs, ins = lettered.counts
    return Linear(
        weight=weight,
        data=1 - weight,
        bias=None,
        groups=groups,
        order="OI",
        out_axis=next(iter(lettered.out_axes), -1),
        in_axis=next(iter(lettered.in_axes), -1),
        out_channels=groups * outs,
        in_channels=groups * ins,
        lettered=lettered,
    )


# -- recurrent cells --------------------------------------------------------------------------


def cell(op: Operator) -> Linear:
    """It computes from x Wᵀ + b, which is linear in its input; on its input only.

    W is [D, gates · hidden, Cin], one matrix a direction, and the bias [D, 2 · gates · hidden]: b,
    and behind it what is added to the product of the hidden state. Channels lie on the last axis
    whatever the layout is.
    """
    directions, outputs, inputs = _weight(op, 1, rank=3)
    return Linear(
        weight=1,
        data=0,
        bias=3,
        groups=1,
        order="OI",
        out_axis=-1,
        in_axis=-1,
        out_channels=directions * outputs,
        in_channels=inputs,
        stacked=directions,
        directions=directions,
    )


# -- normalizations ---------------------------------------------------------------------------


def _diagonal(op: Operator, axis: int, *, bias: int | None, shared_by: int = 1) -> Linear:
    """Return how the scale of a normalization lies, a vector along an axis of its output."""
    (channels,) = _weight(op, 1, rank=1)
    return Linear(1, 0, bias, 1, "OI", axis, axis, channels, 0, shared_by=shared_by)


def layer_normalization(op: Operator) -> Linear:
    """LayerNormalization: γ and β of what is normalized over the last axis; on its output."""
    axis = op.integer("axis", -1)
    if axis != -1 and axis != op.required(0).rank - 1:
        raise Refusal(Reason.OTHER_AXIS, f"it normalizes from axis {axis} on")
    return _diagonal(op, -1, bias=None if op.op_type == "RMSNormalization" else 2)


def instance_normalization(op: Operator) -> Linear:
    """InstanceNormalization: γ and β of the channels; on its output."""
    return _diagonal(op, 1, bias=2)


_CHANNELWISE_OPSET = 21  # before, GroupNormalization has one scale and one shift for a group


def group_normalization(op: Operator) -> Linear:
    """GroupNormalization: γ and β of the channels, before opset 21 of the groups; on its output."""
    if op.opset >= _CHANNELWISE_OPSET:
        return _diagonal(op, 1, bias=2)
    channels, groups = op.required(0).size(1), op.integer("num_groups", 1)
    if groups < 1 or channels % groups:
        raise Refusal(Reason.BAD_PARAMETERS, f"num_groups={groups}, {channels} channels")
    return _diagonal(op, 1, bias=2, shared_by=channels // groups)


LINEAR: Mapping[str, LinearRow] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "DeformConv": deformable_convolution,
    "Gemm": general_product,
    "MatMul": matrix_product,
    "Einsum": contraction,
    "RNN": cell,
    "GRU": cell,
    "LSTM": cell,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
}
