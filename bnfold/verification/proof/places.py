"""Where in a graph a tensor stands: what is computed from it, and from what it is computed."""

import contextlib
import heapq
from collections.abc import Collection

from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.scopes import Scope

_LOOKED_AT = 40
"""Tensors or nodes around one; what lies farther away tells nothing of its place."""


def is_later(scope: Scope, name: str, other: str) -> bool:
    """Tell whether a tensor is computed after another, as the nodes are listed."""
    made, before = (scope.producers.get(each) for each in (name, other))
    return bool(made and before and scope.places[id(made[0])] > scope.places[id(before[0])])


def next_in_both(scope: Scope, name: str, other: Scope) -> str | None:
    """Return the nearest tensor computed from this one that another graph has, too."""
    pending, seen = [name], {name}
    while pending and len(seen) < _LOOKED_AT:
        tensor = pending.pop(0)
        for reader, _ in scope.readers.get(tensor, ()):
            for made in reader.output:
                if made in other.producers:
                    return str(made)
                if made and made not in seen:
                    seen.add(made)
                    pending.append(made)
    return None


def computed_from(scope: Scope, leaves: Collection[str]) -> list[str]:
    """Return the tensors computed from all of some and nothing else, over one linear operator."""
    reached = {leaf: (frozenset((leaf,)), 0) for leaf in leaves}
    waiting: list[int] = []
    seen: set[int] = set()

    def wait_for_readers(name: str) -> None:
        places = {scope.places[id(reader)] for reader, _ in scope.readers.get(name, ())} - seen
        seen.update(places)
        for place in places:
            heapq.heappush(waiting, place)

    for leaf in leaves:
        wait_for_readers(leaf)
    while waiting and len(seen) < _LOOKED_AT:
        node = scope.nodes[heapq.heappop(waiting)]
        entering = [n for n in node.input if n and not scope.is_constant(n)]
        if not all(name in reached for name in entering):
            continue
        depth = max(reached[name][1] for name in entering) + row_of(node).is_linear
        if depth > 1:
            continue
        origin = frozenset().union(*(reached[name][0] for name in entering))
        for name in filter(None, node.output):
            reached[name] = origin, depth
            wait_for_readers(name)
    everything = frozenset(leaves)
    return [n for n, (origin, _) in reached.items() if origin == everything and n not in everything]


def reader_types(scope: Scope, name: str) -> set[str]:
    """Return the types of the operators that read a tensor."""
    return {reader.op_type for reader, _ in scope.readers.get(name, ())}


def is_rescaled(scope: Scope, name: str) -> bool:
    """Tell whether all that reads a tensor multiplies it by one number, or divides it by one."""
    readers = [node for node, _ in scope.readers.get(name, ())]
    return bool(readers) and all(
        row_of(node).neutral == 1
        and any(scope.is_constant(n) and _is_single(scope, n) for n in node.input)
        for node in readers
    )


def _is_single(scope: Scope, name: str) -> bool:
    with contextlib.suppress(EvaluationError):
        return scope.constant(name).size == 1
    return False
