"""Which local functions must be inlined, and no others.

A function's body is folded where it stands when everything that takes part is in it. It may also
be that its parameters are arguments that are constant at the call, or that the convolution is in
one function and the normalization in another. Then the functions in the way, and whatever calls
them from another function, have to be inlined first.
"""

from collections import defaultdict
from collections.abc import Iterator

import onnx

from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import View
from bnfold.graph.plan.plan import Plan
from bnfold.onnx_model.functions import FunctionId, called_functions
from bnfold.reasons import Obstacle, Reason

_AT_THE_BOUNDARY = frozenset(
    {
        Reason.FUNCTION_ARGUMENT,
        Reason.WEIGHT_NOT_CONSTANT,
        Reason.BIAS_NOT_CONSTANT,
        Reason.GRAPH_INPUT,
        Reason.GRAPH_OUTPUT,
        Reason.UNKNOWN_SHAPE,
    }
)
"""Obstacles that may not exist once the function is inlined at its call."""


def functions_in_the_way(graph: Graph, plan: Plan, *, below: bool) -> frozenset[FunctionId]:
    """Return the functions whose boundary stops a normalization or a sum, and their callers.

    Args:
        graph: The model, of which some functions may be inlined already.
        plan: What is planned for it.
        below: Whether to look for a way down too, and not only up.
    """
    wanted = set(_blocked(graph, plan, below=below))
    return frozenset(with_callers(graph.view.model, wanted)) if wanted else frozenset()


def _blocked(graph: Graph, plan: Plan, *, below: bool) -> Iterator[FunctionId]:
    view = graph.view
    called = _calls_by_label(view)
    for kept in plan.kept:
        normalizes = any(graph.is_normalization(node) for node in kept.nodes)
        sides = (kept.obstacle, kept.below if below else None) if normalizes else (kept.beside,)
        obstacles: list[Obstacle] = [o for o in sides if o is not None]
        yield from (called[o.at] for o in obstacles if o.at in called)
        scope = view.scopes[view.nodes[kept.nodes[0]].scope]
        while scope.owner >= 0:
            scope = view.scopes[view.nodes[scope.owner].scope]
        at_the_boundary = any(o.reason in _AT_THE_BOUNDARY for o in obstacles)
        if at_the_boundary and isinstance(scope.proto, onnx.FunctionProto):
            yield scope.proto.domain, scope.proto.name


def _calls_by_label(view: View) -> dict[str, FunctionId]:
    """Return the local function that each call runs, by how an obstacle names the call."""
    local = {(function.domain, function.name) for function in view.model.functions}
    called = ((node.label, (node.proto.domain, node.proto.op_type)) for node in view.nodes)
    return {label: function for label, function in called if function in local}


def with_callers(model: onnx.ModelProto, functions: set[FunctionId]) -> set[FunctionId]:
    """Return the functions and all functions that call them, directly or not."""
    callers: dict[FunctionId, set[FunctionId]] = defaultdict(set)
    for function in model.functions:
        for call in called_functions(function.node):
            callers[call].add((function.domain, function.name))
    found, waiting = set(functions), [*functions]
    while waiting:
        fresh = callers.get(waiting.pop(), set()) - found
        found |= fresh
        waiting.extend(fresh)
    return found
