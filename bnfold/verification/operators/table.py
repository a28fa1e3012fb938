"""The table of operators: all that the verifier knows of each, one row an operator.

It is written apart from the tables of the folder (`bnfold.rules`) on purpose: what one of them has
wrong the other must not repeat. They have in common the names of the operators alone, and a test
that tells which name is missing.
"""

import math
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators import (
    bending,
    chunks,
    contraction,
    deformable,
    demands,
    elementwise,
    intervals,
    kernels,
    linear_rules,
    magnitude,
    normalizing,
    pooling,
    resizing,
)
from bnfold.verification.operators.demands import Demand
from bnfold.verification.operators.intervals import ANY, FROM_ZERO, Range
from bnfold.verification.operators.magnitude import Rule
from bnfold.verification.operators.node import Attributes, Call, Inputs, needed
from bnfold.verification.operators.weights import KERNEL, MATRIX, TRANSPOSED_KERNEL, Weight

Kernel = Callable[[Call], Array | None]
"""Computes the one output of a node in float64; None for what is left to onnx's reference
evaluator."""


class Kind(Enum):
    """What an operator does, roughly."""

    LINEAR = auto()
    """A linear map of one of its inputs, which absorbs an affine."""
    AFFINE = auto()
    """Elementwise, and nothing but a channel affine where one branch enters."""
    ELEMENTWISE = auto()
    """Elementwise, but no affine."""
    MOVEMENT = auto()
    """Moves elements, repeats them or leaves some out."""
    COMBINATION = auto()
    """Combines elements: pools, reductions, interpolation."""
    SHAPE = auto()
    """Sees the shape of a tensor only."""
    RANDOM = auto()
    """Gives something else each time."""
    UNKNOWN = auto()
    """Anything else."""


class Window(Enum):
    """How an operator's window goes over its input."""

    SLIDING = auto()
    """Every window gives one element."""
    SPREADING = auto()
    """Every element becomes a window, as in a transposed convolution."""


class Indexes(NamedTuple):
    """Places in a tensor.

    Attributes:
        places: The input that holds them.
        within: The input in which they are places.
        axis: The attribute that says along which axis; without it, it is the first one.
        several: Whether each place is a list, of places along several axes from that one on.
    """

    places: int
    within: int
    axis: str = ""
    several: bool = False


class Cell(NamedTuple):
    """A recurrent cell.

    Attributes:
        gates: How many gates it has.
        activations: Its functions for each direction, in lower case, where it states none.
    """

    gates: int
    activations: tuple[bytes, ...]


