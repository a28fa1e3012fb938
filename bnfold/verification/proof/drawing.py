"""Nodes that draw numbers of their own: random operators without a seed, and dropouts in training.

What they give depends on the nodes around them: ONNX Runtime counts nodes to seed them. So two of a
kind give different numbers, and so do two models that differ anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping

import onnx

from bnfold.files.opened import OpenedModel
from bnfold.verification.operators.node import EvaluationError, default_domain
from bnfold.verification.operators.table import Kind, row_of
from bnfold.verification.proof.scopes import Scope, function_name, function_scope, graph_scope

_LEGACY_DROPOUT = 7  # up to here an attribute tells whether it is a test


class Drawing:
    """Tells which nodes of a model draw numbers, in subgraphs and in local functions, too."""

    def __init__(self, functions: Mapping[str, onnx.FunctionProto]) -> None:
        """Prepare; `functions` are the model's own, by `function_name`."""
        self._functions = functions
        self._known: dict[str, bool] = {}

    def draws(self, node: onnx.NodeProto, scope: Scope) -> bool:
        """Tell whether a node draws, or anything within it."""
        inner = (n for a in node.attribute if a.HasField("g") for n in a.g.node)
        if any(self.draws(each, scope) for each in inner):
            return True
        called = f"{node.domain}::{node.op_type}" + (f":{node.overload}" if node.overload else "")
        function = self._functions.get(called)
        if function is not None:
            return self._within(called, function, scope)
        if row_of(node).kind is Kind.RANDOM:
            return not _is_seeded(node)
        return node.op_type == "Dropout" and default_domain(node) and _in_training(node, scope)

    def _within(self, called: str, function: onnx.FunctionProto, scope: Scope) -> bool:
        if called not in self._known:
            self._known[called] = False  # as long as nothing else is known: functions may recur
            body = function_scope(scope.model, function)
            self._known[called] = any(self.draws(node, body) for node in function.node)
        return self._known[called]


def _is_seeded(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "seed" for attribute in node.attribute)


def _in_training(node: onnx.NodeProto, scope: Scope) -> bool:
    """Tell whether a Dropout may drop something."""
    if _is_seeded(node):
        return False
    if scope.opsets.get("", 0) < _LEGACY_DROPOUT:
        return not any(a.name == "is_test" and a.i for a in node.attribute)
    if len(node.input) <= 2 or not node.input[2]:  # noqa: PLR2004 - (data, ratio, training)
        return False
    try:
        return bool(scope.constant(node.input[2]))
    except EvaluationError:
        return True


def random_outputs(model: OpenedModel) -> frozenset[str]:
    """Return the outputs of a model that depend on numbers drawn in it, but for their shape."""
    nodes = [*model.proto.graph.node, *(n for f in model.proto.functions for n in f.node)]
    if not any(map(_may_draw, nodes)):
        return frozenset()
    scope = graph_scope(model, model.proto.graph)
    drawing = Drawing({function_name(f): f for f in model.proto.functions})
    touched: set[str] = set()
    for node in scope.nodes:
        passes = not row_of(node).sees_shape_only and not touched.isdisjoint(_reads([node]))
        if passes or drawing.draws(node, scope):
            touched.update(filter(None, node.output))
    return frozenset(touched.intersection(scope.outputs))


def _may_draw(node: onnx.NodeProto) -> bool:
    """Tell whether it is worth while to look closer; nearly every model has no such node."""
    return (
        row_of(node).kind is Kind.RANDOM
        or node.op_type == "Dropout"
        or any(_may_draw(inner) for a in node.attribute if a.HasField("g") for inner in a.g.node)
    )


def _reads(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield what nodes read, their subgraphs included."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _reads(attribute.g.node)
                yield from (value.name for value in attribute.g.output)
