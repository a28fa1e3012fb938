"""How the change of a tensor spreads, until every node that it touches has agreed.

A tensor gets an affine; who makes it is asked, and then who reads it. Each absorbs the affine
(`absorber`), or lets it pass, and then further tensors get one; or it refuses.
"""

import heapq
from collections.abc import Mapping

from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.index.view import NONE, Node
from bnfold.graph.plan.absorber import Absorber
from bnfold.graph.plan.attempts import Did, Tracer
from bnfold.graph.plan.backtracking import Backtracking
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.likeliest import likeliest_first
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.proposal import Proposal
from bnfold.graph.plan.run import Run, can_follow
from bnfold.graph.plan.spelling import nodes_needed
from bnfold.limits import AFFINES
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.passage import CarryRow, Passage

_PASSED = 8
"""Runs that a scale may pass in one search. Without this limit planning would take time quadratic
in the length of a chain of Adds that each scale climbs to its end."""


class Spread:
    """The affines that tensors get in one search, and what becomes of the nodes around them."""

    def __init__(
        self,
        draft: Draft,
        proposal: Proposal,
        absorber: Absorber,
        forks: Backtracking,
        tracer: Tracer,
    ) -> None:
        """Note in `proposal` what becomes of nodes."""
        self.scope = NONE  # the one that is searched
        self._draft = draft
        self._view = draft.view
        self._proposal = proposal
        self._absorber = absorber
        self._forks = forks
        self._tracer = tracer
        self._affines: dict[int, Affine] = {}
        self._held = 0  # values of `_affines`
        self._passed: dict[int, Mapping[int, Affine]] = {}  # by carry node, what went up through it
        self._rising: list[int] = []  # tensors whose maker has not been asked yet
        self._ready: list[int] = []  # carry nodes that read a changed tensor and nothing else
        self._waiting: list[int] = []  # those that read several, a heap
        self._queued: set[int] = set()

    # -- assigning ----------------------------------------------------------------------------

    def assign(self, tensor: int, affine: Affine, *, made: bool = False) -> None:
        """Let a tensor T become A(T), or, if it is `made` without A, T' with T = A(T')."""
        tensor = self._draft.root(tensor)
        if affine.is_identity and tensor not in self._affines:
            return
        earlier = self._affines.get(tensor)
        if earlier is not None:
            if not earlier.same(affine):
                raise Refusal(Reason.BRANCHES_DISAGREE, at=self._draft.label(tensor))
            return
        self._draft.budget.count_step(len(self._draft.readers(tensor)))
        self.check_may_change(tensor)
        self._held += affine.size
        if self._held > AFFINES:
            raise Refusal(Reason.TOO_LARGE, at=self._draft.label(tensor))
        self._affines[tensor] = affine
        self._proposal.changed.add(tensor)
        if made:
            self._reach_readers(tensor, affine)
        else:
            self._rising.append(tensor)

    def check_may_change(self, tensor: int) -> None:
        """Refuse to change what is seen from outside: a graph output, or what a subgraph reads."""
        record, label = self._view.tensors[tensor], self._draft.label(tensor)
        if record.scope != self.scope:
            raise Refusal(Reason.OTHER_SCOPE, at=label)
        if self._draft.outputs.get(tensor):
            raise Refusal(Reason.GRAPH_OUTPUT, at=label)
        self.check_not_captured(tensor)

    def check_not_captured(self, tensor: int) -> None:
        """Refuse to change or remove what a subgraph reads."""
        # A subgraph refers to a tensor from outside by its name and would read the changed numbers.
        for node, _ in self._draft.readers(tensor):
            if self._view.nodes[node].scope != self.scope:
                raise Refusal(Reason.CAPTURED, at=self._draft.label(tensor))

    # -- up -----------------------------------------------------------------------------------

    def _go_up(self, tensor: int, affine: Affine) -> None:
        """Let the node that makes a tensor absorb an affine, or let it pass."""
        draft = self._draft
        linear = draft.linear_behind(tensor)
        maker = self._view.producer(tensor)
        if maker is None:
            raise Refusal(Reason.GRAPH_INPUT, at=draft.label(tensor))
        if linear is not None and not self._passes_by(linear, affine, inwards=False):
            self._absorber.on_output(linear, affine)
            return
        if linear is not None and linear != maker.number:
            self._proposal.parted.add(linear)
        run = draft.run_of.get(maker.number)
        if run is not None and not draft.runs[run].total.is_identity:
            if run in self._proposal.removed:
                raise Refusal(Reason.BRANCHES_DISAGREE, at=maker.label)
            if self._passes_run(draft.runs[run], affine):
                self.assign(draft.run_input(draft.runs[run]), affine)
                return
            if not self._widens(run, draft.runs[run].total, affine):
                self._proposal.after[run] = affine
                self._tracer.step(maker.number, Did.MERGED)
                return
        composite = draft.roles.normalized.get(maker.number)
        if composite is not None:
            self._absorber.in_parameters(composite, affine)
            return
        self._carry_up(maker, tensor, affine)

    def _passes_by(self, node: int, affine: Affine, *, inwards: bool) -> bool:
        """Whether an affine passes a linear node, because it does not vary along its channels.

        Such are the rows of a matrix that is multiplied from the right.
        """
        layout = self._draft.roles.linear.get(node)
        if layout is None or node not in self._draft.roles.carry or not affine.axes:
            return False
        axis = layout.in_axis if inwards else layout.out_axis
        return axis % affine.rank not in affine.axes

    def _passes_run(self, run: Run, affine: Affine) -> bool:
        """Whether a scale passes a run without room for it, and note what the run becomes.

        Such is an Add: s (x + t) = s x + s t.
        """
        total, sinks = run.total, self._proposal.how is How.OUTPUT
        first, second = (total, affine) if sinks else (affine, total)
        passed = len(self._proposal.rescaled)
        if affine.has_shift or passed >= _PASSED or not can_follow(first, second):
            return False
        merged = first.then(second)
        if nodes_needed(self._draft.graph, run.nodes, merged) <= len(run.nodes):
            return False
        shift = (affine if sinks else affine.inverse()).apply(total.shift)
        self._proposal.rescaled[run.number] = Affine.of(total.scale, shift)
        self._proposal.through.update(run.nodes)
        self._tracer.step(run.nodes[0], Did.PASSED_UP if sinks else Did.PASSED_DOWN)
        return True

    def _widens(self, run: int, first: Affine, second: Affine) -> bool:
        """Whether an affine passes a run that it cannot be merged with, and note that it does.

        Together they vary along two axes. Each node of the run that is an Add, say, is one with a
        constant branch; the constant takes the affine up.
        """
        if run in self._proposal.widened:
            return True
        nodes, known = self._draft.runs[run].nodes, self._draft.roles.also_carry
        merged = self._draft.runs[run].is_merged or run in self._proposal.before
        if merged or can_follow(first, second) or not known.keys() >= set(nodes):
            return False
        self._proposal.widened.add(run)
        return True

    def _row(self, node: int) -> CarryRow | None:
        """Return the row by which an affine passes a node, if it does."""
        widened = self._draft.run_of.get(node) in self._proposal.widened
        if widened or self._draft.linear_of_bias.get(node) in self._proposal.parted:
            return self._draft.roles.also_carry[node]
        return self._draft.roles.carry.get(node)

    def _carry_up(self, node: Node, tensor: int, affine: Affine) -> None:
        row = self._row(node.number)
        if row is None and node.number in self._draft.run_of:
            run = self._pass_idle(node)
            self._tracer.step(node.number, Did.PASSED_UP)
            self.assign(self._draft.run_input(run), affine)
            return
        if row is None:
            raise self.not_linear(node)
        output = node.outputs.index(tensor)
        with refusing_at(node, self._draft.graph):
            way = self._choose(node, row, affine)
            passage = row.up(self._draft.graph.operator(node.number), output, affine, way)
        self._passed[node.number] = passage.inputs
        self._tracer.step(node.number, Did.PASSED_UP)
        self._take_passage(node, passage)

    def _choose(self, node: Node, row: CarryRow, affine: Affine) -> int:
        """Return the way that an affine takes upwards through a node that offers several."""
        offered = row.ways_up(self._draft.graph.operator(node.number), affine)
        if len(offered) <= 1:
            return next(iter(offered), 0)
        if row.every_input:
            offered = likeliest_first(self._draft, node, offered)
        way = self._forks.choose(len(offered))
        self._tracer.step(node.number, Did.FORKED, f"way {way + 1} of {len(offered)}")
        return offered[way]

    def _run_at(self, node: int) -> Run:
        return self._draft.runs[self._draft.run_of[node]]

    def _pass_idle(self, node: Node) -> Run:
        """Return the run of a node, which is an identity now and lets every affine pass."""
        run = self._run_at(node.number)
        self._proposal.through.update(run.nodes)
        return run

    def not_linear(self, node: Node) -> Refusal:
        """Return the refusal of a node that neither absorbs an affine nor lets it pass."""
        obstacle = self._draft.roles.refused.get(node.number)
        if obstacle is None:
            return Refusal(Reason.NOT_LINEAR, at=node.label)
        detail = " ".join(part for part in (obstacle.at, obstacle.detail) if part)
        return Refusal(obstacle.reason, detail, node.label)

    # -- down ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Spread the change until every node that it touches has absorbed it or let it pass.

        The order makes a search fail early. First come the nodes that read one changed tensor: they
        can refuse at once, as a Relu does. Then come the makers. Nodes with several inputs come
        last, in the order of the data, when all of their inputs are known. In another order every
        normalization along the trunk of a residual network would climb the whole trunk before the
        nearest Relu is asked.
        """
        while self._ready or self._rising or self._waiting:
            if self._ready:
                self._carry_down(self._ready.pop())
            elif self._rising:
                tensor = self._rising.pop()
                self._go_up(tensor, self._affines[tensor])
                self._reach_readers(tensor, self._affines[tensor])
            else:
                self._carry_down(heapq.heappop(self._waiting))

    def _reach_readers(self, tensor: int, affine: Affine) -> None:
        """Ask the readers of a changed tensor; those with several inputs wait for the others."""
        for node, index in self._draft.readers(tensor):
            if self._draft.graph.makes_constants(node):
                self._proposal.through.add(node)
                self._tracer.step(node, Did.SHAPE_ONLY)
            elif not self._is_carrier(node, affine):
                self._meet(self._view.nodes[node], index, affine)
            elif node not in self._queued:
                self._queued.add(node)
                if self._reads_several(node):
                    heapq.heappush(self._waiting, node)
                else:
                    self._ready.append(node)

    def _reads_several(self, node: int) -> bool:
        """Whether what passes downwards through a node depends on more than one tensor."""
        row = self._row(node)
        return row is not None and row.every_input

    def _is_carrier(self, node: int, affine: Affine) -> bool:
        if node in self._draft.roles.linear:
            return self._passes_by(node, affine, inwards=True)
        partner = self._draft.linear_of_bias.get(node)
        if partner is not None:
            self._proposal.parted.add(partner)
            return True
        run = self._draft.run_of.get(node)
        if run is None:
            return node in self._draft.roles.carry
        total = self._draft.runs[run].total
        hoists = self._proposal.how is How.INPUT
        return (
            total.is_identity
            or run in self._proposal.widened
            or (hoists and self._widens(run, affine, total))
        )

    def _meet(self, node: Node, index: int, affine: Affine) -> None:
        """Let a reader that no affine passes take part in the fold, or refuse."""
        hoists = self._proposal.how is How.INPUT
        if node.number in self._draft.run_of:
            self._meet_run(self._run_at(node.number), affine)
        elif hoists and node.number in self._draft.roles.linear:
            self._absorber.on_input(node, index, affine)
        elif hoists:
            raise self.not_linear(node)
        else:
            raise Refusal(Reason.OTHER_READER, at=node.label)

    def _meet_run(self, run: Run, affine: Affine) -> None:
        """Sinking: remove a run that begins with the same affine. Hoisting: merge it with A."""
        if run.number in self._proposal.left or run.number in self._proposal.rescaled:
            return
        if self._proposal.how is How.INPUT:
            if self._passes_run(run, affine):
                self.assign(self._draft.run_output(run), affine, made=True)
                return
            self._proposal.before[run.number] = affine
            self._tracer.step(run.nodes[0], Did.MERGED)
            return
        agreeing = [
            count
            for count, prefix in enumerate(run.prefixes(), start=1)
            if prefix.rank == affine.rank and prefix.same(affine)
        ]
        # It would be removed and take another affine up at the same time.
        if agreeing and run.number in self._proposal.after:
            raise Refusal(Reason.BRANCHES_DISAGREE, at=self._view.nodes[run.nodes[0]].label)
        if agreeing:
            # The longest prefix: nodes behind a shorter one that change nothing go with it.
            self._proposal.removed[run.number] = (0, agreeing[-1])
            self._tracer.step(run.nodes[0], Did.REMOVED)
            return
        raise Refusal(Reason.OTHER_READER, at=self._view.nodes[run.nodes[0]].label)

    def _carry_down(self, number: int) -> None:
        self._queued.discard(number)
        node = self._view.nodes[number]
        self._draft.budget.count_step(len(node.inputs))
        edges = {
            index: self._affines[root]
            for index, tensor in enumerate(node.inputs)
            if tensor != NONE and (root := self._draft.root(tensor)) in self._affines
        }
        row = self._row(node.number)
        if row is None:  # a run that changes nothing
            run = self._pass_idle(node)
            self._tracer.step(number, Did.PASSED_DOWN)
            self.assign(self._draft.run_output(run), *edges.values(), made=True)
            return
        edges |= self._absorber.recomputed(node)
        if number in self._passed and _alike(edges, self._passed[number]):
            return
        with refusing_at(node, self._draft.graph):
            passage = row.down(self._draft.graph.operator(node.number), edges)
        if number in self._passed:
            self._compare(node, passage)
            return
        self._tracer.step(number, Did.PASSED_DOWN)
        self._take_passage(node, passage)

    def _compare(self, node: Node, passage: Passage) -> None:
        """Check that a node which an affine passed upwards shows the same affine on its outputs.

        Other inputs of it may have changed since.
        """
        for index, affine in passage.outputs.items():
            if node.outputs[index] == NONE:
                continue
            tensor = self._draft.root(node.outputs[index])
            expected = self._affines.get(tensor)
            if expected is None and not affine.is_identity:
                self.assign(tensor, affine, made=True)
            elif expected is not None and not expected.same(affine):
                raise Refusal(Reason.BRANCHES_DISAGREE, at=node.label)

    # -- both ---------------------------------------------------------------------------------

    def _take_passage(self, node: Node, passage: Passage) -> None:
        """Assign the affines that a row answers to the node's constants, inputs and outputs."""
        self._proposal.through.add(node.number)
        if passage.stated is not None:
            self._absorber.restate(node, passage.stated)
        for index, affine in passage.inputs.items():
            tensor = node.inputs[index]
            if tensor in self._draft.graph.constants:
                self._absorber.recompute((node.number, index), affine)
            else:
                self.assign(tensor, affine)
        for index, affine in passage.outputs.items():
            if node.outputs[index] != NONE:
                self.assign(node.outputs[index], affine, made=True)


def _alike(some: Mapping[int, Affine], others: Mapping[int, Affine]) -> bool:
    """Whether two sets of inputs have the same affines; an input that is not listed has none."""

    def is_alike(index: int) -> bool:
        one, other = some.get(index), others.get(index)
        if one is None or other is None:
            return (one or other) is None or all(a is None or a.is_identity for a in (one, other))
        return one.same(other)

    return all(map(is_alike, {*some, *others}))
