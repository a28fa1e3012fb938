"""Between which numbers a tensor lies whatever enters, so that some bounds change nothing."""

from collections.abc import Iterator

import numpy as np
import onnx

from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.dtypes import FLOATS, Array
from bnfold.verification.operators.intervals import ANY, Clamp, Range
from bnfold.verification.operators.node import EvaluationError, opset_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.scopes import Scope

_DEEPEST = 12
"""Over so many operators a range is looked for."""


def clamp_of(node: onnx.NodeProto, scope: Scope) -> Clamp | None:
    """Return what a node bounds, and by what; None where it does something else."""
    clamping = row_of(node).clamping
    if clamping is None or not node.input or any(a.ref_attr_name for a in node.attribute):
        return None
    return clamping(node, scope.opsets, scope.is_constant)


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
    if not node.input:
        return None
    if row_of(node).keeps_positive:
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
    if home is None or node is None or not depth:
        return ANY
    clamp = clamp_of(node, home)
    if clamp is not None:
        return _clamped(home, clamp, range_of(home, clamp.operand, depth - 1))
    row = row_of(node)
    rule = row.range_rule
    found = row.lies if rule is None else rule(_ranges_of_inputs(home, node, depth))
    return found if found == ANY or _is_of_floats(home, name) else ANY


def _is_of_floats(scope: Scope, name: str) -> bool:
    """Tell whether a tensor is known to be of floats; sums of integers wrap around.

    An operator's output has the type of the input of which its definition says so.
    """
    while name in scope.producers:
        node, index = scope.producers[name]
        stated = next((a.i for a in node.attribute if a.name == "to"), None)
        if stated is not None:
            return stated in FLOATS
        try:
            schema = onnx.defs.get_schema(node.op_type, opset_of(node, scope.opsets), node.domain)
        except onnx.defs.SchemaError:
            return False
        made = schema.outputs[min(index, len(schema.outputs) - 1)]
        if all("float" in each or "double" in each for each in made.types):
            return True
        alike = (read for read, formal in zip(node.input, schema.inputs, strict=False)
                 if read and formal.type_str == made.type_str)  # fmt: skip
        name = next(alike, "")
    if scope.parent is not None and not scope.defines(name):
        return _is_of_floats(scope.parent, name)
    stored = scope.tensors.get(name)
    return (scope.types.get(name, 0) if stored is None else stored.data_type) in FLOATS


def _ranges_of_inputs(scope: Scope, node: onnx.NodeProto, depth: int) -> Iterator[Range]:
    for name in node.input:
        if scope.is_constant(name):
            numbers = numbers_of(scope, name)
            yield ANY if numbers is None else (float(numbers.min()), float(numbers.max()))
        else:
            yield range_of(scope, name, depth - 1)


def _clamped(scope: Scope, clamp: Clamp, entering: Range) -> Range:
    low, high = numbers_of(scope, clamp.low), numbers_of(scope, clamp.high)
    least = entering[0] if low is None else max(entering[0], float(low.min()))
    most = entering[1] if high is None else min(entering[1], float(high.max()))
    # A Clip whose bounds are crossed gives the upper one.
    return (min(least, most), max(least, most))
