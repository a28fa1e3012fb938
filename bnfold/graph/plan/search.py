"""The search for a place where a run of affines can go.

Both ways assign affines to tensors, starting at the run, until everything that a change touches
agrees:

- **sink**: the run is removed, and its input T becomes A(T). The node that makes T has to make
  A(T): a linear operator absorbs A, a constant is recomputed, another run is merged with A. Or the
  node lets A pass, and then its own inputs become an affine of themselves in turn.
- **hoist**: the run is removed, and its output, which was T = A(T'), is now T'. Every reader of T
  has to apply A itself: a linear operator absorbs A on its input, another run is merged with A. Or
  the reader lets A pass, and then its outputs are without an affine that they had, in turn.

Either way *every* reader of a tensor that changes takes part in the fold. A run that is the same
affine is removed too, an operator that lets the affine pass hands it on, and Shape depends on no
numbers. Any other reader makes the search fail, and so does a graph output or a tensor that a
subgraph captures.
"""

import heapq
from collections.abc import Mapping

import numpy as np

from bnfold.graph.facts.composites import Composite
from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.absorbing import (
    absorbed_on_input,
    absorbed_on_output,
    require_recomputable,
)
from bnfold.graph.plan.attempts import SILENT, Did, Tracer
from bnfold.graph.plan.backtracking import Backtracking
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.likeliest import likeliest_first
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.proposal import Proposal
from bnfold.graph.plan.run import Run, can_follow
from bnfold.graph.plan.spelling import nodes_needed
from bnfold.graph.plan.stated import require_storable
from bnfold.limits import AFFINES
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine
from bnfold.rules.branching import onto_branch
from bnfold.rules.passage import CarryRow, Passage
from bnfold.rules.stated import STATED

_PASSED = 8
"""Runs that a scale may pass in one search. Without this limit planning would take time quadratic
in the length of a chain of Adds that each scale climbs to its end."""


