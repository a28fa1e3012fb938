"""How an affine is spelled with the nodes that it takes the place of.

It is one BatchNormalization where there is one among them, and else a Mul, an Add, or both.
"""

from collections.abc import Sequence

from bnfold.graph.facts.graph import Graph
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine

_CHANNEL_AXIS = 1


def normalization_for(graph: Graph, nodes: Sequence[int], total: Affine) -> int | None:
    """Return the BatchNormalization among nodes that can be the whole affine, or None."""
    if any(axis != _CHANNEL_AXIS for axis in total.axes) or not total.has_scale:
        return None
    return next(filter(graph.is_normalization, nodes), None)


def nodes_needed(graph: Graph, nodes: Sequence[int], total: Affine) -> int:
    """Return how many nodes are needed for an affine that takes the place of some."""
    if normalization_for(graph, nodes, total) is not None:
        return 1
    return max(int(total.has_scale) + int(total.has_shift), 1)


def require_nodes(graph: Graph, nodes: Sequence[int], total: Affine) -> int:
    """Return how many nodes are needed for an affine that takes the place of some.

    Raises:
        Refusal: More nodes are needed than there are; or the affine varies along two axes: no
            linear operator absorbs such an affine, so it would stay.
    """
    if len(total.axes) > 1:
        at = graph.view.nodes[nodes[0]].label
        raise Refusal(Reason.OTHER_AXIS, f"together they vary along axes {total.axes}", at)
    size = nodes_needed(graph, nodes, total)
    if size > len(nodes):
        raise Refusal(Reason.NO_GAIN, "no node is left to hold the rest")
    return size
