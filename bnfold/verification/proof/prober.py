"""Probing regions that are found step by step, noting what would have to be known of shapes."""

from collections.abc import Mapping, Sequence

from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.finding import Finding
from bnfold.verification.proof.pinpoint import Failure
from bnfold.verification.proof.probe import probe
from bnfold.verification.proof.scaling import NOTHING_MULTIPLIED, Multiplied
from bnfold.verification.proof.together import Cones, probe_together


class Prober:
    """Probes regions, and notes what it would have to know of shapes.

    Attributes:
        shapes: What is known of the shapes of tensors.
        stated: What the file tells of them; the others are of a run.
        seed: Seed of the probes' inputs.
        unsure: Tensors whose shapes, were they known, might let a failed probe hold.
        free: What is not known of shapes may be anything.
        narrowed: The regions of which a probe holds for some shapes only, by their output.
    """

    def __init__(
        self,
        stated: Mapping[str, Shape],
        seed: int,
        *,
        free: bool = False,
        seen: Mapping[str, Shape] | None = None,
    ) -> None:
        self.shapes, self.seed, self.free = {**stated, **(seen or {})}, seed, free
        self.stated = stated
        self.narrowed: dict[str, Failure] = {}
        self.unsure: dict[str, None] = {}

    def probe(
        self,
        before: Cone,
        after: Cone,
        *,
        tight: bool = False,
        never_negative: frozenset[str] = frozenset(),
        multiplied: Multiplied = NOTHING_MULTIPLIED,
    ) -> Finding | str:
        """Return what a probe finds, or why there is none; see `probe.probe`."""
        try:
            finding: Finding | str = probe(
                before, after, self.shapes, self.seed, tight=tight, never_negative=never_negative,
                multiplied=multiplied, free=self._free_but,
            )  # fmt: skip
        except EvaluationError as error:
            finding = str(error)
        if isinstance(finding, Finding) and finding.held and finding.only:
            node, index = after.scope.producers[after.output]
            self.narrowed[before.output] = Failure(
                before.scope, after.scope, before.output, after.output, node, index, finding,
                (before, after),
            )  # fmt: skip
        partly = isinstance(finding, str) or not finding.held or finding.only
        if multiplied.along is None and partly:
            leaves = (*before.leaves, *after.leaves)
            self.unsure |= dict.fromkeys(n for n in leaves if None in self.shapes.get(n, (None,)))
        return finding

    def probe_together(self, cones: Sequence[Cones]) -> dict[str, Finding]:
        """Return what is found at once at several outputs of a region; see `probe_together`."""
        if len(cones) < 2:  # noqa: PLR2004 - several
            return {}
        return probe_together(cones, self.shapes, self.seed, free=self._free_but)

    @property
    def _free_but(self) -> Mapping[str, Shape] | None:
        """The shapes that the file tells, where what it does not tell is free."""
        return self.stated if self.free else None

    def asked(self) -> tuple[str, ...]:
        """Return the tensors that probes made shapes up for, and those that others may need."""
        if not self.unsure:
            return ()
        free = (name for name, shape in self.shapes.items() if None in shape)
        return tuple(dict.fromkeys((*self.unsure, *free)))
