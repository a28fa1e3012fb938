"""Sums of linear maps of one tensor become one linear map.

For every sum the branches are grouped by the tensor that they begin at, and by what becomes of the
order of its axes. Of a group, what adds up
to one linear operator that costs no more than they do, in multiplications and in stored bytes,
becomes one: the largest of its linear operators holds the sum, and the others go. Affines alone, as
x + BN(x), become one affine. What else is added stays, and so does what cannot be taken in, with
the reason.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.plan.affine_sums import AffineSum, affine_sum, is_affine
from bnfold.graph.plan.blocked import Blocked
from bnfold.graph.plan.branches import Branch, Branches, Tree
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.merging import merged_sum
from bnfold.graph.plan.parts import Cluster, Part, Parts, largest
from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.linear_maps import Term
from bnfold.rules.orders import TURNED, Order
from bnfold.rules.terms import TERM

_TRIED = 8
"""Clusters that a branch is tried with, so that planning stays linear."""


class Sums:
    """See the module.

    Attributes:
        kept: Why branches stay apart, by the nodes of each.
    """

    def __init__(self, draft: Draft, *, bn_only: bool) -> None:
        self._draft = draft
        self._view = draft.view
        self._graph = draft.graph
        self._bn_only = bn_only
        self._terms: dict[int, Term | Refusal] = {}
        self._branches = Branches(draft, self._term_of)
        self._blocked = Blocked(draft, self._branches)
        self._candidates = [n for n in sorted(draft.roles.carry) if self._branches.is_sum(n)]
        self.kept: dict[tuple[int, ...], Obstacle] = {}
        self.holders: set[int] = set()
        """Runs that hold a sum of affines. They change something now, if they did not before."""

    def merge_all(self) -> bool:
        """Merge what can be; return whether anything was."""
        self.kept.clear()
        trees = map(self._branches.tree, self._candidates)
        return any([self._merge(tree) for tree in trees if tree])  # noqa: C419 - every one

    def _merge(self, tree: Tree) -> bool:
        found: list[Cluster | AffineSum] = []
        for branches in self._groups(tree):
            clusters = [c for c in self._clusters(branches) if len(c.parts) > 1]
            within = {part.branch.edge for cluster in clusters for part in cluster.parts}
            affines = self._affines([b for b in branches if b.edge not in within and is_affine(b)])
            found += [*clusters, *affines]
        if not found:
            return False
        try:
            merged = merged_sum(self._draft, tree, found, self._branches.signs)
            self._draft.take_up_sum(merged)
        except Refusal as refusal:
            for one in found:
                self._keep(one.branches, refusal.obstacle)
            return False
        self.holders |= merged.affines.keys()
        for state in merged.states.values():
            if state.summed is not None:
                self._terms[state.node] = replace(state.summed.term, layout=state.layout)
        return True

    def _groups(self, tree: Tree) -> Iterator[list[Branch]]:
        """Yield the branches that begin at the same tensor, where there are several."""
        sources: dict[int, list[Branch]] = defaultdict(list)
        for edge, sign in sorted(tree.leaves.items()):
            branch = self._branches.branch(edge, sign)
            sources[branch.source].append(branch)
        self._keep_seen(sources)
        self._keep_blocked([branch for branches in sources.values() for branch in branches])
        for branches in sources.values():
            for alike in self._by_order(branches):
                if len(alike) > 1 and self._is_wanted(alike):
                    yield alike

    def _by_order(self, branches: Sequence[Branch]) -> Collection[list[Branch]]:
        """Return branches of one tensor by what they do to the order of its axes."""
        found: dict[Order, list[Branch]] = defaultdict(list)
        for branch in branches:
            found[branch.order].append(branch)
        if len(found) > 1 and any(branch.linear is not None for branch in branches):
            alone = (alike for alike in found.values() if len(alike) == 1)
            self._keep(chain(*alone), Obstacle(Reason.OTHER_GEOMETRY, detail=TURNED))
        return found.values()

    def _affines(self, branches: Sequence[Branch]) -> Iterator[AffineSum]:
        """Yield affines of one tensor as one, if that can be."""
        try:
            found = affine_sum(self._draft, branches)
        except Refusal as refusal:
            if refusal.obstacle.reason is not Reason.NO_GAIN:
                self._keep(branches, refusal.obstacle)
            return
        if found is not None:
            yield found

    def _keep_seen(self, sources: Mapping[int, Sequence[Branch]]) -> None:
        """Say why linear operators beside a branch of the same tensor are no branches themselves.

        What they make is a graph output, or something else reads it.
        """
        for tensor, branches in sources.items():
            number = self._draft.linear_behind(tensor)
            if number is None or any(branch.nodes for branch in branches):
                continue
            node, layout = self._view.nodes[number], self._draft.roles.linear[number]
            source = self._draft.root(node.inputs[layout.data])
            if any(branch.linear is not None for branch in sources.get(source, ())):
                is_output = bool(self._draft.outputs.get(tensor))
                reason = Reason.GRAPH_OUTPUT if is_output else Reason.OTHER_READER
                self.kept[(number,)] = Obstacle(reason, self._draft.label(tensor))

    def _keep_blocked(self, branches: Sequence[Branch]) -> None:
        """Say what keeps branches apart that would begin at one tensor without it."""
        for nodes, obstacle in self._blocked.among(branches):
            if not self._bn_only or any(map(self._graph.is_normalization, nodes)):
                self.kept[nodes] = obstacle

    def _is_wanted(self, branches: Iterable[Branch]) -> bool:
        nodes = (node for branch in branches for node in branch.nodes)
        return not self._bn_only or any(map(self._graph.is_normalization, nodes))

    def _clusters(self, branches: Sequence[Branch]) -> list[Cluster]:
        """Return which branches are to become one; one that stays apart is a cluster by itself."""
        if all(branch.linear is None for branch in branches):
            return []
        asked = Parts(self._draft, self._term_of, branches)
        parts: list[Part] = []
        for branch in branches:
            try:
                parts.append(asked.part(branch))
            except Refusal as refusal:
                self._keep_branch(branch, refusal.obstacle)
        parts = largest(parts)
        if not any(part.summand.linear for part in parts):
            return []
        try:
            return [asked.cluster(parts)]
        except Refusal:
            return self._apart(asked, parts)

    def _apart(self, asked: Parts, parts: Sequence[Part]) -> list[Cluster]:
        """Let each part join the first of the larger ones with which that can be."""
        clusters: list[Cluster] = []
        for part in parts:
            refused: Obstacle | None = None
            for index, cluster in enumerate(clusters[:_TRIED]):
                try:
                    clusters[index] = asked.joined(cluster, part)
                    break
                except Refusal as refusal:
                    refused = refused or refusal.obstacle
            else:
                clusters.append(Cluster((part,), part.summand.term))
                if refused is not None:
                    self._keep_beside(part.branch, clusters[0].parts[0].branch, refused)
        return [c for c in clusters if any(part.summand.linear for part in c.parts)]

    def _keep_beside(self, branch: Branch, other: Branch, obstacle: Obstacle) -> None:
        """Say of a branch, or of the other if it is but a tensor, why the two stay apart."""
        if not branch.nodes:
            branch, other = other, branch
        self._keep_branch(branch, replace(obstacle, at=self._label(other)))

    def _label(self, branch: Branch) -> str:
        """Return how a person finds a branch."""
        if branch.nodes:
            return self._view.nodes[branch.named[-1]].label
        return self._draft.label(branch.source)

    def _keep(self, branches: Iterable[Branch], obstacle: Obstacle) -> None:
        for branch in branches:
            self._keep_branch(branch, obstacle)

    def _keep_branch(self, branch: Branch, obstacle: Obstacle) -> None:
        if branch.nodes:
            self.kept[tuple(sorted(branch.named))] = obstacle

    def _term_of(self, number: int) -> Term:
        """Return which linear map a node is.

        Raises:
            Refusal: It is no linear map.
        """
        found = self._terms.get(number)
        if found is None:
            found = self._terms[number] = self._asked(number)
        if isinstance(found, Refusal):
            raise found
        return found

    def _asked(self, number: int) -> Term | Refusal:
        node = self._view.nodes[number]
        if node.proto.op_type not in TERM:
            return Refusal(Reason.NOT_LINEAR, at=node.label)
        try:
            with refusing_at(node, self._graph):
                return TERM[node.proto.op_type](self._graph.operator(number))
        except Refusal as refusal:
            return refusal
