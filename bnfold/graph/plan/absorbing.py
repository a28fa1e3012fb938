"""What a node must fulfil to absorb an affine: its parameters can be changed as that demands."""

from math import prod

import numpy as np

from bnfold.graph.facts.quantized import find_quantized, rescaled
from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.stated import require_storable
from bnfold.limits import AXIS
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine, any_nonzero


def absorbed_on_output(
    draft: Draft, state: Absorbed, affine: Affine, variance: F64 | None = None
) -> Absorbed:
    """Return the state of a linear node after one more affine on its output.

    `variance` is that of its output before, [Cout]; None where it is not known.

    Raises:
        Refusal: The node cannot absorb it.
    """
    node = draft.view.nodes[state.node]
    with refusing_at(node, draft.graph):
        new = state.on_output(affine)
        _require_parameters(draft, node, new)
        if draft.precision is not None:
            scale, _ = state.layout.output_vectors(affine)
            if variance is not None:
                variance = variance * scale**2 if variance.shape == scale.shape else None
            draft.precision.require(state, new, variance)
    return new


def absorbed_on_input(draft: Draft, state: Absorbed, affine: Affine) -> Absorbed:
    """Return the state of a linear node after one more affine on its input.

    Raises:
        Refusal: The node cannot absorb it.
    """
    node = draft.view.nodes[state.node]
    with refusing_at(node, draft.graph):
        new = state.on_input(affine)
        _require_parameters(draft, node, new)
        if draft.precision is not None:
            draft.precision.require(state, new, None)
        if new.pad is not None:
            require_storable(draft.graph, node, new.pad)
    return new


def require_recomputable(draft: Draft, edge: Edge, affine: Affine) -> None:
    """Refuse a constant operand that cannot be computed, or that an affine makes too large."""
    node, index = draft.view.nodes[edge[0]], edge[1]
    tensor = node.inputs[index]
    constants = draft.graph.constants
    stored = constants.stored(tensor)
    shape = constants.value(tensor).shape if stored is None else tuple(stored.dims)
    with refusing_at(node):
        count = prod(np.broadcast_shapes(shape, affine.scale.shape))
    if count > max(prod(shape), AXIS):
        raise Refusal(Reason.TOO_LARGE, f"{count} values", draft.label(tensor))


def _require_parameters(draft: Draft, node: Node, state: Absorbed) -> None:
    _require_bias(draft, node, state)
    _require_weight(draft, node, state)


def _require_bias(draft: Draft, node: Node, state: Absorbed) -> None:
    """Refuse a bias that would have to change and is not constant, or does not fit.

    One that is no longer the node's own takes no shift up.
    """
    if state.has_shift and node.number in draft.parted:
        raise Refusal(Reason.NO_GAIN, "its bias varies along other axes")
    index = state.layout.bias
    if index is None or index >= len(node.inputs) or node.inputs[index] == NONE:
        return
    if not (state.has_shift or any_nonzero(state.out_scale != 1)):
        return
    bias = node.inputs[index]
    label = draft.label(bias)
    if bias not in draft.graph.constants:
        raise Refusal(Reason.BIAS_NOT_CONSTANT, label)
    shape = draft.graph.constants.value(bias).shape
    if not state.layout.fits_bias(shape):
        raise Refusal(Reason.INVALID_NODE, f"{label} has shape {list(shape)}")


def _require_weight(draft: Draft, node: Node, state: Absorbed) -> None:
    """Refuse a quantized weight that cannot be rescaled, and a weight that cannot be computed."""
    graph = draft.graph
    weight = node.inputs[state.layout.weight]
    # A stored weight is read when the model is written; here that would double the reading.
    if graph.constants.stored(weight) is not None:
        return
    graph.constants.value(weight)
    rank = len(graph.shapes.shapes[weight])
    factor = state.layout.factor(state.out_scale, state.in_scale, rank)
    if any_nonzero(factor != 1):
        quantized = find_quantized(graph, weight)
        if quantized is not None:
            rescaled(quantized, factor)
