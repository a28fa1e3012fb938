"""The CARRY table: how does an affine *move* through this node, up or down?

For a node f of one data input, a row knows pairs of affines with

    f(A_in(x)) = A_out(f(x))      for every x.

`up` answers A_in for a given A_out, `down` answers A_out for a given A_in. A row answers for all
inputs or outputs of a node at once; those that it does not mention do not change. Where an operator
only moves elements about, a row moves the values of the affine in the same way; it never compares
sizes to guess where the channels went.

A constant branch can take any affine, because it is recomputed. Where `up` could answer in several
ways, `ways_up` lists them, and the caller of `up` names one.
"""

from collections.abc import Callable, Iterable, Mapping

import onnx

from bnfold.reasons import Reason, Refusal
from bnfold.rules import combining, reshaping, selecting
from bnfold.rules.affine import Affine
from bnfold.rules.affine_nodes import check_dropout
from bnfold.rules.branching import Product, Rows, Sum
from bnfold.rules.operator import Operator
from bnfold.rules.passage import (
    Blind,
    CarryRow,
    Concatenation,
    Move,
    Single,
    Splitting,
    never,
)


def _same(move: Move, says: str, *, takes_shift: Callable[[Iterable[bool]], bool] = all) -> Single:
    return Single(move, move, says, takes_shift=takes_shift)


def _anything(op: Operator, affine: Affine) -> Affine:
    del op
    return affine


def _at_inference(op: Operator, affine: Affine) -> Affine:
    """Dropout drops nothing; in training it would drop the shift too."""
    check_dropout(op)
    return affine


def _if(law: Callable[[Affine], Affine], move: Move) -> Move:
    """Return a move of those affines that a law lets pass."""
    return lambda op, affine: move(op, law(affine))


_WIDTH: Mapping[int, int] = {
    onnx.TensorProto.FLOAT16: 1,
    onnx.TensorProto.BFLOAT16: 1,
    onnx.TensorProto.FLOAT: 2,
    onnx.TensorProto.DOUBLE: 3,
}


def _cast(op: Operator, affine: Affine, *, to_wider: bool) -> Affine:
    """An affine may go to the wider side of a cast, where it loses nothing.

    To the narrower side it goes only where what it makes is cast back to that type at once: then
    it is rounded to it either way.
    """
    source, target = op.required(0).elem_type, op.integer("to", 0)
    widths = _WIDTH.get(source, 0), _WIDTH.get(target, 0)
    if not all(widths):
        raise Refusal(Reason.NOT_LINEAR, "it casts from or to no floating-point type")
    wider = widths[1] > widths[0] if to_wider else widths[0] > widths[1]
    back = not to_wider and op.output.ends_as() == {source}
    if not (wider or source == target or back):
        raise Refusal(Reason.INEXACT_CAST)
    return affine


_SCALE = "a positive scale without shift"
_POSITIVE = _same(_if(combining.positive_scale, _anything), _SCALE, takes_shift=never)
"""f(s x) = s f(x) for s > 0."""
_PASS = _same(_anything, "any affine")
_MEAN = "any affine that does not vary over what is averaged"
_MAXIMUM = _same(_if(combining.keeping_order, combining.mean), "a positive scale and any shift")
_NORM = _same(_if(combining.positive_scale, combining.mean), _SCALE, takes_shift=never)


def _reduced(law: Callable[[Affine], Affine], pool: Single) -> Single:
    """Return the row of a reduction, which lets the affines of a law pass as a pool does."""
    up, down = (_if(law, m) for m in (combining.reduce_mean_up, combining.reduce_mean_down))
    return Single(up, down, pool.says, takes_shift=pool.takes_shift)


CARRY: Mapping[str, CarryRow] = {
    "Identity": _PASS,
    "Dropout": _same(_at_inference, "any affine"),
    "Cast": Single(
        lambda op, affine: _cast(op, affine, to_wider=False),
        lambda op, affine: _cast(op, affine, to_wider=True),
        "any affine, to the side of the wider type, or where it is cast back",
    ),
    "Transpose": Single(reshaping.transpose_up, reshaping.transpose_down),
    "Reshape": Single(reshaping.reshape_up, reshaping.reshape_down),
    "Flatten": Single(reshaping.reshape_up, reshaping.reshape_down),
    "Squeeze": Single(reshaping.squeeze_up, reshaping.squeeze_down),
    "Unsqueeze": Single(reshaping.unsqueeze_up, reshaping.unsqueeze_down),
    "Concat": Concatenation(),
    "Split": Splitting(),
    "Slice": Single(selecting.slice_up, selecting.slice_down, alone_up=selecting.slice_alone_up),
    "Gather": Single(
        selecting.gather_up, selecting.gather_down, alone_up=selecting.gather_alone_up
    ),
    "Pad": Single(
        selecting.pad_up,
        selecting.pad_down,
        "any affine under which a constant fill stays one number",
        stated=selecting.pad_stated,
    ),
    "DepthToSpace": Single(reshaping.depth_to_space_up, reshaping.depth_to_space_down),
    "SpaceToDepth": Single(reshaping.space_to_depth_up, reshaping.space_to_depth_down),
    "MaxPool": _MAXIMUM,
    "GlobalMaxPool": _MAXIMUM,
    "AveragePool": _same(combining.average, f"{_MEAN}; a shift only if no padding is"),
    "GlobalAveragePool": _same(combining.mean, _MEAN),
    "LpPool": _NORM,
    "GlobalLpPool": _NORM,
    "ReduceMean": Single(combining.reduce_mean_up, combining.reduce_mean_down, _MEAN),
    "ReduceSum": Single(
        combining.reduce_sum_up,
        combining.reduce_sum_down,
        "any affine; the shift as often as elements",
    ),
    "ReduceMax": _reduced(combining.keeping_order, _MAXIMUM),
    "ReduceMin": _reduced(combining.keeping_order, _MAXIMUM),
    "ReduceL1": _reduced(combining.positive_scale, _NORM),
    "ReduceL2": _reduced(combining.positive_scale, _NORM),
    "Resize": _same(combining.resize, "any affine that does not vary along a resized axis"),
    "Upsample": _same(combining.resize, "any affine that does not vary along a resized axis"),
    "Relu": _POSITIVE,
    "LeakyRelu": _POSITIVE,
    "PRelu": _POSITIVE,
    "Abs": _POSITIVE,
    "Clip": Single(
        _anything,
        _anything,
        "any affine under which each finite bound stays one number",
        stated=_anything,
    ),
    "Add": Sum(),
    "Sub": Sum(signs=(1, -1)),
    "Sum": Sum(),
    "Mul": Product(),
    "MatMul": Rows(),
    "Shape": Blind(),
    "Size": Blind(),
    "CastLike": Blind(reads=1),
}

ROUNDED_LATER = frozenset(
    {
        "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operators behind which a number may as well be rounded as before them: they choose or move it."""

BARRIERS: Mapping[str, Reason] = {
    "QuantizeLinear": Reason.QUANTIZED_ACTIVATION,
    "DequantizeLinear": Reason.QUANTIZED_ACTIVATION,
}
"""Operators that have a reason of their own for letting nothing pass."""
