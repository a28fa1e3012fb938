"""The network as a page draws it: its operators, what flows between them, what became of each.

This is for the page alone and no part of what `to_dict` gives: operators and folds are known by
their places in lists here, not by names.
"""

from collections.abc import Container, Iterable, Iterator

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE, Node, View
from bnfold.graph.plan.plan import Fold, Plan
from bnfold.region import Region
from bnfold.reports.records import NodeRecord, node_records, staying


@frozen
class FoldPlace:
    """Where a fold is; operators are places in `Network.nodes`.

    Attributes:
        taken: The operators that went.
        into: Those that took them up.
        through: Those in between.
        region: Where both models are cut to prove it; None where nothing needs to be proved.
    """

    taken: tuple[int, ...]
    into: tuple[int, ...]
    through: tuple[int, ...]
    region: Region | None


@frozen
class Network:
    """A network before it was folded.

    Attributes:
        nodes: Its operators, in the order of the data; those that only make constants are left
            out, unless something became of them.
        edges: Which operator reads what which one makes: pairs of places in `nodes`. A subgraph
            flows into the operator that holds it.
        folds: Where each of the report's folds is, in the same order.
        kept: The operators of each of the report's `kept`, in the same order.
    """

    nodes: tuple[NodeRecord, ...]
    edges: tuple[tuple[int, int], ...]
    folds: tuple[FoldPlace, ...]
    kept: tuple[tuple[int, ...], ...]


def network_of(graph: Graph, plan: Plan, dropped: Container[int] = frozenset()) -> Network:
    """Return what a page draws of a model and its plan; nobody needs the `dropped` nodes."""
    kept = [entry.nodes for entry in staying(plan, dropped)]
    named = {node for nodes in kept for node in nodes}
    named.update(n for fold in plan.folds for n in (*fold.taken, *fold.into, *fold.through))
    view = graph.view
    shown = [
        n.number for n in view.nodes if n.number in named or not graph.makes_constants(n.number)
    ]
    place = {number: index for index, number in enumerate(shown)}
    regions = _regions(view, plan.regions)

    def places(numbers: Iterable[int]) -> tuple[int, ...]:
        return tuple(place[number] for number in numbers)

    def placed(fold: Fold) -> FoldPlace:
        touched = (*fold.taken, *fold.into, *fold.through)
        region = next((regions[n] for n in touched if n in regions), None)
        return FoldPlace(places(fold.taken), places(fold.into), places(fold.through), region)

    edges = {
        (place[maker], place[number])
        for number in shown
        for maker in _makers(view, view.nodes[number])
        if maker in place
    }
    return Network(
        nodes=node_records(view, shown),
        edges=tuple(sorted(edges)),
        folds=tuple(map(placed, plan.folds)),
        kept=tuple(map(places, kept)),
    )


def _makers(view: View, node: Node) -> Iterator[int]:
    """Yield the nodes that a node waits for: of its inputs, and those that end in its subgraphs."""
    yield from (view.tensors[tensor].producer for tensor in node.inputs if tensor != NONE)
    for scope in node.scopes:
        for inner in view.scopes[scope].nodes:
            if any(t != NONE and view.tensors[t].outputs for t in view.nodes[inner].outputs):
                yield inner


def _regions(view: View, regions: Iterable[Region]) -> dict[int, Region]:
    """Return the region of each node that is in one: it is on the way from inputs to outputs."""
    numbers = {(view.scopes[t.scope].path, t.name): t.number for t in view.tensors}
    found: dict[int, Region] = {}
    for region in regions:
        entering = {numbers.get((region.scope, name)) for name in region.inputs}
        waiting = [numbers.get((region.scope, name)) for name in region.outputs]
        while waiting:
            tensor = waiting.pop()
            if tensor is None or tensor == NONE or tensor in entering:
                continue
            maker = view.producer(tensor)
            if maker is not None and maker.number not in found:
                found[maker.number] = region
                waiting.extend(maker.inputs)
    return found
