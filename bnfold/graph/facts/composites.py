"""Finding the composites of a model: one search for all rows of the table.

From a node of a row's core the search goes down, a few nodes far, through operators that may be in
the composite. Each tensor on the way may be its result; the last of them that the row's formula
fits is. So each core node is asked about a few tensors, and each question takes a number of steps
that does not depend on the graph (`bnfold.graph.facts.matching`).
"""

from collections.abc import Sequence

from bnfold.files.walk import OWN_DOMAINS
from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.matching import Matcher
from bnfold.graph.facts.tensors import Tensors
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.rules.composites import COMPOSITES, EVERY_COMPOSITE, SCALE, SHIFT, CompositeRow
from bnfold.rules.expressions import calls, last_operators, needed_operators, operators

_MOST = 12
"""Nodes that are looked at around a core."""

_FEW = 2
"""Readers that a tensor inside a composite has at most."""


@frozen(eq=False)
class Composite:
    """A small subgraph that runtimes know as one operator.

    Attributes:
        name: What people call it.
        nodes: Its nodes, in the order of the data.
        output: The node that makes its result.
        scale: Where a normalization reads its scale; None where it has none, or is none.
        shift: Where it reads its shift.
        behind: The nodes from these to the result, both included.
    """

    name: str
    nodes: tuple[int, ...]
    output: int
    scale: Edge | None = None
    shift: Edge | None = None
    behind: tuple[int, ...] = ()


def find_composites(
    graph: Graph, take_apart: frozenset[str] = frozenset()
) -> tuple[Composite, ...]:
    """Return the composites of a model but for some; no two have a node in common."""
    by_type: dict[str, list[int]] = {}
    for node in graph.view.nodes:
        if node.proto.domain in OWN_DOMAINS:
            by_type.setdefault(node.proto.op_type, []).append(node.number)
    tensors = Tensors(graph)
    found = []
    for row in COMPOSITES:
        if {row.name, EVERY_COMPOSITE} & take_apart:
            continue
        if not needed_operators(row.formula) <= by_type.keys():
            continue
        for core in sorted(n for op_type in row.core for n in by_type.get(op_type, ())):
            composite = None if core in tensors.owned else _find(graph, row, core, tensors)
            if composite is not None:
                tensors.owned.update(composite.nodes)
                found.append(composite)
    return tuple(sorted(found, key=lambda composite: composite.nodes[0]))


def _find(graph: Graph, row: CompositeRow, core: int, tensors: Tensors) -> Composite | None:
    """Return the largest composite of a row around a core node."""
    for output in reversed(_results(graph, row, core, tensors)):
        matcher = Matcher(graph, output, tensors)
        for match in matcher.matches(row.formula):
            if core in match.nodes and matcher.is_closed(match):
                scale, shift = (match.parameters.get(p.name) for p in (SCALE, SHIFT))
                nodes = tuple(sorted(match.nodes))
                behind = _behind(graph, nodes, [edge[0] for edge in (scale, shift) if edge])
                return Composite(row.name, nodes, output, scale, shift, behind)
    return None


def _behind(graph: Graph, nodes: Sequence[int], first: Sequence[int]) -> tuple[int, ...]:
    """Return those of a composite's nodes that depend on what some of them make, and these."""
    found = set(first)
    for node in nodes:  # in the order of the data
        read = (graph.view.producer(t) for t in graph.view.nodes[node].inputs if t != NONE)
        if any(maker is not None and maker.number in found for maker in read):
            found.add(node)
    return tuple(sorted(found))


def _results(graph: Graph, row: CompositeRow, core: int, tensors: Tensors) -> list[int]:
    """Return the nodes that may make the result, the first ones from the core down first."""
    if not _may_be(graph.view.nodes[core], row, tensors):
        return []
    words, endings = operators(row.formula), last_operators(row.formula)
    found = {core: None}
    waiting = [core]
    while waiting and len(found) < _MOST:
        for reader in _readers(graph, waiting.pop(0), words):
            if reader not in found:
                found[reader] = None
                waiting.append(reader)
    return [n for n in sorted(found) if graph.view.nodes[n].proto.op_type in endings]


def _may_be(node: Node, row: CompositeRow, tensors: Tensors) -> bool:
    """Whether a core node is what the formula says of one of its operators."""
    own = (call for call in calls(row.formula) if node.proto.op_type in call.op_types)
    return any(not call.over or tensors.is_spatial(node) for call in own)


def _readers(graph: Graph, number: int, words: frozenset[str]) -> set[int]:
    """Return who reads a node's only output, if they are few and may all be in the composite."""
    node = graph.view.nodes[number]
    if len(node.outputs) != 1 or graph.view.tensors[node.outputs[0]].outputs:
        return set()
    readers = {reader for reader, _ in graph.view.readers(node.outputs[0])}
    readers = {reader for reader in readers if not graph.makes_constants(reader)}
    fit = all(
        graph.view.nodes[reader].scope == node.scope
        and graph.view.nodes[reader].proto.op_type in words
        for reader in readers
    )
    return readers if fit and len(readers) <= _FEW else set()
