"""Between which numbers a tensor lies whatever enters, so that some bounds change nothing."""

import math
from collections.abc import Iterator

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError, default_domain
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.scopes import Scope

Range = tuple[float, float]

_ANY: Range = (-math.inf, math.inf)
_FROM_ZERO: Range = (0.0, math.inf)
_RANGES = {
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Softmax"), (0.0, 1.0)),
    **dict.fromkeys(("Cos", "Erf", "Sin", "Softsign", "Tanh"), (-1.0, 1.0)),
    **dict.fromkeys(("ReduceSumSquare", "Softplus"), _FROM_ZERO),
    "LogSoftmax": (-math.inf, 0.0),
}
_ONE_OF_ITS_INPUTS = {
    "Concat", "Flatten", "Identity", "Max", "Min", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool",
    "ReduceMax", "ReduceMin",
}  # fmt: skip
"""What makes nothing but numbers that enter."""
_ALL_ENTER = {"Add", "Concat", "Max", "Min", "Mul", "Sum"}
"""Of which all inputs count; of the others, the first one."""
_SUMS = {
    "Add",
    "Mul",
    "Sum",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
}
_CLAMPS = {"Clip", "Max", "Min", "Relu"}
"""What keeps a tensor between bounds."""
_AS_IT_IS_FROM_ZERO = {"Abs", "Celu", "Elu", "LeakyRelu", "Relu"}
"""What gives back every number that is not negative."""
_DEEPEST = 12
"""Over so many operators a range is looked for."""
_CLIP_INPUTS = 11
"""From this version on the bounds of a Clip are inputs."""


@frozen
class Clamp:
    """A node that keeps a tensor between constant bounds.

    Attributes:
        operand: The tensor.
        low: The lower bound; None where there is none. Either is a constant's name or a number.
        high: The upper bound.
    """

    operand: str
    low: str | float | None = None
    high: str | float | None = None


def clamp_of(node: onnx.NodeProto, scope: Scope) -> Clamp | None:
    """Return what a node bounds, and by what; None where it does something else."""
    if node.op_type not in _CLAMPS or not default_domain(node) or not node.input:
        return None
    if any(a.ref_attr_name for a in node.attribute):
        return None
    if node.op_type == "Relu":
        return Clamp(node.input[0], low=0.0)
    if node.op_type in {"Max", "Min"} and len(node.input) == 2:  # noqa: PLR2004 - two operands
        return _by_a_constant(node, scope)
    return _of_a_clip(node, scope) if node.op_type == "Clip" else None


def _of_a_clip(node: onnx.NodeProto, scope: Scope) -> Clamp | None:
    if scope.opsets.get("", 0) < _CLIP_INPUTS:
        stated = {a.name: a.f for a in node.attribute}
        return Clamp(node.input[0], stated.get("min"), stated.get("max"))
    bounds = [*node.input[1:3], "", ""][:2]
    if all(scope.is_constant(bound) for bound in bounds if bound):
        return Clamp(node.input[0], bounds[0] or None, bounds[1] or None)
    return None


def _by_a_constant(node: onnx.NodeProto, scope: Scope) -> Clamp | None:
    for operand, bound in (node.input, reversed(node.input)):
        if scope.is_constant(bound) and not scope.is_constant(operand):
            is_low = node.op_type == "Max"
            return Clamp(operand, bound if is_low else None, None if is_low else bound)
    return None


def numbers_of(scope: Scope, bound: str | float | None) -> Array | None:
    """Return a bound as an array; None where there is none, or it is not known."""
    if bound is None or isinstance(bound, float):
        return None if bound is None else np.array(bound)
    try:
        made = scope.constant(bound)
    except (EvaluationError, TooLargeError):
        return None
    return made if made.size and made.dtype.kind != "O" else None


def bounded_anyway(node: onnx.NodeProto, scope: Scope) -> tuple[str, Array | None] | None:
    """Return the tensor that a node gives back because it lies between its bounds whatever enters.

    With the bounds that may enlarge it, if there are such. None where it may change the tensor.
    """
    if not default_domain(node) or not node.input:
        return None
    if node.op_type in _AS_IT_IS_FROM_ZERO:
        lies = range_of(scope, node.input[0])[0] >= 0
        return (node.input[0], None) if lies else None
    clamp = clamp_of(node, scope)
    if clamp is None:
        return None
    low, high = numbers_of(scope, clamp.low), numbers_of(scope, clamp.high)
    if (low is None) != (clamp.low is None) or (high is None) != (clamp.high is None):
        return None
    least, most = range_of(scope, clamp.operand)
    within = (low is None or (low <= least).all()) and (high is None or (high >= most).all())
    return (clamp.operand, low if high is None else high) if within else None


def range_of(scope: Scope, name: str, depth: int = _DEEPEST) -> Range:
    """Return between which numbers the elements of a tensor lie."""
    home = scope.home(name)
    node = home.producers[name][0] if home is not None and name in home.producers else None
    if home is None or node is None or not depth or not default_domain(node):
        return _ANY
    clamp = clamp_of(node, home)
    if clamp is not None:
        return _clamped(home, clamp, range_of(home, clamp.operand, depth - 1))
    if node.op_type in _ONE_OF_ITS_INPUTS:
        return _of_any(_ranges_of_inputs(home, node, depth))
    if node.op_type in _SUMS:
        entering = _ranges_of_inputs(home, node, depth)
        return _FROM_ZERO if all(least >= 0 for least, _ in entering) else _ANY
    return _RANGES.get(node.op_type, _FROM_ZERO if row_of(node).never_negative else _ANY)


def _ranges_of_inputs(scope: Scope, node: onnx.NodeProto, depth: int) -> Iterator[Range]:
    for name in node.input if node.op_type in _ALL_ENTER else node.input[:1]:
        if scope.is_constant(name):
            numbers = numbers_of(scope, name)
            yield _ANY if numbers is None else (float(numbers.min()), float(numbers.max()))
        else:
            yield range_of(scope, name, depth - 1)


def _of_any(ranges: Iterator[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return min(lows), max(highs)


def _clamped(scope: Scope, clamp: Clamp, entering: Range) -> Range:
    low, high = numbers_of(scope, clamp.low), numbers_of(scope, clamp.high)
    least = entering[0] if low is None else max(entering[0], float(low.min()))
    most = entering[1] if high is None else min(entering[1], float(high.max()))
    # A Clip whose bounds are crossed gives the upper one.
    return (min(least, most), max(least, most))
