"""A whole model in float64: what it would give if there were no rounding."""

from collections import Counter

import numpy as np

from bnfold.files.opened import OpenedModel
from bnfold.verification.comparison import Outputs
from bnfold.verification.dtypes import Array, wide
from bnfold.verification.operators.evaluate import run_node
from bnfold.verification.proof.scopes import Scope, graph_scope
from bnfold.verification.runs.inputs import Feed


def true_outputs(model: OpenedModel, feed: Feed) -> Outputs:
    """Return the outputs of a model in float64; of integers and booleans, as they are.

    Raises:
        EvaluationError: A node cannot be computed, as those with subgraphs.
    """
    scope = graph_scope(model, model.proto.graph)
    readers = Counter(name for node in scope.nodes for name in node.input)
    readers.update(scope.outputs)
    tensors: dict[str, Array] = {name: wide(np.asarray(value)) for name, value in feed.items()}
    for node in scope.nodes:
        if all(scope.is_constant(name) for name in node.output if name):
            continue
        inputs = [_input(scope, tensors, name) if name else None for name in node.input]
        named = [name for name in node.output if name]
        tensors |= dict(zip(named, run_node(node, scope.opsets, inputs), strict=False))
        for name in filter(None, node.input):
            readers[name] -= 1
            if not readers[name]:
                tensors.pop(name, None)
    return {name: _input(scope, tensors, name) for name in scope.outputs}


def _input(scope: Scope, tensors: dict[str, Array], name: str) -> Array:
    return tensors[name] if name in tensors else wide(scope.constant(name))
