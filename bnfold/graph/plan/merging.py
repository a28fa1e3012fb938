"""What becomes of a sum when some of its branches become one.

The linear operator, or the run, that holds the sum of the branches stays where it is, and so does
the place where it is added. Where the others were added, one term is gone: an Add that has one left
goes too. Of a Sub whose first term is gone, what is left has a minus sign, which what reads it
takes over.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from bnfold.frozen import frozen
from bnfold.graph.index.view import Edge
from bnfold.graph.plan.absorbed import Absorbed, Summed
from bnfold.graph.plan.affine_sums import AffineSum
from bnfold.graph.plan.branches import Branch, Tree
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.parts import Cluster, Part
from bnfold.graph.plan.proposal import MergedSum
from bnfold.reasons import Reason, Refusal
from bnfold.rules.linear import Border
from bnfold.rules.linear_maps import Window

Signs = Mapping[int, tuple[int, ...]]
"""The sign of each input of some nodes, 0 for one that is lost."""

_BINARY = 2


@frozen(eq=False)
class Held:
    """A cluster and the part of it whose linear operator holds the sum."""

    cluster: Cluster
    part: Part

    @property
    def state(self) -> Absorbed:
        """What the linear operator was."""
        state = self.part.summand.linear
        assert state is not None  # noqa: S101 - for the type checker
        return state

    @property
    def holder(self) -> Branch:
        """The branch of that part."""
        return self.part.branch

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All branches of the cluster."""
        return self.cluster.branches


One = Held | AffineSum
"""Branches that become one, and the one of them that holds it."""


def merged_sum(
    draft: Draft,
    tree: Tree,
    clusters: Sequence[Cluster | AffineSum],
    row: Callable[[int], tuple[int, ...]],
) -> MergedSum:
    """Return what becomes of a sum.

    Raises:
        Refusal: What is left cannot be said with the nodes of the sum.
    """
    held = [c if isinstance(c, AffineSum) else Held(c, _holder(draft, c)) for c in clusters]
    for turned in (False, True):
        leaves = dict(tree.leaves)
        for one in held:
            leaves |= dict.fromkeys(_lost(one), 0)
            if turned:
                leaves[one.holder.edge] = 1
        left = _left(draft, tree, leaves)
        if left is not None:
            return _merged(
                draft, tree, held, leaves, {n: s for n, s in left.items() if s != row(n)}
            )
    raise Refusal(Reason.BRANCHES_DISAGREE, "a term would be left with a minus sign")


def _holder(draft: Draft, cluster: Cluster) -> Part:
    """Return the part whose linear operator holds the sum: the largest, with a bias if any."""

    def rank(part: Part) -> tuple[int, bool]:
        state = part.summand.linear
        return part.summand.term.weights, state is not None and draft.bias_of(state) is not None

    return max((part for part in cluster.parts if part.summand.linear is not None), key=rank)


def _left(draft: Draft, tree: Tree, leaves: Mapping[Edge, int]) -> Signs | None:
    """Return the signs with which each node of a sum still adds up, or None if there are none.

    Of `leaves` that are gone the sign is 0.
    """
    found: dict[int, tuple[int, ...]] = {}
    results: dict[int, int] = {}  # the sign that each node's result has in the sum's
    for number in tree.nodes:
        edges = [(number, index) for index in range(len(draft.view.nodes[number].inputs))]
        path = tree.signs[number]
        signs = [
            path * (results[tree.inner[e]] if e in tree.inner else leaves.get(e, 0)) for e in edges
        ]
        turned = any(signs) and max(signs) < 1
        found[number] = tuple(-sign if turned else sign for sign in signs)
        results[number] = (-path if turned else path) if any(signs) else 0
        if sum(map(abs, signs)) > _BINARY and min(found[number]) < 0:
            return None  # a Sum has no signs
    return found if results[tree.root] == 1 else None


def _lost(one: One) -> Iterator[Edge]:
    """Yield where the branches are added that another one holds."""
    return (branch.edge for branch in one.branches if branch is not one.holder)


def _merged(
    draft: Draft, tree: Tree, ones: Sequence[One], leaves: Mapping[Edge, int], changed: Signs
) -> MergedSum:
    view = draft.view
    gone = {number for number, signs in changed.items() if sum(map(abs, signs)) < _BINARY}
    held = [one for one in ones if isinstance(one, Held)]
    states = [_summed(one, leaves[one.holder.edge]) for one in held]
    affines = {
        one.run.number: one.total.times(leaves[one.holder.edge])
        for one in ones
        if isinstance(one, AffineSum)
    }
    branches = [branch for one in ones for branch in one.branches]
    stay = {node for state in states for node in (state.node, state.bias_node)}
    stay.update(node for number in affines for node in draft.runs[number].nodes)
    stay.update(node for one in ones for node in one.holder.turns)
    lost = frozenset(edge for one in ones for edge in _lost(one))
    taken = {node for branch in branches for node in branch.nodes} - stay
    turns = [node for branch in branches for node in branch.turns]
    _take_unread(draft, [node for node in turns if node not in stay], taken, lost)
    stands = {
        view.nodes[node].outputs[0]: _data_of(draft, node)
        for one in held
        for node in one.holder.nodes
        if node in taken
    }
    for number in gone:
        for tensor, sign in zip(view.nodes[number].inputs, changed[number], strict=True):
            if sign:
                stands[view.nodes[number].outputs[0]] = tensor
    return MergedSum(
        states={state.node: state for state in states},
        affines=affines,
        taken=(*sorted(taken), *sorted(gone)),
        runs=tuple(run for branch in branches for run in branch.runs if run not in affines),
        stands=stands,
        lost=lost,
        signs={number: signs for number, signs in changed.items() if number not in gone},
        through=(
            *(number for number in tree.nodes if number not in gone),
            *sorted({*turns} - taken),
        ),
        root=tree.root,
    )


def _take_unread(
    draft: Draft, turns: Iterable[int], taken: set[int], lost: Collection[Edge]
) -> None:
    """Take also the Transposes that nothing reads any more; they come from the sum upwards."""
    for node in turns:
        made = draft.view.nodes[node].outputs[0]
        reads = (edge for edge in draft.readers(made) if edge[0] not in taken)
        if not draft.outputs.get(made) and all(edge in lost for edge in reads):
            taken.add(node)


def _data_of(draft: Draft, node: int) -> int:
    """Return what an affine, a crop or zeros around are applied to."""
    is_affine = node in draft.roles.affine
    return draft.data_of(node) if is_affine else draft.view.nodes[node].inputs[0]


def _summed(held: Held, sign: int) -> Absorbed:
    """Return the state of the linear operator that holds a sum which has that sign there."""
    old, term = held.state, held.cluster.term
    summands = tuple(part.summand.times(sign) for part in held.cluster.parts)
    summed = Summed(term, summands, held.cluster.biased, 1 + _depth(held.cluster.parts))
    border = _border(term.window)
    layout = replace(old.layout, groups=term.groups, border=border, weight_gain=1.0, bias_gain=1.0)
    return replace(Absorbed.nothing(old.node, layout, old.bias_node), summed=summed)


def _depth(parts: Iterable[Part]) -> int:
    states = (part.summand.linear for part in parts)
    return max(state.summed.depth if state and state.summed else 0 for state in states)


def _border(window: Window) -> Border:
    if window.transposed:
        return Border.NOTHING if window.is_plain else Border.NEVER
    return Border.ZEROS if any((*window.begin, *window.end)) else Border.NOTHING
