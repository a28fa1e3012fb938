"""Constants that a model computes, and another has stored: no two programs round them alike.

NFNet standardizes its weights when it runs. A tool that computes them beforehand adds up in another
order, and by how much that may change them tells the original's own evaluation, beside one in
float64.
"""

import numpy as np
import onnx

from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.dtypes import Array, is_float, unit_roundoff, wide
from bnfold.verification.operators.evaluate import constant_node
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.scopes import Scope

_TIMES = 4.0
"""How many times what the original's own evaluation is off another one may be off from it."""
_NEAR = 64.0
"""Roundings of the largest number; of what is farther apart nothing is computed."""


def is_another_evaluation(old: Scope, new: Scope, name: str) -> bool:
    """Tell whether a constant of the candidate is what the original computes, rounded otherwise."""
    home = old.home(name)
    made = None if home is None else home.producers.get(name)
    if home is None or made is None or made[0].op_type == "Constant":
        return False
    if not (old.is_constant(name) and new.is_constant(name)):
        return False
    try:
        ours, theirs = old.constant(name), new.constant(name)
        if not _is_near(ours, theirs):
            return False
        off = _off(ours, theirs)
        return off == 0 or off <= _TIMES * _own_error(home, name)
    except (EvaluationError, TooLargeError):
        return False


def _is_near(ours: Array, theirs: Array) -> bool:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape or not ours.size:
        return False
    if not is_float(ours):
        return False
    largest = float(np.abs(wide(ours)).max())
    return _off(ours, theirs) <= _NEAR * unit_roundoff(ours.dtype) * largest


def _off(ours: Array, theirs: Array) -> float:
    return float(np.abs(wide(ours) - wide(theirs)).max())


def _own_error(scope: Scope, name: str) -> float:
    """Return by how much the original's evaluation of a constant is off one in float64."""
    values: dict[str, Array] = {}
    for node in _leading_to(scope, name):
        inputs = [_wide(scope, values, read) if read else None for read in node.input]
        made = constant_node(node, scope.opsets, inputs)
        values |= dict(zip(filter(None, node.output), made, strict=False))
    return _off(scope.constant(name), values[name])


def _wide(scope: Scope, values: dict[str, Array], name: str) -> Array:
    return values[name] if name in values else wide(scope.constant(name))


def _leading_to(scope: Scope, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that compute a constant from stored ones, in order."""
    places: set[int] = set()
    pending = [name]
    while pending:
        node, _ = scope.producers.get(pending.pop(), (None, 0))
        if node is not None and node.op_type != "Constant" and scope.places[id(node)] not in places:
            places.add(scope.places[id(node)])
            pending += filter(None, node.input)
    return [scope.nodes[place] for place in sorted(places)]