@frozen
class Row:
    """What the verifier knows of an operator.

    Attributes:
        kind: What it does, roughly.
        magnitude: Computes the magnitudes of its outputs; without one, a fold that goes through the
            operator cannot be proved.
        kernel: Computes its output in float64; without one, onnx's reference evaluator does.
        weight: How the axes of its weight are to be read, if it is linear.
        linear_map: Writes its output as a linear map, given its operands as such; without one, the
            comparison of summed weights (`proof.summation`) begins anew behind the operator.
        demand: Which shapes it demands of its inputs, where it demands any.
        window: How its window goes over the input, if it has one.
        scale_matters: No factor of what enters becomes one of what it makes.
        separates_channels: No channel is lost in it or mixed with another.
        lies: Between which numbers its output lies whatever enters.
        range_from: Tells that from the ranges of its inputs; see `range_rule`.
        clamping: Tells which bounds it keeps a tensor between, if it does.
        keeps_positive: It gives back every number that is not negative as it is.
        bends: Tells where its function bends; without that, it does not, or nobody asks.
        adds: It adds up its operands, or takes them away.
        multiplies: Both of its operands may vary, and their errors add up.
        normalizes: It is a batch normalization, which a fold takes away.
        brings_in: It brings in numbers of its own, as the value of a Pad, the bounds of a Clip.
        keeps_axes: It moves elements along an axis, from none to another.
        counts_elements: It counts elements along axes, as a Slice does.
        parameters: Inputs that say where it bends, or what it fills with, and are no weights.
        kept: Attributes by name, and inputs by place, that no fold around it changes: a slope, or
            what keeps a variance from being zero.
        of_type_alone: The input of which nothing but the type of its elements counts, if any.
        decided_by: Inputs that decide what it computes, so that they must not be moved by rounding:
            the square of a negative number is a number, its power of 2.0000002 is none.
        casts: It rounds to another type, of which nothing shows in float64.
        decides: A difference in the last digit of its input can change an index, a truth value or a
            number of elements in its output.
        neutral: The constant that as its second operand gives back the first.
        commutes: Its two operands may change places.
        turned: What says of two operands that change places what it says of them.
        equal_as_less: Of a comparison: it says of equal operands what it says where the first one
            is less.
        changed_in: Opsets that let it compute something else in some cases, though what it is given
            be said in the same way.
        choice: Which of its outputs holds the indices that it has chosen, if the margin of that
            choice can be computed.
        indexes: Which of its inputs holds places in which other one, along which axis.
        axis: Which of its inputs holds an axis of the first one, if one does.
        more_axes: How many more axes those have that it states axes of than the first input; None
            where they are others.
        scaled_along: The axis that it states is that of a scale for each channel.
        along_one_axis_from: From which version on it goes along the axis that it states, before
            along all from that one on, if it does so.
        cell: The recurrent cell that it is, if it is one.
        scales: Says which of its inputs multiplies lengths, if one does.
        in_chunks: How its output is computed chunk by chunk; see `chunk_rule`.
    """

    kind: Kind = Kind.UNKNOWN
    magnitude: Rule | None = None
    kernel: Kernel | None = None
    weight: Weight | None = None
    linear_map: linear_rules.Rule | None = None
    demand: Demand | None = None
    window: Window | None = None
    scale_matters: bool = False
    separates_channels: bool = False
    lies: Range = ANY
    range_from: intervals.Rule | None = None
    clamping: intervals.Clamping | None = None
    keeps_positive: bool = False
    bends: bending.Rule | None = None
    adds: bool = False
    multiplies: bool = False
    normalizes: bool = False
    brings_in: bool = False
    keeps_axes: bool = False
    counts_elements: bool = False
    parameters: tuple[int, ...] = ()
    kept: tuple[str | int, ...] = ()
    of_type_alone: int | None = None
    decided_by: tuple[int, ...] = ()
    casts: bool = False
    decides: bool = False
    neutral: float | None = None
    commutes: bool = False
    turned: str = ""
    equal_as_less: bool = False
    changed_in: tuple[int, ...] = ()
    choice: int | None = None
    indexes: Indexes | None = None
    axis: int | None = None
    more_axes: int | None = 0
    scaled_along: bool = False
    along_one_axis_from: int | None = None
    cell: Cell | None = None
    scales: Callable[[int], int] | None = None
    in_chunks: chunks.Rule | None = None

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear map that absorbs affines."""
        return self.kind is Kind.LINEAR

    @property
    def is_affine(self) -> bool:
        """Whether it is nothing but a channel affine where one branch enters."""
        return self.kind is Kind.AFFINE

    @property
    def is_elementwise(self) -> bool:
        """Whether it computes each element of its output from those in the same place."""
        return self.kind in {Kind.AFFINE, Kind.ELEMENTWISE}

    @property
    def chunk_rule(self) -> chunks.Rule | None:
        """How its output is computed chunk by chunk; None where all of it is at once."""
        if self.in_chunks is None and self.is_elementwise and self.of_type_alone is None:
            return chunks.elementwise
        return self.in_chunks

    @property
    def never_negative(self) -> bool:
        """Whether it makes nothing below zero."""
        return self.lies[0] >= 0

    @property
    def range_rule(self) -> intervals.Rule | None:
        """How its range follows from those of its inputs; None where it does not."""
        if self.range_from is None and self.kind is Kind.MOVEMENT and not self.brings_in:
            return intervals.of_first
        return self.range_from

    @property
    def keeps_numbers(self) -> bool:
        """Whether its output consists of the numbers that enter, or of such in their place."""
        moves = self.kind is Kind.MOVEMENT and self.separates_channels
        return moves or self.is_elementwise

    def elements_of(self, node: onnx.NodeProto) -> list[str]:
        """Return the inputs of a node of whose elements something may reach its output."""
        if self.sees_shape_only:
            return []
        return [name for i, name in enumerate(node.input) if i != self.of_type_alone]

    @property
    def sees_shape_only(self) -> bool:
        """Whether the numbers that enter do not matter."""
        return self.kind is Kind.SHAPE


UNKNOWN = Row()
"""What is known of an operator that has no row, or is none of ONNX's own."""


