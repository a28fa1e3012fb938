"""The branches of a sum: from the tensor that each begins at to the place where it is added.

A sum is a tree of Add, Sub and Sum nodes; what lies between them is read by them alone. A branch
goes up from one of its leaves through nodes that it has for itself: channel affines, one linear
operator or pool, crops, Transposes. What it ends at is its *source*; Transposes that others read,
too, stand between the two.

A branch is  behind(affine(term(before(source)))),  `behind` and `before` being orders of axes.
"""

from collections.abc import Callable
from dataclasses import field

from bnfold.frozen import frozen, slotted
from bnfold.graph.index.view import Edge, Node
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.run import Run, can_follow
from bnfold.reasons import Obstacle, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.branching import Sum
from bnfold.rules.linear_maps import Term, Window, crop_of
from bnfold.rules.orders import ORDER, Order
from bnfold.rules.terms import ADDED

_TURNS = 8
"""Transposes that others read, too, and a branch goes through, so that planning stays linear."""


@frozen(eq=False)
class Tree:
    """A sum.

    Attributes:
        root: The node that makes the result.
        nodes: All its nodes, the root last.
        leaves: What is added: where it is read, and the sign that it has in the result.
        inner: Where one of the nodes reads what another makes, and which.
        signs: The sign that each node has in the result.
    """

    root: int
    nodes: tuple[int, ...]
    leaves: dict[Edge, int]
    inner: dict[Edge, int]
    signs: dict[int, int]


@slotted
class Branch:
    """A branch of a sum.

    Attributes:
        edge: Where the sum reads it.
        sign: Its sign in the result.
        source: The tensor that it begins at.
        nodes: What it has for itself, from the sum upwards.
        runs: The runs among that, by number.
        affine: What the runs are together; None where there are none.
        linear: The linear operator among them, if there is one.
        term: The linear map below the affine; None for the source itself.
        behind: The order of axes that Transposes make of what all that makes.
        before: The order that Transposes make of the source first.
        turns: These Transposes, from the sum upwards; the last ones may have other readers.
    """

    edge: Edge
    sign: int
    source: int
    nodes: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    affine: Affine | None = None
    linear: int | None = None
    term: Term | None = None
    behind: Order = field(default_factory=Order)
    before: Order = field(default_factory=Order)
    turns: list[int] = field(default_factory=list)

    @property
    def order(self) -> Order:
        """What becomes of the source's axes, whatever stands between."""
        return self.before.then(self.behind)

    @property
    def named(self) -> tuple[int, ...]:
        """The nodes by which a person knows it: those that do more than turn."""
        return tuple(node for node in self.nodes if node not in self.turns) or (*self.nodes,)

    @property
    def has_operator(self) -> bool:
        """Whether there is an operator in it above which only a crop can follow."""
        return self.term is not None and not self.term.is_crop


