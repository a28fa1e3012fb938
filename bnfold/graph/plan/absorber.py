"""What takes an affine up in the end: a linear operator, a constant, numbers that a node states."""

from bnfold.graph.facts.composites import Composite
from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.index.view import Edge, Node
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.absorbing import (
    absorbed_on_input,
    absorbed_on_output,
    require_recomputable,
)
from bnfold.graph.plan.attempts import Did, Tracer
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.proposal import Proposal
from bnfold.graph.plan.stated import require_storable
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine
from bnfold.rules.branching import onto_branch
from bnfold.rules.stated import STATED


class Absorber:
    """Lets nodes take affines up, and notes in a proposal what becomes of them."""

    def __init__(self, draft: Draft, proposal: Proposal, tracer: Tracer) -> None:
        """Note it in `proposal`."""
        self._draft, self._proposal, self._tracer = draft, proposal, tracer
        self.variance: F64 | None = None  # of what the run reads, where it matters and is known

    def state(self, node: int) -> Absorbed:
        """Return what a linear node absorbs, what is proposed included."""
        return self._proposal.linear.get(node) or self._draft.state(node)

    def on_output(self, node: int, affine: Affine) -> None:
        """Let a linear node absorb an affine on its output."""
        state = self.state(node)
        self._proposal.linear[node] = absorbed_on_output(self._draft, state, affine, self.variance)
        self._tracer.step(node, Did.ABSORBED)

    def on_input(self, node: Node, index: int, affine: Affine) -> None:
        """Let a linear node absorb an affine on its input."""
        # A tensor may be data for one node and the weight of the next.
        if index != self._draft.roles.linear[node.number].data:
            raise Refusal(Reason.NOT_LINEAR, "it is read as a parameter", node.label)
        state = self.state(node.number)
        self._proposal.linear[node.number] = absorbed_on_input(self._draft, state, affine)
        self._tracer.step(node.number, Did.ABSORBED)

    def in_parameters(self, composite: Composite, affine: Affine) -> None:
        """Let a written-out normalization γ n + β become (s γ) n + (s β + t)."""
        output = self._draft.view.nodes[composite.output]
        if affine.has_scale and composite.scale is None:
            raise Refusal(Reason.COMPOSITE, f"{composite.name} without a scale", output.label)
        if affine.has_shift and composite.shift is None:
            raise Refusal(Reason.COMPOSITE, f"{composite.name} without a shift", output.label)
        parts = ((composite.scale, affine.scale_only()), (composite.shift, affine))
        for edge, part in parts:
            if edge is None:
                continue
            operator = self._draft.graph.operator(edge[0])
            with refusing_at(self._draft.view.nodes[edge[0]]):
                own = onto_branch(part, operator.required(edge[1]))
            self.recompute(edge, own)
            self._proposal.parameters.add(edge[0])
        self._proposal.through.update(composite.behind)
        self._tracer.step(output.number, Did.ABSORBED)

    def recompute(self, edge: Edge, affine: Affine) -> None:
        """Sinking, a constant c becomes A(c); hoisting, c was A(c'), so it becomes A⁻¹(c)."""
        if affine.is_identity:
            return
        require_recomputable(self._draft, edge, affine)
        sinks = self._proposal.how is How.OUTPUT
        self._proposal.constants[edge] = affine if sinks else affine.inverse()
        self._tracer.step(edge[0], Did.RECOMPUTED)

    def recomputed(self, node: Node) -> dict[int, Affine]:
        """Return the affines of those inputs of a node that are recomputed constants."""
        found = self._proposal.constants
        return {
            i: found[node.number, i] for i in range(len(node.inputs)) if (node.number, i) in found
        }

    def restate(self, node: Node, affine: Affine) -> None:
        """Let the numbers that a node states become what they are under an affine."""
        stated = STATED[node.proto.op_type]
        with refusing_at(node):
            before = stated.numbers(self._draft.graph.operator(node.number))
            before = self._draft.stated.get(node.number, before)
            before = self._proposal.stated.get(node.number, before)
            sinks = self._proposal.how is How.OUTPUT
            changed = stated.change(before, affine if sinks else affine.inverse())
        if changed != before:
            for number in changed:
                require_storable(self._draft.graph, node, number, stated.reason)
            self._proposal.stated[node.number] = changed
            self._tracer.step(node.number, Did.RESTATED)