def row_of(node: onnx.NodeProto) -> Row:
    """Return the row of a node's operator."""
    domain = node.domain  # asked very often, so that each call counts
    known = not domain or domain == "ai.onnx"
    return TABLE.get(node.op_type, UNKNOWN) if known else UNKNOWN


def row_named(op_type: str) -> Row:
    """Return the row of ONNX's operator after which a runtime's is named: FusedConv's, Conv's."""
    return TABLE.get(op_type.removeprefix("Fused"), UNKNOWN)


def _of_inputs(function: Callable[[Inputs], Array]) -> Kernel:
    return lambda call: function(call.inputs)


def _of_attributes(function: Callable[[Inputs, Attributes], Array | None]) -> Kernel:
    return lambda call: function(call.inputs, call.attributes)


def _of_data(function: Callable[[Array], Array]) -> Kernel:
    return lambda call: function(needed(call.inputs, 0))


def _linear(
    kernel: Kernel,
    weight: Weight,
    linear_map: linear_rules.Rule,
    demand: Demand | None = None,
    window: Window | None = None,
    in_chunks: chunks.Rule | None = None,
) -> Row:
    return Row(
        Kind.LINEAR, magnitude.linear, kernel, weight, linear_map, demand, window,
        separates_channels=True, in_chunks=in_chunks,
    )  # fmt: skip


def _sum(
    operator: Callable[[Array, Array], Array],
    rule: Rule,
    linear_map: linear_rules.Rule,
    *,
    commutes: bool = False,
    range_from: intervals.Rule | None = None,
) -> Row:
    return Row(
        Kind.AFFINE, rule, elementwise.binary(operator), linear_map=linear_map,
        separates_channels=True, range_from=range_from, adds=True, neutral=0.0, commutes=commutes,
    )  # fmt: skip


def _bent(
    slope: float | str,
    lies: Range = ANY,
    *,
    kept: tuple[str, ...] = (),
    bends: bending.Rule | None = None,
) -> Row:
    return Row(
        Kind.ELEMENTWISE, magnitude.no_steeper(slope), scale_matters=True, separates_channels=True,
        lies=lies, kept=kept, bends=bends,
    )  # fmt: skip


def _pool(
    kernel: Kernel | None,
    window: Window | None = None,
    *,
    linear_map: linear_rules.Rule | None = None,
    lies: Range = ANY,
    range_from: intervals.Rule | None = None,
    changed_in: tuple[int, ...] = (),
) -> Row:
    return Row(
        Kind.COMBINATION, magnitude.alike, kernel, linear_map=linear_map,
        demand=demands.of_window, window=window, separates_channels=True,
        lies=lies, range_from=range_from, changed_in=changed_in,
    )  # fmt: skip


def _normalization(lay: normalizing.Lay, *, changed_in: tuple[int, ...] = ()) -> Row:
    return Row(
        Kind.COMBINATION, normalizing.magnitude_by(lay), normalizing.normalized_by(lay),
        kept=("epsilon", "stash_type"), changed_in=changed_in,
    )  # fmt: skip


_NOT_NEGATIVE = Row(Kind.ELEMENTWISE, lies=FROM_ZERO)
_PASSED_ON = Row(
    Kind.AFFINE, magnitude.alike, _of_data(lambda x: x), linear_map=linear_rules.unchanged,
    separates_channels=True, range_from=intervals.of_first,
)  # fmt: skip
_REARRANGED = Row(Kind.MOVEMENT, magnitude.alike, separates_channels=True)
_PICKED = Row(Kind.MOVEMENT, magnitude.alike)
_AVERAGED = Row(Kind.COMBINATION, magnitude.alike, range_from=intervals.not_negative_as_first)
_NORM = Row(Kind.COMBINATION, magnitude.alike, lies=FROM_ZERO)
_AS_IT_IS_ABOVE_ZERO = Row(keeps_positive=True, bends=bending.at_zero)