class Branches:
    """Finds sums and their branches in a draft.

    `term_of` tells which linear map a node is, or raises Refusal.
    """

    def __init__(self, draft: Draft, term_of: Callable[[int], Term]) -> None:
        self._draft = draft
        self._view = draft.view
        self._graph = draft.graph
        self._term_of = term_of

    def is_sum(self, number: int) -> bool:
        """Whether a node adds tensors up that have the same axes."""
        node = self._view.nodes[number]
        return (
            node.proto.op_type in ADDED
            and number in self._draft.roles.carry
            and number not in self._draft.run_of
            and number not in self._draft.removed
            and not any(a.name == "broadcast" for a in node.proto.attribute)
        )

    def tree(self, root: int) -> Tree | None:
        """Return the sum that a node makes; None where it is but a part of one."""
        if not self.is_sum(root) or self._is_inner(self._view.nodes[root].outputs[0]):
            return None
        leaves: dict[Edge, int] = {}
        inner: dict[Edge, int] = {}
        signs = {root: 1}
        waiting = [root]
        while waiting:
            number = waiting.pop()
            row = self.row(number)
            for index, tensor in enumerate(self._view.nodes[number].inputs):
                sign = row.sign(index) * signs[number]
                below = self._sum_behind(self._draft.root(tensor)) if sign else None
                if below is not None:
                    signs[below], inner[number, index] = sign, below
                    waiting.append(below)
                elif sign:
                    leaves[number, index] = sign
        return Tree(root, tuple(sorted(signs)), leaves, inner, signs)

    def row(self, number: int) -> Sum:
        """Return the signs with which a node adds up."""
        row = self._draft.roles.carry[number]
        assert isinstance(row, Sum)  # noqa: S101 - for the type checker
        return row

    def signs(self, number: int) -> tuple[int, ...]:
        """Return the sign of each input of a sum."""
        return tuple(map(self.row(number).sign, range(len(self._view.nodes[number].inputs))))

    def _sum_behind(self, tensor: int) -> int | None:
        """Return the sum that makes a tensor which only another sum reads."""
        maker = self._view.producer(tensor)
        alone = maker is not None and self.is_sum(maker.number) and self._is_inner(tensor)
        return maker.number if maker is not None and alone else None

    def _is_inner(self, tensor: int) -> bool:
        if not self.is_alone(tensor, self._view.tensors[tensor].scope):
            return False
        return self.is_sum(self._draft.readers(tensor)[0][0])

    def is_alone(self, tensor: int, scope: int) -> bool:
        """Whether one node of its scope reads a tensor, and nobody else sees it."""
        readers = self._draft.readers(tensor)
        return (
            self._view.tensors[tensor].scope == scope
            and not self._draft.outputs.get(tensor)
            and len(readers) == 1
            and self._view.nodes[readers[0][0]].scope == scope
        )

    # -- from a leaf upwards ------------------------------------------------------------------

    def branch(self, edge: Edge, sign: int) -> Branch:
        """Return the branch that ends at a leaf."""
        node = self._view.nodes[edge[0]]
        branch = Branch(edge, sign, self._draft.root(node.inputs[edge[1]]))
        alone = self.is_alone(branch.source, node.scope)
        while self._turn(branch, node.scope, alone=alone) or (alone and self._climb(branch)):
            alone = alone and self.is_alone(branch.source, node.scope)
        return branch

    def _turn(self, branch: Branch, scope: int, *, alone: bool) -> bool:
        """Pass a Transpose; return whether there is one. It is the branch's own where `alone`."""
        maker = self._view.producer(branch.source)
        if maker is None or maker.scope != scope or maker.number not in self._draft.roles.carry:
            return False
        if not alone and len(branch.turns) >= _TURNS:
            return False
        row = ORDER.get(maker.proto.op_type)
        try:
            order = None if row is None else row(self._graph.operator(maker.number))
        except Refusal:
            order = None
        if order is None:
            return False
        branch.turns.append(maker.number)
        branch.nodes += [maker.number] * alone
        branch.before = order.then(branch.before)
        branch.source = self._draft.root(maker.inputs[0])
        return True

    def _climb(self, branch: Branch) -> bool:
        """Take the node that makes the source into a branch; return whether that was possible."""
        run = self._run_behind(branch.source)
        if run is not None and run.total.is_identity:
            self._append(branch, run)
            return True
        unsettled = branch.behind, branch.before, branch.affine
        if _settle(branch) and self._take(branch):
            return True
        branch.behind, branch.before, branch.affine = unsettled
        return False

    def _take(self, branch: Branch) -> bool:
        linear = self._draft.linear_behind(branch.source)
        maker = self._view.producer(branch.source)
        if maker is None:
            return False
        if linear is not None:
            return not branch.has_operator and self._take_linear(branch, linear)
        run = self._run_behind(branch.source)
        if run is not None:
            return not branch.has_operator and self._take_run(branch, run)
        return maker.number in self._draft.roles.carry and self._take_window(branch, maker)

    def _take_linear(self, branch: Branch, linear: int) -> bool:
        if not self._extend(branch, linear):
            return False
        bias = self._draft.bias_nodes.get(linear)
        branch.nodes += [linear] if bias is None else [bias, linear]
        branch.linear = linear
        node = self._view.nodes[linear]
        branch.source = self._draft.root(node.inputs[self._draft.roles.linear[linear].data])
        return True

    def _run_behind(self, tensor: int) -> Run | None:
        """Return the run that makes a tensor."""
        number = self._draft.run_of.get(self._view.tensors[tensor].producer)
        return None if number is None else self._draft.runs[number]

    def _append(self, branch: Branch, run: Run) -> None:
        branch.runs.append(run.number)
        branch.nodes += reversed(run.nodes)
        branch.source = self._draft.run_input(run)

    def _take_run(self, branch: Branch, run: Run) -> bool:
        """Take the affines of a run in; they go through a crop, but not through zeros around."""
        window = None if branch.term is None else branch.term.window
        if window is not None and max((*window.begin, *window.end)) > 0:
            return False
        total = run.total
        if branch.affine is not None:
            if not can_follow(total, branch.affine):
                return False
            total = total.then(branch.affine)
        branch.affine = total
        self._append(branch, run)
        return True

    def _take_window(self, branch: Branch, node: Node) -> bool:
        """Take a pool, a crop or zeros around in."""
        if not self._extend(branch, node.number):
            return False
        branch.nodes.append(node.number)
        branch.source = self._draft.root(node.inputs[0])
        return True

    def refused(self, number: int) -> Obstacle | None:
        """Return why a node is no linear map that a branch can have; None if it is one."""
        try:
            self._term_of(number)
        except Refusal as refusal:
            return refusal.obstacle
        return None

    def _extend(self, branch: Branch, number: int) -> bool:
        """Put one more linear map below a branch's own, if the two are one."""
        try:
            term = self._term_of(number)
            if branch.term is not None:
                term = crop_of(branch.term, term)
        except Refusal:
            return False
        branch.term = term
        return True


def _settle(branch: Branch) -> bool:
    """Let Transposes stand behind what a branch has; return whether they can, as no window can."""
    if branch.term is not None:
        return not branch.before.axes
    if branch.affine is not None:
        branch.affine = branch.before.up(branch.affine)
    branch.behind, branch.before = branch.order, Order()
    return True


def plain(axes: int) -> Term:
    """Return the linear map that a tensor is of itself."""
    return Term(0, Window.point((0,) * axes, (0,) * axes))
