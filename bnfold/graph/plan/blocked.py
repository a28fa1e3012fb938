"""Why branches stay apart that begin at one tensor, but not as one linear operator each.

What stands in the way is looked for a few nodes further up than `branches` goes: an operator of
which the window is not known, one behind another, a Transpose, a quantizer.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from bnfold.frozen import slotted
from bnfold.graph.index.view import NONE, Node
from bnfold.graph.plan.branches import Branch, Branches
from bnfold.graph.plan.draft import Draft
from bnfold.reasons import Obstacle, Reason
from bnfold.rules.orders import TURNED
from bnfold.rules.terms import BETWEEN, TERM

_DEPTH = 24
"""Nodes further up that are looked at, so that planning stays linear."""


@slotted
class _Way:
    """What a branch goes on with above its source.

    Attributes:
        branch: The branch.
        tensors: Its source and those above it.
        linear: The first linear operator of all that, if there is one.
        obstacle: What stands above its source, and why it does not belong to the branch.
        node: That node.
    """

    branch: Branch
    tensors: list[int]
    linear: int | None
    obstacle: Obstacle | None = None
    node: int = NONE

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes by which a person knows the branch."""
        if self.branch.nodes:
            return tuple(sorted(self.branch.named))
        return (self.node if self.linear is None else self.linear,)


class Blocked:
    """Finds such branches in a draft."""

    def __init__(self, draft: Draft, branches: Branches) -> None:
        self._draft = draft
        self._view = draft.view
        self._branches = branches

    def among(self, branches: Iterable[Branch]) -> Iterator[tuple[tuple[int, ...], Obstacle]]:
        """Yield the nodes of each that would meet another further up, and what is between."""
        ways = [self._way(branch) for branch in branches]
        met = Counter(tensor for way in ways for tensor in way.tensors)
        linear = {t for way in ways if way.linear is not None for t in way.tensors}
        for way in ways:
            meets = any(met[tensor] > 1 and tensor in linear for tensor in way.tensors)
            if way.obstacle is None or not meets:
                continue
            at = "" if way.node in way.nodes else self._view.nodes[way.node].label
            yield way.nodes, Obstacle(way.obstacle.reason, at, way.obstacle.detail)

    def _way(self, branch: Branch) -> _Way:
        way = _Way(branch, [branch.source], branch.linear)
        scope = self._view.nodes[branch.edge[0]].scope
        while len(way.tensors) <= _DEPTH:
            if way.obstacle is None and not self._branches.is_alone(way.tensors[-1], scope):
                break
            before = self._before(way)
            if before == NONE:
                break
            way.tensors.append(self._draft.root(before))
        return way

    def _before(self, way: _Way) -> int:
        """Return the tensor that a tensor is made of by nodes that could belong to a branch."""
        maker = self._view.producer(way.tensors[-1])
        if maker is None:
            return NONE
        linear = self._draft.linear_behind(way.tensors[-1])
        run = self._draft.run_of.get(maker.number)
        if linear is None and run is None and not self._is_linear(maker):
            return NONE
        if way.obstacle is None:
            way.node = maker.number if linear is None else linear
            way.obstacle = self._why(self._view.nodes[way.node], way.branch)
        if run is not None:
            return self._draft.run_input(self._draft.runs[run])
        if linear is None:
            refused = self._draft.roles.refused.get(maker.number)
            if refused is not None and refused.reason is Reason.FUNCTION_ARGUMENT:
                way.linear = maker.number if way.linear is None else way.linear
            return maker.inputs[0]
        way.linear = linear if way.linear is None else way.linear
        return self._view.nodes[linear].inputs[self._draft.roles.linear[linear].data]

    def _is_linear(self, node: Node) -> bool:
        """Whether a node could be part of a linear map, if nothing stood in the way."""
        refused = self._draft.roles.refused.get(node.number)
        if refused is not None and refused.reason is Reason.WEIGHT_NOT_CONSTANT:
            return False
        return node.proto.op_type in TERM or node.proto.op_type in BETWEEN

    def _why(self, node: Node, branch: Branch) -> Obstacle:
        """Return why a node does not belong to the branch that stands behind it."""
        between = BETWEEN.get(node.proto.op_type)
        found = self._draft.roles.refused.get(node.number) or between
        if found is None and node.number not in self._draft.run_of:
            found = self._branches.refused(node.number)
        if found is None and branch.before.axes and node.number not in self._draft.roles.linear:
            found = Obstacle(Reason.OTHER_GEOMETRY, detail=TURNED)
        if found is None and branch.has_operator:
            found = Obstacle(Reason.OTHER_GEOMETRY, detail="one operator is behind another")
        return found or Obstacle(Reason.OTHER_GEOMETRY)
