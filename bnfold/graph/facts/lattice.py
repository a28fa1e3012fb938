"""Sums that are exact, and what would make them inexact in front of a step.

Numbers are on a *lattice* when they are multiples of one number, and few enough bits apart that
sums and products of them come out exactly. Inputs, whole numbers and what a step makes are taken
to be; a linear operator whose weight is on one keeps them there. Scaled by a power of two they
stay as exact as they were. Scaled by anything else once, behind the sum, each is rounded once, and
equal sums stay equal. With the scale in the weights every term is rounded by itself, and equal sums
come out apart: where a step follows, on either side of it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bnfold.files.walk import OWN_DOMAINS
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.roles import Roles
from bnfold.graph.index.view import NONE, Node
from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.carry import CARRY
from bnfold.rules.operator import FLOATS
from bnfold.rules.passage import Blind
from bnfold.rules.steps import BOUNDED, STEP, is_step

_BITS = 11
"""Of the numbers of a weight that is on a lattice, unless they are whole: as many as 8-bit integers
and some fractions of them need, and far less than any trained weight has."""

_GLANCE = 1 << 12
"""Elements; of nearly all weights so many already show that they are on no lattice."""


def keep_exact(graph: Graph, roles: Roles) -> None:
    """Take those affines out of the roles that would make exact sums in front of a step inexact."""
    steps = [node for node in graph.view.nodes if _is_step(graph, node)]
    if not steps:
        return
    lattice = _Lattice(graph, roles)
    for number, step in _in_front(graph, roles, lattice, steps):
        entry = roles.affine[number]
        data = graph.view.nodes[number].inputs[entry.data]
        if not _stays_exact(entry.affine) and data in lattice:
            del roles.affine[number]
            roles.refused[number] = Obstacle(Reason.EXACT_SUMS, detail=step.label)


def _is_step(graph: Graph, node: Node) -> bool:
    if node.proto.op_type not in STEP:
        return False
    try:
        return is_step(graph.operator(node.number), node.proto.domain)
    except Refusal:  # it has no output
        return False


def _in_front(
    graph: Graph, roles: Roles, lattice: "_Lattice", steps: list[Node]
) -> Iterator[tuple[int, Node]]:
    """Yield the affine nodes whose numbers a step sees, each with such a step."""
    waiting = [(tensor, step) for step in steps for tensor in step.inputs if tensor != NONE]
    seen = {tensor for tensor, _ in waiting}
    while waiting:
        tensor, step = waiting.pop()
        maker = graph.view.producer(tensor)
        if maker is None or tensor in graph.constants:
            continue
        if maker.number in roles.affine:
            yield maker.number, step
        if not (lattice.passes(maker) or lattice.sums(maker)):
            continue
        fresh = [t for t in maker.inputs if t != NONE and t not in seen]
        seen.update(fresh)
        waiting.extend((t, step) for t in fresh)


class _Lattice:
    """The tensors whose numbers are on a lattice."""

    def __init__(self, graph: Graph, roles: Roles) -> None:
        self._graph = graph
        self._roles = dict(roles.affine)
        self._linear = roles.linear
        self._known: dict[int, bool] = {}

    def __contains__(self, tensor: int) -> bool:
        waiting = [tensor]
        while waiting:
            current = waiting[-1]
            missing = [t for t in self._needed(current) if t not in self._known]
            if current not in self._known and missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if current not in self._known:
                self._known[current] = self._decide(current)
        return self._known[tensor]

    def passes(self, node: Node) -> bool:
        """Whether a node leaves numbers on a lattice where they are, or moves them all alike."""
        if node.proto.domain not in OWN_DOMAINS:
            return False
        entry = self._roles.get(node.number)
        if entry is not None:
            return True
        op_type = node.proto.op_type
        row = CARRY.get(op_type)
        return op_type in BOUNDED or (row is not None and not isinstance(row, Blind))

    def sums(self, node: Node) -> bool:
        """Whether a node is a linear operator whose weight is on a lattice."""
        layout = self._linear.get(node.number)
        return layout is not None and self._constant(node.inputs[layout.weight])

    def _needed(self, tensor: int) -> list[int]:
        """Return the tensors on which it depends whether one is on a lattice."""
        maker = self._graph.view.producer(tensor)
        if tensor in self._known or self._is_given(tensor) or maker is None:
            return []
        entry = self._roles.get(maker.number)
        if entry is not None:
            return [maker.inputs[entry.data]] if _keeps_lattice(entry.affine) else []
        if self.passes(maker) or self.sums(maker):
            return [t for t in maker.inputs if t != NONE and t not in self._graph.constants]
        return []

    def _is_given(self, tensor: int) -> bool:
        """Whether a tensor is on a lattice by its type, as an input, or as the output of a step."""
        elem_type = self._graph.shapes.elem_types.get(tensor, 0)
        maker = self._graph.view.producer(tensor)
        return elem_type not in (0, *FLOATS) or maker is None or _is_step(self._graph, maker)

    def _decide(self, tensor: int) -> bool:
        if tensor in self._graph.constants:
            return self._constant(tensor)
        if self._is_given(tensor):
            return True
        maker = self._graph.view.producer(tensor)
        if maker is None:
            return True
        entry = self._roles.get(maker.number)
        if entry is not None:
            return _keeps_lattice(entry.affine) and self._known[maker.inputs[entry.data]]
        if not (self.passes(maker) or self.sums(maker)):
            return False
        return all(
            self._constant(t) if t in self._graph.constants else self._known[t]
            for t in maker.inputs
            if t != NONE
        )

    def _constant(self, tensor: int) -> bool:
        if tensor not in self._graph.constants:
            return False
        if tensor not in self._known:
            constants = self._graph.constants
            try:
                glance = _on_lattice(constants.glance(tensor, _GLANCE))
                self._known[tensor] = glance and _on_lattice(constants.value(tensor))
            except Refusal:  # it cannot be computed
                self._known[tensor] = False
        return self._known[tensor]


def _keeps_lattice(affine: Affine) -> bool:
    """Whether numbers on a lattice are on one afterwards: all moved alike, or by such numbers."""
    return not affine.axes or (_on_lattice(affine.scale) and _on_lattice(affine.shift))


def _on_lattice(numbers: NDArray[np.generic]) -> bool:
    """Whether all numbers are whole, or multiples of one number with few bits."""
    if numbers.dtype.kind in "iub":
        return True
    wide = numbers.astype(np.float64)
    if not np.isfinite(wide).all():
        return False
    if (wide == np.rint(wide)).all():
        return True
    unit = 2.0 ** (np.ceil(np.log2(np.abs(wide).max())) - _BITS)
    return bool((wide / unit == np.rint(wide / unit)).all())


def _stays_exact(affine: Affine) -> bool:
    """Whether an affine scales by powers of two, and shifts by no less than halves of them."""
    mantissas, _ = np.frexp(np.abs(affine.scale))
    if not (mantissas == 0.5).all():  # noqa: PLR2004 - that of every power of two
        return False
    halves = 2 * affine.shift / affine.scale
    return bool((halves == np.rint(halves)).all())
