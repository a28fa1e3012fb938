"""Inlining the local functions that must be, and no others.

A function's body is folded where it stands when its parameters are constant there. Where they
are arguments, they may still be constant at the call; then the function, and whatever calls it
from another function, has to be inlined first. ONNX's own inliner does it.
"""

from collections.abc import Collection, Iterator

import onnx

from bnfold.graph.plan import Plan
from bnfold.graph.view import View
from bnfold.reasons import Reason

FunctionId = tuple[str, str]
"""The domain and the name of a local function."""

_FROM_THE_CALL = frozenset(
    {Reason.FUNCTION_ARGUMENT, Reason.WEIGHT_NOT_CONSTANT, Reason.BIAS_NOT_CONSTANT}
)


def functions_in_the_way(view: View, plan: Plan) -> tuple[FunctionId, ...]:
    """Return the functions in which something is kept because it depends on the call."""
    wanted = set(_blocked(view, plan))
    if not wanted:
        return ()
    return tuple(sorted(_with_callers(view.model, wanted)))


def inlined(model: onnx.ModelProto, functions: Collection[FunctionId]) -> onnx.ModelProto | None:
    """Return the model with these functions inlined, or None where that is not possible."""
    from onnx.inliner import inline_selected_functions

    try:
        return inline_selected_functions(model, list(functions))
    except Exception:  # noqa: BLE001 - the inliner refuses some legal models; they stay as they are
        return None


def _blocked(view: View, plan: Plan) -> Iterator[FunctionId]:
    for kept in plan.kept:
        obstacles = {o.reason for o in (kept.obstacle, kept.below) if o is not None}
        scope = view.scopes[view.nodes[kept.nodes[0]].scope]
        while scope.owner >= 0:
            scope = view.scopes[view.nodes[scope.owner].scope]
        if obstacles & _FROM_THE_CALL and isinstance(scope.proto, onnx.FunctionProto):
            yield scope.proto.domain, scope.proto.name


def _with_callers(model: onnx.ModelProto, functions: set[FunctionId]) -> set[FunctionId]:
    """Return the functions and all functions that call them, directly or not."""
    found, grown = set(functions), True
    while grown:
        callers = {
            (function.domain, function.name)
            for function in model.functions
            if any(call in found for call in _calls(function.node))
        }
        grown = not callers <= found
        found |= callers
    return found


def _calls(nodes: Collection[onnx.NodeProto]) -> Iterator[FunctionId]:
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _calls(attribute.g.node)