class Search:
    """One attempt to fold nodes of a run; it raises `Refusal` if that is impossible."""

    def __init__(
        self, draft: Draft, how: How, forks: Backtracking, tracer: Tracer = SILENT
    ) -> None:
        self._draft = draft
        self._view = draft.view
        self._forks = forks
        self._tracer = tracer
        self._affines: dict[int, Affine] = {}
        self._passed: dict[int, Mapping[int, Affine]] = {}  # by carry node, what went up through it
        self._rising: list[int] = []  # tensors whose maker has not been asked yet
        self._ready: list[int] = []  # carry nodes that read a changed tensor and nothing else
        self._waiting: list[int] = []  # those that read several, a heap
        self._queued: set[int] = set()
        self._scope = NONE
        self._held = 0  # values of `_affines`
        self._variance: F64 | None = None  # of what the run reads, where it matters and is known
        self.proposal = Proposal(how)

    def sink(self, run: Run, count: int) -> Proposal:
        """Return what folds the first `count` nodes of a run upwards."""
        tensor = self._draft.run_input(run)
        self._start(run)
        affine = run.prefix(count)
        if affine.is_identity:
            self.proposal.removed[run.number] = (0, count)
            self._take_identity(tensor)
        else:
            self._assign(tensor, affine)
            self._settle()
        return self.proposal

    def sink_scale(self, run: Run) -> Proposal:
        """Return what folds the scale of a run upwards and leaves its shift: (s x) + t.

        A first node that adds can hold the shift, and the others go. Otherwise the run is one Add.
        """
        total = run.total
        self._start(run)
        if not (total.has_scale and total.has_shift):
            raise Refusal(Reason.NO_GAIN)
        begins_with_shift = len(run.nodes) > 1 and not run.prefix(1).has_scale
        where = self.proposal.rescaled if begins_with_shift else self.proposal.left
        where[run.number] = _shift_alone(total)
        if begins_with_shift:
            self.proposal.removed[run.number] = (1, len(run.nodes))
            self.proposal.through.add(run.nodes[0])
        self._assign(self._draft.run_input(run), total.scale_only())
        self._settle()
        return self.proposal

    def hoist_scale(self, run: Run) -> Proposal:
        """Return what folds the scale of a run downwards and leaves a shift: s (x + t / s).

        The last node adds, and holds the shift.
        """
        scale = run.total.scale_only()
        self._start(run)
        self.proposal.removed[run.number] = (0, len(run.nodes) - 1)
        self.proposal.through.add(run.nodes[-1])
        self.proposal.rescaled[run.number] = _shift_alone(run.total.then(scale.inverse()))
        self._assign(self._draft.run_output(run), scale, made=True)
        self._settle()
        return self.proposal

    def _take_identity(self, tensor: int) -> None:
        """Remove a run that changes nothing, if a linear operator makes its input.

        The operator's output takes the name of the run's output; no number changes.
        """
        linear = self._draft.linear_behind(tensor)
        maker = self._view.producer(tensor)
        if maker is None:
            raise Refusal(Reason.GRAPH_INPUT, at=self._draft.label(tensor))
        if linear is None:
            raise self._not_linear(maker)
        self._check_may_change(tensor)
        self.proposal.linear[linear] = self._state(linear)
        self._tracer.step(linear, Did.ABSORBED)

    def drop(self, run: Run) -> Proposal:
        """Return what removes a run of arithmetic that changes nothing, wherever it stands."""
        tensor, output = self._draft.run_input(run), self._draft.run_output(run)
        self._start(run)
        if self._draft.outputs.get(output):  # the tensor before takes over the name
            self._check_may_change(tensor)
            if self._view.producer(tensor) is None:
                raise Refusal(Reason.GRAPH_INPUT, at=self._draft.label(tensor))
        self._check_not_captured(output)
        self.proposal.removed[run.number] = (0, len(run.nodes))
        return self.proposal

    def hoist(self, run: Run, start: int) -> Proposal:
        """Return what folds the nodes of a run from `start` on downwards."""
        self._start(run)
        affine = run.suffix(start)
        if affine.is_identity:
            raise Refusal(Reason.NO_GAIN)
        output = self._draft.run_output(run)
        if not self._draft.readers(output) and not self._draft.outputs.get(output):
            raise Refusal(Reason.NO_GAIN, "nothing reads it", self._draft.label(output))
        self.proposal.removed[run.number] = (start, len(run.nodes))
        self._assign(output, affine, made=True)
        self._settle()
        return self.proposal

    def _start(self, run: Run) -> None:
        self._scope = self._view.nodes[run.nodes[0]].scope
        if self._draft.precision is not None and self.proposal.how is How.OUTPUT:
            self._variance = self._draft.precision.variance_before(run)

    # -- assigning ----------------------------------------------------------------------------

    def _assign(self, tensor: int, affine: Affine, *, made: bool = False) -> None:
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
        self._check_may_change(tensor)
        self._held += affine.size
        if self._held > AFFINES:
            raise Refusal(Reason.TOO_LARGE, at=self._draft.label(tensor))
        self._affines[tensor] = affine
        self.proposal.changed.add(tensor)
        if made:
            self._reach_readers(tensor, affine)
        else:
            self._rising.append(tensor)

    def _check_may_change(self, tensor: int) -> None:
        record, label = self._view.tensors[tensor], self._draft.label(tensor)
        if record.scope != self._scope:
            raise Refusal(Reason.OTHER_SCOPE, at=label)
        if self._draft.outputs.get(tensor):
            raise Refusal(Reason.GRAPH_OUTPUT, at=label)
        self._check_not_captured(tensor)

    def _check_not_captured(self, tensor: int) -> None:
        # A subgraph refers to a tensor from outside by its name and would read the changed numbers.
        for node, _ in self._draft.number_readers(tensor):
            if self._view.nodes[node].scope != self._scope:
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
            self._absorb_output(linear, affine)
            return
        if linear is not None and linear != maker.number:
            self.proposal.parted.add(linear)
        run = draft.run_of.get(maker.number)
        if run is not None and not draft.runs[run].total.is_identity:
            if run in self.proposal.removed:
                raise Refusal(Reason.BRANCHES_DISAGREE, at=maker.label)
            if self._passes_run(draft.runs[run], affine):
                self._assign(draft.run_input(draft.runs[run]), affine)
                return
            if not self._widens(run, draft.runs[run].total, affine):
                self.proposal.after[run] = affine
                self._tracer.step(maker.number, Did.MERGED)
                return
        composite = draft.roles.normalized.get(maker.number)
        if composite is not None:
            self._absorb_in_parameters(composite, affine)
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
        total, sinks = run.total, self.proposal.how is How.OUTPUT
        first, second = (total, affine) if sinks else (affine, total)
        passed = len(self.proposal.rescaled)
        if affine.has_shift or passed >= _PASSED or not can_follow(first, second):
            return False
        merged = first.then(second)
        if nodes_needed(self._draft.graph, run.nodes, merged) <= len(run.nodes):
            return False
        shift = (affine if sinks else affine.inverse()).apply(total.shift)
        self.proposal.rescaled[run.number] = Affine.of(total.scale, shift)
        self.proposal.through.update(run.nodes)
        self._tracer.step(run.nodes[0], Did.PASSED_UP if sinks else Did.PASSED_DOWN)
        return True

    def _widens(self, run: int, first: Affine, second: Affine) -> bool:
        """Whether an affine passes a run that it cannot be merged with, and note that it does.

        Together they vary along two axes. Each node of the run that is an Add, say, is one with a
        constant branch; the constant takes the affine up.
        """
        if run in self.proposal.widened:
            return True
        nodes, known = self._draft.runs[run].nodes, self._draft.roles.also_carry
        merged = self._draft.runs[run].is_merged or run in self.proposal.before
        if merged or can_follow(first, second) or not known.keys() >= set(nodes):
            return False
        self.proposal.widened.add(run)
        return True

    def _row(self, node: int) -> CarryRow | None:
        """Return the row by which an affine passes a node, if it does."""
        widened = self._draft.run_of.get(node) in self.proposal.widened
        if widened or self._draft.linear_of_bias.get(node) in self.proposal.parted:
            return self._draft.roles.also_carry[node]
        return self._draft.roles.carry.get(node)

    def _absorb_in_parameters(self, composite: Composite, affine: Affine) -> None:
        """Let a written-out normalization γ n + β become (s γ) n + (s β + t)."""
        output = self._view.nodes[composite.output]
        if affine.has_scale and composite.scale is None:
            raise Refusal(Reason.COMPOSITE, f"{composite.name} without a scale", output.label)
        if affine.has_shift and composite.shift is None:
            raise Refusal(Reason.COMPOSITE, f"{composite.name} without a shift", output.label)
        parts = ((composite.scale, affine.scale_only()), (composite.shift, affine))
        for edge, part in parts:
            if edge is None:
                continue
            operator = self._draft.graph.operator(edge[0])
            with refusing_at(self._view.nodes[edge[0]]):
                own = onto_branch(part, operator.required(edge[1]))
            self._recompute(edge, own)
            self.proposal.parameters.add(edge[0])
        self.proposal.through.update(composite.behind)
        self._tracer.step(output.number, Did.ABSORBED)

    def _absorb_output(self, node: int, affine: Affine) -> None:
        state = self._state(node)
        self.proposal.linear[node] = absorbed_on_output(self._draft, state, affine, self._variance)
        self._tracer.step(node, Did.ABSORBED)

    def _state(self, node: int) -> Absorbed:
        return self.proposal.linear.get(node) or self._draft.state(node)

    def _carry_up(self, node: Node, tensor: int, affine: Affine) -> None:
        row = self._row(node.number)
        if row is None and node.number in self._draft.run_of:
            run = self._pass_idle(node)
            self._tracer.step(node.number, Did.PASSED_UP)
            self._assign(self._draft.run_input(run), affine)
            return
        if row is None:
            raise self._not_linear(node)
        output = node.outputs.index(tensor)
        with refusing_at(node):
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
        self.proposal.through.update(run.nodes)
        return run

    def _not_linear(self, node: Node) -> Refusal:
        obstacle = self._draft.roles.refused.get(node.number)
        if obstacle is None:
            return Refusal(Reason.NOT_LINEAR, at=node.label)
        detail = " ".join(part for part in (obstacle.at, obstacle.detail) if part)
        return Refusal(obstacle.reason, detail, node.label)

    # -- down ---------------------------------------------------------------------------------

    def _settle(self) -> None:
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
        self._check_names()

    def _reach_readers(self, tensor: int, affine: Affine) -> None:
        """Ask the readers of a changed tensor; those with several inputs wait for the others."""
        for node, index in self._draft.readers(tensor):
            if self._draft.makes_constants(node):
                self.proposal.through.add(node)
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
            self.proposal.parted.add(partner)
            return True
        run = self._draft.run_of.get(node)
        if run is None:
            return node in self._draft.roles.carry
        total = self._draft.runs[run].total
        hoists = self.proposal.how is How.INPUT
        return (
            total.is_identity
            or run in self.proposal.widened
            or (hoists and self._widens(run, affine, total))
        )

    def _meet(self, node: Node, index: int, affine: Affine) -> None:
        """Let a reader that no affine passes take part in the fold, or refuse."""
        hoists = self.proposal.how is How.INPUT
        if node.number in self._draft.run_of:
            self._meet_run(self._run_at(node.number), affine)
        elif hoists and node.number in self._draft.roles.linear:
            self._absorb_input(node, index, affine)
        elif hoists:
            raise self._not_linear(node)
        else:
            raise Refusal(Reason.OTHER_READER, at=node.label)

    def _recomputed(self, node: Node) -> dict[int, Affine]:
        """Return the affines of those inputs of a node that are recomputed constants."""
        found = self.proposal.constants
        return {
            i: found[node.number, i] for i in range(len(node.inputs)) if (node.number, i) in found
        }

    def _meet_run(self, run: Run, affine: Affine) -> None:
        """Sinking: remove a run that begins with the same affine. Hoisting: merge it with A."""
        if run.number in self.proposal.left or run.number in self.proposal.rescaled:
            return
        if self.proposal.how is How.INPUT:
            if self._passes_run(run, affine):
                self._assign(self._draft.run_output(run), affine, made=True)
                return
            self.proposal.before[run.number] = affine
            self._tracer.step(run.nodes[0], Did.MERGED)
            return
        agreeing = [
            count
            for count, prefix in enumerate(run.prefixes(), start=1)
            if prefix.rank == affine.rank and prefix.same(affine)
        ]
        # It would be removed and take another affine up at the same time.
        if agreeing and run.number in self.proposal.after:
            raise Refusal(Reason.BRANCHES_DISAGREE, at=self._view.nodes[run.nodes[0]].label)
        if agreeing:
            # The longest prefix: nodes behind a shorter one that change nothing go with it.
            self.proposal.removed[run.number] = (0, agreeing[-1])
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
            self._assign(self._draft.run_output(run), *edges.values(), made=True)
            return
        edges |= self._recomputed(node)
        if number in self._passed and _alike(edges, self._passed[number]):
            return
        with refusing_at(node):
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
                self._assign(tensor, affine, made=True)
            elif expected is not None and not expected.same(affine):
                raise Refusal(Reason.BRANCHES_DISAGREE, at=node.label)

    def _absorb_input(self, node: Node, index: int, affine: Affine) -> None:
        # A tensor may be data for one node and the weight of the next.
        if index != self._draft.roles.linear[node.number].data:
            raise Refusal(Reason.NOT_LINEAR, "it is read as a parameter", node.label)
        state = self._state(node.number)
        self.proposal.linear[node.number] = absorbed_on_input(self._draft, state, affine)
        self._tracer.step(node.number, Did.ABSORBED)

    # -- both ---------------------------------------------------------------------------------

    def _take_passage(self, node: Node, passage: Passage) -> None:
        """Assign the affines that a row answers to the node's constants, inputs and outputs."""
        self.proposal.through.add(node.number)
        if passage.stated is not None:
            self._restate(node, passage.stated)
        for index, affine in passage.inputs.items():
            tensor = node.inputs[index]
            if tensor in self._draft.graph.constants:
                self._recompute((node.number, index), affine)
            else:
                self._assign(tensor, affine)
        for index, affine in passage.outputs.items():
            if node.outputs[index] != NONE:
                self._assign(node.outputs[index], affine, made=True)

    def _recompute(self, edge: Edge, affine: Affine) -> None:
        """Sinking, a constant c becomes A(c); hoisting, c was A(c'), so it becomes A⁻¹(c)."""
        if affine.is_identity:
            return
        require_recomputable(self._draft, edge, affine)
        sinks = self.proposal.how is How.OUTPUT
        self.proposal.constants[edge] = affine if sinks else affine.inverse()
        self._tracer.step(edge[0], Did.RECOMPUTED)

    def _restate(self, node: Node, affine: Affine) -> None:
        """Let the numbers that a node states become what they are under an affine."""
        stated = STATED[node.proto.op_type]
        with refusing_at(node):
            before = stated.numbers(self._draft.graph.operator(node.number))
            before = self._draft.stated.get(node.number, before)
            before = self.proposal.stated.get(node.number, before)
            sinks = self.proposal.how is How.OUTPUT
            changed = stated.change(before, affine if sinks else affine.inverse())
        if changed != before:
            for number in changed:
                require_storable(self._draft.graph, node, number, stated.reason)
            self.proposal.stated[node.number] = changed
            self._tracer.step(node.number, Did.RESTATED)

    def _check_names(self) -> None:
        """Refuse to make two graph outputs one tensor: ONNX gives each output a name of its own."""
        seen: set[int] = set()
        for number, (begin, end) in self.proposal.removed.items():
            run = self._draft.runs[number]
            output = self._view.nodes[run.nodes[end - 1]].outputs[0]
            if not self._draft.outputs.get(output):
                continue
            source = self._draft.root(self._draft.run_input(run)) if begin == 0 else NONE
            if source in seen:
                raise Refusal(Reason.GRAPH_OUTPUT, at=self._draft.label(output))
            seen.add(source)


def _shift_alone(affine: Affine) -> Affine:
    return Affine.of(np.ones_like(affine.scale), affine.shift)


def _alike(some: Mapping[int, Affine], others: Mapping[int, Affine]) -> bool:
    """Whether two sets of inputs have the same affines; an input that is not listed has none."""

    def is_alike(index: int) -> bool:
        one, other = some.get(index), others.get(index)
        if one is None or other is None:
            return (one or other) is None or all(a is None or a.is_identity for a in (one, other))
        return one.same(other)

    return all(map(is_alike, {*some, *others}))
