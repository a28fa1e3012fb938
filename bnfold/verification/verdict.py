"""What a verification found, as values."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from bnfold.frozen import sealed
from bnfold.plain import Plain, fields_of
from bnfold.region import Region
from bnfold.shown import Shown
from bnfold.verification.comparison import OutputComparison, OutputVerdict
from bnfold.verification.difference import Difference
from bnfold.verification.gain import Executed


class Verdict(StrEnum):
    """The conclusion.

    PASSED: the proof from the files is complete, and the outputs agree on every provider.
    PASSED_BY_PROOF: the proof is complete; the outputs can show nothing, for the reason given.
    PASSED_BY_OUTPUTS: the outputs agree; the files are too unlike for a proof.
    INCONCLUSIVE: nothing speaks against the candidate, but too little speaks for it.
    FAILED: the candidate does not compute what the original computes, or crashes.
    """

    PASSED = "passed"
    PASSED_BY_PROOF = "passed by proof"
    PASSED_BY_OUTPUTS = "passed by outputs"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"

    @property
    def ok(self) -> bool:
        """The candidate may be used."""
        return self not in {Verdict.FAILED, Verdict.INCONCLUSIVE}


class ProviderState(StrEnum):
    """How far a provider got."""

    NOT_IN_BUILD = "not in this build"
    NO_DEVICE = "in this build but no usable device"
    CANNOT_RUN = "cannot run this model"
    UNUSED = "usable, but none of the model's nodes ran on it"
    RAN = "ran"


class ProbeVerdict(StrEnum):
    """What the local probe of one region says."""

    HELD = "held"
    BROKEN = "broken"
    UNCHECKED = "unchecked"


@sealed
class Probe(Plain):
    """One region, probed in float64.

    Attributes:
        region: Where both models were cut.
        fraction: The largest |new − old| as a fraction of its bound; a correct fold is at 0.25.
        verdict: Whether the bound held everywhere.
        note: Where it was exceeded, or why the region could not be checked.
        found: The region was found by tensor names, nobody named it.
    """

    region: Region
    fraction: float
    verdict: ProbeVerdict
    note: str = ""
    found: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data; the region's fields stand beside the others."""
        told = fields_of(self)
        return {**told.pop("region"), **told}


@sealed
class Structure(Plain):
    """Whether the two files are the same outside the regions.

    Attributes:
        proved: Every output of the candidate is computed by the original's own expression,
            with probed regions put in the place of others.
        reason: The first place where that is not so.
        identical: Number of the candidate's nodes that stand in the original as they are.
        unproved: The outputs for which there is no proof.
        narrowed: The inputs that take fewer shapes than the original's, in sentences.
    """

    proved: bool
    reason: str = ""
    identical: int = 0
    unproved: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()


@sealed
class ProviderReport(Plain):
    """What happened on one execution provider.

    Attributes:
        name: Its short name.
        state: How far it got.
        reason: Why no further.
        nodes: The original's nodes by the provider on which they ran, where it is known.
        linear_nodes: The same for convolutions and matrix products.
        outputs: The comparisons, one per output and optimization level.
        failure: Why the candidate could not run where the original could.
        executed: What is executed of both models, and how long it takes, by optimization level.
    """

    name: str
    state: ProviderState
    reason: str = ""
    nodes: dict[str, int] = field(default_factory=dict)
    linear_nodes: dict[str, int] = field(default_factory=dict)
    outputs: tuple[OutputComparison, ...] = ()
    failure: str = ""
    executed: tuple[Executed, ...] = ()

    @property
    def verdict(self) -> OutputVerdict:
        """The worst of the outputs; inconclusive where nothing ran."""
        verdicts = {output.verdict for output in self.outputs}
        if self.failure or OutputVerdict.DIFFERS in verdicts:
            return OutputVerdict.DIFFERS
        if not verdicts or OutputVerdict.INCONCLUSIVE in verdicts:
            return OutputVerdict.INCONCLUSIVE
        return OutputVerdict.AGREES

    @property
    def worst(self) -> OutputComparison | None:
        """The output that came closest to its allowance, or went furthest beyond."""
        order = {OutputVerdict.AGREES: 0, OutputVerdict.INCONCLUSIVE: 1, OutputVerdict.DIFFERS: 2}
        return max(
            self.outputs,
            key=lambda output: (order[output.verdict], output.used),
            default=None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data, with the verdict."""
        return {**fields_of(self), "verdict": str(self.verdict)}


@sealed
class Verification(Shown):
    """Everything that was found out about a candidate.

    Attributes:
        verdict: The conclusion.
        reason: The conclusion's reason, as a sentence.
        providers: What happened on each execution provider.
        probes: The local probe of each region.
        structure: The proof over the whole files.
        first_divergence: The first layer that differs; None where none does or it is unknown.
        asked_provider_failed: The reason why a provider that was asked for by name did not run
            the original; None where all did.
        crash: What became of the child process; None where it did its work.
        layers: The error of every layer, in the order of computation; only in a thorough run.
        shown_for: The shapes of the inputs for which it is shown; none where it is for all that
            the original takes.
        differences: Where the candidate is known to differ from the original, the first first;
            none where it may be used.
        input_shapes: The shapes of the inputs, by name, of each run.
    """

    verdict: Verdict
    reason: str
    providers: tuple[ProviderReport, ...] = ()
    probes: tuple[Probe, ...] = ()
    structure: Structure = Structure(proved=False)
    first_divergence: str | None = None
    asked_provider_failed: str | None = None
    crash: str | None = None
    layers: tuple[OutputComparison, ...] = ()
    shown_for: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    input_shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ()

    @property
    def ok(self) -> bool:
        """The candidate may be used, and every provider that was asked for by name ran it."""
        return self.verdict.ok and self.asked_provider_failed is None

    def __bool__(self) -> bool:
        """Return `ok`: the verdict is good, and holds wherever it was asked for by name."""
        return self.ok

    def told(self) -> dict[str, str]:
        """Return the verdict and its evidence."""
        held = sum(probe.verdict is ProbeVerdict.HELD for probe in self.probes)
        told = {"verdict": str(self.verdict), "because": self.reason}
        if self.probes:
            told["proved in float64"] = f"{held} of {len(self.probes)} regions"
        told |= {provider.name: str(provider.state) for provider in self.providers}
        if self.asked_provider_failed is not None:
            told["asked for, but did not run"] = self.asked_provider_failed
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data, with whether the candidate may be used."""
        return {"verdict": str(self.verdict), "ok": self.ok, **fields_of(self)}

    def __str__(self) -> str:
        """Say it in one sentence, and what keeps it from being `ok` where the verdict is good."""
        failed = self.asked_provider_failed
        more = f"; asked for by name, but did not run: {failed}" if failed else ""
        return f"{self.verdict}: {self.reason}{more}"