TABLE: Mapping[str, Row] = {
    # linear maps
    "Conv": _linear(
        _of_attributes(kernels.conv), KERNEL, linear_rules.convolution, demands.of_conv,
        Window.SLIDING, chunks.convolution,
    ),
    "ConvTranspose": _linear(
        _of_attributes(kernels.conv_transpose), TRANSPOSED_KERNEL,
        linear_rules.transposed_convolution, demands.of_conv_transpose, Window.SPREADING,
    ),
    "DeformConv": Row(
        Kind.LINEAR, deformable.magnitude, _of_attributes(deformable.deform_conv), KERNEL,
        None, deformable.demand, Window.SLIDING, separates_channels=True, multiplies=True,
    ),
    "Gemm": _linear(_of_attributes(kernels.gemm), MATRIX, linear_rules.product, demands.of_gemm),
    "MatMul": _linear(
        _of_inputs(kernels.matmul), MATRIX, linear_rules.product, demands.of_product
    ),
    "Einsum": Row(
        Kind.LINEAR, magnitude.multilinear, _of_attributes(contraction.einsum),
        contraction.MATRIX, None, contraction.demand, separates_channels=True,
    ),
    # affines
    "BatchNormalization": Row(
        Kind.AFFINE, magnitude.normalization, elementwise.batch_normalization,
        linear_map=linear_rules.normalization, demand=demands.of_normalization,
        separates_channels=True, normalizes=True, in_chunks=chunks.per_channel,
    ),
    "Add": _sum(
        np.add, magnitude.alike, linear_rules.total, commutes=True,
        range_from=intervals.not_negative_as_all,
    ),
    "Sub": _sum(np.subtract, magnitude.as_by("Add"), linear_rules.difference),
    "Sum": Row(
        Kind.AFFINE, magnitude.alike, linear_map=linear_rules.total, separates_channels=True,
        range_from=intervals.not_negative_as_all, adds=True,
    ),
    "Mul": Row(
        Kind.AFFINE, magnitude.alike, elementwise.binary(np.multiply),
        linear_map=linear_rules.multiple, separates_channels=True,
        range_from=intervals.not_negative_as_all, multiplies=True, neutral=1.0, commutes=True,
    ),
    "Div": Row(
        Kind.AFFINE, magnitude.quotient, elementwise.division, linear_map=linear_rules.quotient,
        separates_channels=True, neutral=1.0,
    ),
    "Mod": Row(Kind.ELEMENTWISE, bends=bending.among_operands, changed_in=(28,)),
    "Neg": Row(
        Kind.AFFINE, magnitude.passes, _of_data(np.negative), linear_map=linear_rules.opposite,
        separates_channels=True,
    ),
    "Identity": _PASSED_ON,
    "Dropout": Row(
        Kind.AFFINE, magnitude.alike, elementwise.dropout, linear_map=linear_rules.unchanged,
        separates_channels=True,
    ),
    "Cast": Row(
        Kind.AFFINE, magnitude.cast, _of_attributes(elementwise.cast_to),
        separates_channels=True, casts=True,
    ),
    "CastLike": Row(
        Kind.AFFINE, magnitude.cast,
        _of_inputs(lambda inputs: elementwise.cast(needed(inputs, 0), needed(inputs, 1).dtype)),
        separates_channels=True, of_type_alone=1, casts=True,
    ),
    # elementwise, but no affine
    "Relu": Row(
        Kind.ELEMENTWISE, magnitude.closed_below, _of_data(lambda x: np.maximum(x, 0)),
        separates_channels=True, lies=FROM_ZERO, clamping=intervals.above_zero,
        keeps_positive=True,
    ),
    "LeakyRelu": Row(
        Kind.ELEMENTWISE, magnitude.two_slopes, separates_channels=True, keeps_positive=True,
        bends=bending.at_zero, kept=("alpha",),
    ),
    "PRelu": Row(
        Kind.ELEMENTWISE, magnitude.two_slopes, separates_channels=True,
        bends=bending.at_zero, parameters=(1,), kept=(1,), changed_in=(7,),
    ),
    "Clip": Row(
        Kind.ELEMENTWISE, magnitude.between_bounds, elementwise.clip, separates_channels=True,
        clamping=intervals.between_bounds, brings_in=True, parameters=(1, 2),
    ),
    "Abs": Row(
        Kind.ELEMENTWISE, magnitude.passes, _of_data(np.abs), separates_channels=True,
        lies=FROM_ZERO, keeps_positive=True, bends=bending.at_zero,
    ),
    "Max": Row(
        Kind.ELEMENTWISE, magnitude.largest_of(1.0), range_from=intervals.of_all,
        clamping=intervals.above_a_constant, bends=bending.among_operands, parameters=(0, 1, 2),
    ),
    "Min": Row(
        Kind.ELEMENTWISE, magnitude.largest_of(-1.0), range_from=intervals.of_all,
        clamping=intervals.below_a_constant, bends=bending.among_operands, parameters=(0, 1, 2),
    ),
    "Sigmoid": _bent(0.25, (0.0, 1.0)),
    "Softplus": _bent(1.0, FROM_ZERO),
    "HardSigmoid": _bent(
        "alpha", (0.0, 1.0), kept=("alpha", "beta"), bends=bending.hard(0.2, 0.5)
    ),
    "HardSwish": _bent(1.5, bends=bending.hard(1 / 6, 0.5)),
    "Erf": _bent(1.13, (-1.0, 1.0)),
    "Softsign": _bent(1.0, (-1.0, 1.0)),
    "Tanh": _bent(1.0, (-1.0, 1.0)),
    "Atan": _bent(1.0),
    "Gelu": _bent(1.13),
    "Mish": _bent(1.1),
    "Exp": _NOT_NEGATIVE,
    "Softmax": Row(lies=(0.0, 1.0), changed_in=(13,), along_one_axis_from=13),
    "Sqrt": _NOT_NEGATIVE,
    "Pow": Row(Kind.ELEMENTWISE, decided_by=(1,)),
    "Where": Row(Kind.ELEMENTWISE, bends=bending.where_chosen),
    "Cos": Row(lies=(-1.0, 1.0)),
    "Sin": Row(lies=(-1.0, 1.0)),
    "Celu": _AS_IT_IS_ABOVE_ZERO,
    "Elu": _AS_IT_IS_ABOVE_ZERO,
    "Selu": Row(bends=bending.at_zero),
    "ThresholdedRelu": Row(bends=bending.at_alpha),
    "Shrink": Row(bends=bending.seldom),
    **dict.fromkeys(("And", "Not", "Or", "Xor"), Row(Kind.ELEMENTWISE, magnitude.alike)),
    # what moves elements
    "Transpose": Row(
        Kind.MOVEMENT, magnitude.alike, linear_map=linear_rules.turned,
        demand=demands.of_permutation, separates_channels=True, in_chunks=chunks.turned,
    ),
    "Reshape": Row(
        Kind.MOVEMENT, magnitude.alike, separates_channels=True, in_chunks=chunks.rearranged
    ),
    "Flatten": _REARRANGED,
    "Squeeze": _REARRANGED,
    "Unsqueeze": Row(Kind.MOVEMENT, magnitude.alike, separates_channels=True, more_axes=None),
    "Concat": Row(
        Kind.MOVEMENT, magnitude.alike, _of_attributes(elementwise.concatenated),
        separates_channels=True, range_from=intervals.of_all, keeps_axes=True,
        in_chunks=chunks.concatenation,
    ),
    "Pad": Row(
        Kind.MOVEMENT, magnitude.alike, elementwise.pad, linear_map=linear_rules.zeros_around,
        separates_channels=True, brings_in=True, keeps_axes=True, parameters=(2,),
    ),
    "Split": _PICKED,
    "Slice": Row(
        Kind.MOVEMENT, magnitude.alike, linear_map=linear_rules.crop, keeps_axes=True,
        counts_elements=True,
    ),
    "Gather": Row(Kind.MOVEMENT, magnitude.alike, indexes=Indexes(1, 0, "axis")),
    **dict.fromkeys(("GatherElements", "ScatterElements"), Row(indexes=Indexes(1, 0, "axis"))),
    **dict.fromkeys(
        ("GatherND", "ScatterND"), Row(indexes=Indexes(1, 0, "batch_dims", several=True))
    ),
    "EmbedLayerNormalization": Row(indexes=Indexes(0, 2)),  # of ONNX Runtime
    "Expand": _PICKED,
    "Tile": _PICKED,
    "DepthToSpace": _PICKED,
    "SpaceToDepth": _PICKED,
    # what combines elements
    "MaxPool": _pool(_of_attributes(pooling.maximum), Window.SLIDING, changed_in=(22,)),
    "AveragePool": _pool(
        _of_attributes(pooling.mean), Window.SLIDING, linear_map=linear_rules.average,
        changed_in=(7, 11, 22),
    ),
    "LpPool": _pool(_of_attributes(pooling.norm), Window.SLIDING, lies=FROM_ZERO),
    "GlobalAveragePool": _pool(
        _of_data(pooling.global_mean), range_from=intervals.not_negative_as_first
    ),
    "GlobalMaxPool": _pool(_of_data(pooling.global_maximum), range_from=intervals.of_first),
    "GlobalLpPool": _pool(_of_attributes(pooling.global_norm), lies=FROM_ZERO),
    "ReduceMean": _AVERAGED,
    "ReduceSum": _AVERAGED,
    "ReduceMax": Row(Kind.COMBINATION, magnitude.alike, range_from=intervals.of_first),
    "ReduceL1": _NORM,
    "ReduceL2": _NORM,
    "ReduceMin": Row(
        Kind.COMBINATION, magnitude.as_by("ReduceMax"), range_from=intervals.of_first
    ),
    "ReduceSumSquare": Row(lies=FROM_ZERO),
    "LayerNormalization": _normalization(normalizing.last_axes),
    "RMSNormalization": _normalization(normalizing.root_mean_square),
    "InstanceNormalization": _normalization(normalizing.spatial),
    "GroupNormalization": _normalization(normalizing.groups, changed_in=(21,)),
    "Resize": Row(
        Kind.COMBINATION, magnitude.interpolation, resizing.resize, decided_by=(1, 2),
        kept=("cubic_coeff_a",), changed_in=(19,), scales=resizing.scales_of_resize,
    ),
    "Upsample": Row(
        Kind.COMBINATION, magnitude.interpolation, resizing.upsample, decided_by=(1,),
        scales=lambda _: 1,
    ),
    # what sees shapes only
    "Shape": Row(Kind.SHAPE, kernel=elementwise.shape),
    "Size": Row(Kind.SHAPE, kernel=_of_data(lambda x: np.asarray(x.size, np.int64))),
    # recurrent cells, which are taken apart
    "RNN": Row(cell=Cell(1, (b"tanh",))),
    "GRU": Row(cell=Cell(3, (b"sigmoid", b"tanh"))),
    "LSTM": Row(cell=Cell(4, (b"sigmoid", b"tanh", b"tanh"))),
    # of which nothing is known but when it changed, or what its axes are
    "OneHot": Row(more_axes=1),
    **dict.fromkeys(("ConcatFromSequence", "SplitToSequence"), Row(more_axes=None)),
    "DequantizeLinear": Row(scaled_along=True),
    "QuantizeLinear": Row(decides=True, scaled_along=True),
    "CumSum": Row(axis=1),
    "Attention": Row(changed_in=(24, 25)),
    "DFT": Row(changed_in=(20,)),
    "LogSoftmax": Row(lies=(-math.inf, 0.0), changed_in=(13,), along_one_axis_from=13),
    "Range": Row(changed_in=(27,)),
    "RoiAlign": Row(changed_in=(16,)),
    "Scan": Row(changed_in=(9,), more_axes=None),
    # what decides
    "ArgMax": Row(decides=True, choice=0),
    "ArgMin": Row(decides=True, choice=0),
    "TopK": Row(decides=True, choice=1),
    "Hardmax": Row(decides=True, changed_in=(13,), along_one_axis_from=13),
    "Greater": Row(
        bends=bending.as_greater(turned=False), decides=True, turned="Less", equal_as_less=True
    ),
    "Less": Row(bends=bending.as_greater(turned=True), decides=True, turned="Greater"),
    "GreaterOrEqual": Row(
        bends=bending.as_greater(turned=True), decides=True, turned="LessOrEqual"
    ),
    "LessOrEqual": Row(
        bends=bending.as_greater(turned=False), decides=True, turned="GreaterOrEqual",
        equal_as_less=True,
    ),
    "Equal": Row(bends=bending.where_compared, decides=True),
    "IsInf": Row(bends=bending.where_compared),
    "IsNaN": Row(bends=bending.where_compared),
    "If": Row(bends=bending.where_chosen),
    "Sign": Row(bends=bending.at_zero, decides=True),
    **dict.fromkeys(("Ceil", "Floor", "Round"), Row(bends=bending.seldom, decides=True)),
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "NonMaxSuppression", "NonZero", "Unique"),
        Row(decides=True),
    ),
    # what gives something else each time
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
         "RandomUniformLike"),
        Row(Kind.RANDOM),
    ),
}  # fmt: skip
