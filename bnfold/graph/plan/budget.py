"""The limits on planning: steps of the searches, affines in memory, clones of weights."""

from collections.abc import Iterable
from math import prod

from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import Edge
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.proposal import Proposal
from bnfold.limits import AFFINES, CLONED, STEPS, STEPS_PER_NODE
from bnfold.reasons import Reason, Refusal

_ASKED_AT_ONCE = 16
"""Readers or inputs that are asked in about the time that a step takes."""


class Budget:
    """Counts what planning takes; see `bnfold.limits`."""

    def __init__(self, graph: Graph) -> None:
        self._view = graph.view
        self._shapes = graph.shapes.shapes
        self._constants = graph.constants
        self._most_steps = STEPS + STEPS_PER_NODE * len(graph.view.nodes)
        self._steps = 0  # of all searches
        self._held = 0  # values of what was taken up
        self._cloned = 0  # elements of constants that will be written besides the model's own
        self._rewritten: set[int] = set()  # constants that change
        self._edges: set[Edge] = set()  # all edges that change one

    def count_step(self, asked: int) -> None:
        """Count a step of a search: a tensor of so many readers, or a node of so many inputs.

        Raises:
            Refusal: There have been more than any network needs.
        """
        self._steps += 1 + asked // _ASKED_AT_ONCE
        if self._steps > self._most_steps:
            raise Refusal(Reason.TOO_LARGE, "so many steps have been taken to plan")

    def take_room(self, proposal: Proposal, replaced: Iterable[Absorbed]) -> None:
        """Take the memory for a proposal's affines and for the clones of weights that it needs.

        The states that it has `replaced` are held no longer.

        Raises:
            Refusal: Too little is left; nothing is taken then.
        """
        held = self._held + proposal.size
        if held > AFFINES:
            raise Refusal(Reason.TOO_LARGE, "all affines together")
        clones = self._clones(proposal)
        cloned = self._cloned + sum(clones.values())
        if cloned > CLONED:
            raise Refusal(Reason.TOO_LARGE, "clones of shared weights")
        self._held = held - sum(state.size for state in replaced)
        self._cloned = cloned
        self._edges.update(clones)
        self._rewritten.update(self._view.nodes[node].inputs[index] for node, index in clones)

    def _clones(self, proposal: Proposal) -> dict[Edge, int]:
        """Return how many elements each new reader of a changed constant adds to the model.

        The first that changes a stored constant takes its place and adds nothing.
        """
        edges = {(node, state.layout.weight) for node, state in proposal.linear.items()}
        added: dict[Edge, int] = {}
        seen = set(self._rewritten)
        for edge in sorted((edges | proposal.constants.keys()) - self._edges):
            tensor = self._view.nodes[edge[0]].inputs[edge[1]]
            shape = self._shapes.get(tensor, ())
            replaces = self._constants.stored(tensor) is not None and tensor not in seen
            seen.add(tensor)
            added[edge] = 0 if replaces else prod(d for d in shape if isinstance(d, int))
        return added
