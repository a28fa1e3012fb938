"""Which branch of a sum probably absorbs a shift; that decides the order of attempts and no more.

The shift of a sum goes to one of its branches, and only the right one lets a fold succeed. So the
operators above each branch are looked at, and not their numbers, before one is tried.
"""

from collections.abc import Sequence

from bnfold.graph.index.view import NONE, Node
from bnfold.graph.plan.draft import Draft

_DEPTH = 64
"""Operators in a row that are looked at above a branch. Without this limit planning would take time
quadratic in the length of a residual network's trunk."""


def likeliest_first(draft: Draft, node: Node, branches: Sequence[int]) -> Sequence[int]:
    """Return the inputs of a sum in the order in which they are to be tried."""
    return sorted(branches, key=lambda index: _reluctance(draft, node.inputs[index]))


def _reluctance(draft: Draft, tensor: int) -> int:
    """Return a rank: a constant absorbs a shift at no cost, a run may need a node more for it."""
    if tensor in draft.graph.constants:
        return 0
    if not _is_willing(draft, tensor, _DEPTH):
        return 3
    return 2 if draft.view.tensors[draft.root(tensor)].producer in draft.run_of else 1


def _is_willing(draft: Draft, tensor: int, depth: int) -> bool:
    """Whether a shift on a tensor can probably be absorbed above it."""
    if tensor == NONE or not depth:
        return False
    tensor = draft.root(tensor)
    if tensor in draft.graph.constants:
        return True
    maker = draft.view.producer(tensor)
    shared = len(draft.readers(tensor)) != 1 or draft.outputs.get(tensor)
    if maker is None or shared:
        return False
    if draft.linear_behind(tensor) is not None or maker.number in draft.run_of:
        return True
    row = draft.roles.carry.get(maker.number)
    if row is None:
        return False
    inputs = maker.inputs if row.every_input else maker.inputs[:1]
    return row.takes_shift(_is_willing(draft, t, depth - 1) for t in inputs)
