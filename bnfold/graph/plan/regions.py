"""Regions: where to cut the two models to compare each connected group of folds by itself.

A fold touches the nodes that go, those that take them up and those in between. Folds that touch
a node in common form one group. What enters a group's nodes from outside, constants apart, and
what leaves them is the same in both models, because every reader of a tensor that changes is part
of the fold.

A node that is dropped needs no region, as what it made is what it read. But the tensor behind it
is no longer there, so that no region begins at it; and where the tensor before it takes over the
name of a graph output, that one is no longer there either.
"""

from collections import defaultdict
from collections.abc import Collection

from bnfold.graph.facts.quantized import is_dequantizer
from bnfold.graph.index.view import NONE
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.plan import Fold, How
from bnfold.region import Region


def find_regions(draft: Draft) -> tuple[Region, ...]:
    """Return the region of each connected group of folds."""
    dropped = {node for fold in draft.folds if fold.how is How.NOTHING for node in fold.taken}
    return tuple(_region(draft, nodes, dropped) for nodes in _groups(draft))


def _touched(draft: Draft, fold: Fold) -> set[int]:
    nodes = {*fold.taken, *fold.into, *fold.through}
    if fold.how is How.COMPUTED:  # what is taken reads nothing that enters
        nodes = {*fold.into}
    nodes |= {draft.bias_nodes[node] for node in nodes & draft.bias_nodes.keys()}
    return nodes | _dequantizers(draft, nodes) | _shape_readers(draft, nodes)


def _shape_readers(draft: Draft, nodes: set[int]) -> set[int]:
    """Return the nodes that read only the shape of what a fold may rename."""
    made = (t for node in nodes for t in draft.view.nodes[node].outputs if t != NONE)
    readers = {reader for t in made for reader, _ in draft.view.tensors[t].readers}
    scope = draft.view.nodes[min(nodes)].scope
    here = (node for node in readers if draft.view.nodes[node].scope == scope)
    return {node for node in here if draft.graph.makes_constants(node)}


def _dequantizers(draft: Draft, nodes: set[int]) -> set[int]:
    """Return the nodes that make a quantized weight or bias of what the fold changes."""
    view, found = draft.view, set()
    for node in nodes & draft.roles.linear.keys():
        layout = draft.roles.linear[node]
        for index, tensor in enumerate(view.nodes[node].inputs):
            maker = None if tensor == NONE else view.producer(tensor)
            if index != layout.data and maker is not None and is_dequantizer(maker):
                found.add(maker.number)
    return found


def _groups(draft: Draft) -> list[set[int]]:
    """Return the sets of nodes, in the order of the data (union-find over the folds)."""
    parent: dict[int, int] = {}

    def find(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for fold in draft.folds:
        if fold.how is How.NOTHING:  # the tensor behind is the one before
            continue
        first, *rest = sorted(_touched(draft, fold))
        for node in rest:
            parent[find(node)] = find(first)
        find(first)
    for fold in draft.folds:
        if fold.how is How.NOTHING:
            first, *rest = _around_renamed(draft, fold, parent.keys()) or [-1]
            for node in rest:
                parent[find(node)] = find(first)
    groups: dict[int, set[int]] = defaultdict(set)
    for node in tuple(parent):
        groups[find(node)].add(node)
    return sorted(groups.values(), key=min)


def _around_renamed(draft: Draft, fold: Fold, touched: Collection[int]) -> list[int]:
    """Return what makes and what reads a tensor that takes over the name of a dropped one.

    Nothing where no other fold reads it.
    """
    view = draft.view
    behind, before = view.nodes[fold.taken[-1]].outputs[0], draft.data_of(fold.taken[0])
    maker = view.producer(before)
    if maker is None or not view.tensors[behind].outputs:
        return []
    readers = [node for node, _ in view.tensors[before].readers if node in touched]
    return [maker.number, *fold.taken, *readers] if readers else []


def _region(draft: Draft, nodes: set[int], dropped: set[int]) -> Region:
    view, constants = draft.view, draft.graph.constants
    made = {t for node in nodes for t in view.nodes[node].outputs if t != NONE}
    entering, leaving = [], []
    for node in sorted(nodes):
        for read in view.nodes[node].inputs:
            if read == NONE or read in constants:
                continue
            tensor = _before_dropped(draft, read, dropped)
            if tensor not in made and tensor not in entering:
                entering.append(tensor)
    for tensor in sorted(made):
        elsewhere = {reader for reader, _ in view.tensors[tensor].readers} - nodes
        gone = {node for node in elsewhere & dropped if draft.data_of(node) != tensor}
        if view.tensors[tensor].outputs or elsewhere - gone:
            leaving.append(tensor)
    scope = view.scopes[view.nodes[min(nodes)].scope].path
    names = [tuple(view.tensors[t].name for t in tensors) for tensors in (entering, leaving)]
    return Region(scope, *names)


def _before_dropped(draft: Draft, tensor: int, dropped: Collection[int]) -> int:
    """Return the tensor before the nodes that make one and are dropped."""
    maker = draft.view.producer(tensor)
    while maker is not None and maker.number in dropped:
        tensor = draft.data_of(maker.number)
        maker = draft.view.producer(tensor)
    return tensor
