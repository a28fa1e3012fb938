"""Normalizations of constants, as weight standardization is exported: computed once.

Such a normalization reads no data, in training mode as little as in any other: its batch is the
constant itself. What it comes to, where an operator reads it, becomes a stored constant, computed
as the model says, in its own types, and all that only computed it goes.
"""

from math import prod

from bnfold.graph.index.view import NONE, Edge
from bnfold.graph.plan.draft import Draft
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import any_nonzero


def computed_constants(draft: Draft) -> dict[int, tuple[Edge, ...]]:
    """Return for each normalization of constants where the constant that it makes is read."""
    found: dict[int, tuple[Edge, ...]] = {}
    for number, obstacle in draft.roles.refused.items():
        if obstacle.reason is Reason.CONSTANT and draft.graph.is_normalization(number):
            try:
                found[number] = _edges(draft, number)
            except Refusal:
                continue
    return {number: edges for number, edges in found.items() if edges}


def _edges(draft: Draft, number: int) -> tuple[Edge, ...]:
    """Return what reads something that is computed from a normalization, and is no constant.

    Raises:
        Refusal: It is seen elsewhere, too, cannot be computed, or grows on the way.
    """
    view, constants = draft.view, draft.graph.constants
    node = view.nodes[number]
    size = _size(draft, node.outputs[0])
    edges: list[Edge] = []
    waiting, seen = [t for t in node.outputs if t != NONE], set(node.outputs)
    while waiting:
        tensor = waiting.pop()
        if view.tensors[tensor].outputs:
            raise Refusal(Reason.GRAPH_OUTPUT, at=draft.label(tensor))
        for reader, index in view.tensors[tensor].readers:
            if view.nodes[reader].scope != node.scope:
                raise Refusal(Reason.OTHER_SCOPE, at=draft.label(tensor))
            if not draft.graph.makes_constants(reader):
                edges.append((reader, index))
                continue
            fresh = [t for t in view.nodes[reader].outputs if t != NONE and t not in seen]
            waiting += fresh
            seen.update(fresh)
    for reader, index in edges:
        tensor = view.nodes[reader].inputs[index]
        if _size(draft, tensor) > size or not constants.value(tensor).size:
            raise Refusal(Reason.TOO_LARGE, at=draft.label(tensor))
    return tuple(edge for edge in edges if not _is_rewritten(draft, edge))


def _size(draft: Draft, tensor: int) -> int:
    """Return how many elements a tensor has.

    Raises:
        Refusal: That is not known.
    """
    shape = draft.graph.shapes.shapes.get(tensor)
    dims = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is None or len(dims) < len(shape):
        return int(draft.graph.constants.value(tensor).size)
    return prod(dims)


def _is_rewritten(draft: Draft, edge: Edge) -> bool:
    """Whether a constant gets other numbers there anyway."""
    state = draft.absorbed.get(edge[0])
    if edge in draft.constants:
        return True
    if state is None or state.layout.weight != edge[1]:
        return False
    return (
        state.summed is not None
        or any_nonzero(state.out_scale != 1)
        or any_nonzero(state.in_scale != 1)
    )
