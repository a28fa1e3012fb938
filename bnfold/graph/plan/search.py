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

import numpy as np

from bnfold.graph.index.view import NONE
from bnfold.graph.plan.absorber import Absorber
from bnfold.graph.plan.attempts import SILENT, Did, Tracer
from bnfold.graph.plan.backtracking import Backtracking
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.proposal import Proposal
from bnfold.graph.plan.run import Run
from bnfold.graph.plan.spreading import Spread
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine


class Search:
    """One attempt to fold nodes of a run; it raises `Refusal` if that is impossible."""

    def __init__(
        self, draft: Draft, how: How, forks: Backtracking, tracer: Tracer = SILENT
    ) -> None:
        self._draft = draft
        self._view = draft.view
        self._tracer = tracer
        self.proposal = Proposal(how)
        self._absorber = Absorber(draft, self.proposal, tracer)
        self._spread = Spread(draft, self.proposal, self._absorber, forks, tracer)

    def sink(self, run: Run, count: int) -> Proposal:
        """Return what folds the first `count` nodes of a run upwards."""
        tensor = self._draft.run_input(run)
        self._start(run)
        affine = run.prefix(count)
        if affine.is_identity:
            self.proposal.removed[run.number] = (0, count)
            self._take_identity(tensor)
        else:
            self._spread.assign(tensor, affine)
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
        self._spread.assign(self._draft.run_input(run), total.scale_only())
        self._settle()
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
        self._spread.assign(output, affine, made=True)
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
        self._spread.assign(self._draft.run_output(run), scale, made=True)
        self._settle()
        return self.proposal

    def drop(self, run: Run) -> Proposal:
        """Return what removes a run of arithmetic that changes nothing, wherever it stands."""
        tensor, output = self._draft.run_input(run), self._draft.run_output(run)
        self._start(run)
        if self._draft.outputs.get(output):  # the tensor before takes over the name
            self._spread.check_may_change(tensor)
            if self._view.producer(tensor) is None:
                raise Refusal(Reason.GRAPH_INPUT, at=self._draft.label(tensor))
        self._spread.check_not_captured(output)
        self.proposal.removed[run.number] = (0, len(run.nodes))
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
            raise self._spread.not_linear(maker)
        self._spread.check_may_change(tensor)
        self.proposal.linear[linear] = self._absorber.state(linear)
        self._tracer.step(linear, Did.ABSORBED)

    def _start(self, run: Run) -> None:
        self._spread.scope = self._view.nodes[run.nodes[0]].scope
        if self._draft.precision is not None and self.proposal.how is How.OUTPUT:
            self._absorber.variance = self._draft.precision.variance_before(run)

    def _settle(self) -> None:
        self._spread.settle()
        self._check_names()

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
