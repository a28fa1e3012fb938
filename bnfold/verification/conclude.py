"""From everything that was found to one verdict."""

from collections.abc import Mapping, Sequence

from bnfold.units import counted
from bnfold.verification.comparison import OutputComparison, OutputVerdict
from bnfold.verification.options import VerifyOptions
from bnfold.verification.proof.prove import Proof
from bnfold.verification.verdict import (
    ProbeVerdict,
    ProviderReport,
    ProviderState,
    Verdict,
    Verification,
)


def conclude(
    proof: Proof,
    providers: Sequence[ProviderReport],
    *,
    crash: str | None,
    blameless: bool = False,
    layers: Sequence[OutputComparison],
    options: VerifyOptions,
    strict: bool,
    fed: Sequence[Mapping[str, tuple[int, ...]]] = (),
) -> Verification:
    """Weigh the evidence.

    Args:
        proof: What the files say.
        providers: What the outputs say.
        crash: What became of the child process, where it did not do its work.
        blameless: It was busy with the original, which says nothing about the candidate.
        layers: What the tensors inside say.
        options: How the verification was to be done.
        fed: The shapes of the inputs of every run, by name.
        strict: The differences were named in advance, so everything else must be identical and
            an incomplete proof is no pass.
    """
    verdict, reason = _weigh(proof, providers, None if blameless else crash, options, strict=strict)
    if blameless and verdict is not Verdict.FAILED:
        verdict, reason = _not_run(proof, crash)
    some_shapes = proof.seen_shapes_only or not proof.structure.proved
    asked = {name.lower().removesuffix("executionprovider") for name in options.providers}
    failed = [
        f"{report.name}: {report.state}" + (f" ({report.reason})" if report.reason else "")
        for report in providers
        if report.name in asked and report.state is not ProviderState.RAN
    ]
    return Verification(
        verdict,
        reason,
        tuple(providers),
        proof.probes,
        proof.structure,
        _first_divergence(proof, layers) if verdict is Verdict.FAILED else None,
        "; ".join(failed) or None,
        crash,
        tuple(layers),
        _in_words(fed) if verdict.ok and proof.free and some_shapes else (),
        () if verdict.ok else proof.differences,
        tuple(fed),
    )


def _in_words(fed: Sequence[Mapping[str, tuple[int, ...]]]) -> tuple[str, ...]:
    """Tell the shapes of inputs, one text for each run."""
    return tuple(", ".join(f"{n} {list(shape)}" for n, shape in each.items()) for each in fed)


def _not_run(proof: Proof, crash: str | None) -> tuple[Verdict, str]:
    """Say what the files say; where running is what takes a process down, that is not enough."""
    return Verdict.INCONCLUSIVE, f"the original could not be run: {crash}; {_by_the_files(proof)}"


def _weigh(
    proof: Proof,
    providers: Sequence[ProviderReport],
    crash: str | None,
    options: VerifyOptions,
    *,
    strict: bool,
) -> tuple[Verdict, str]:
    failure = _failure(proof, providers, crash, options, strict=strict)
    if failure:
        return Verdict.FAILED, failure
    if proof.broken:
        more = "" if proof.broken.split(":")[0] in proof.structure.reason else _by_the_files(proof)
        return Verdict.INCONCLUSIVE, f"tensor {proof.broken}" + (f"; {more}" if more else "")
    ran = [report for report in providers if report.outputs]
    agrees = bool(ran) and all(report.verdict is OutputVerdict.AGREES for report in ran)
    if proof.structure.proved and agrees:
        return Verdict.PASSED, f"{_by_the_files(proof)}; {_end_to_end(ran)}"
    what = _end_to_end(ran) if agrees else f"inconclusive end to end: {_why_not(providers)}"
    if proof.structure.proved:
        return Verdict.PASSED_BY_PROOF, f"{_by_the_files(proof)}; {what}"
    verdict = Verdict.PASSED_BY_OUTPUTS if agrees and not strict else Verdict.INCONCLUSIVE
    if agrees:
        return verdict, f"{what}; {_by_the_files(proof)}"
    return verdict, f"{_by_the_files(proof)}; {what}"


def _failure(
    proof: Proof,
    providers: Sequence[ProviderReport],
    crash: str | None,
    options: VerifyOptions,
    *,
    strict: bool,
) -> str:
    """Return the strongest evidence against the candidate, or nothing."""
    by_files = _wrong_by_the_files(proof, strict=strict)
    if by_files:
        return by_files
    if proof.structure.narrowed and not options.allow_narrowed:
        narrowed = proof.structure.narrowed[0]
        how = next((f": {d.how}" for d in proof.differences if repr(d.tensor) in narrowed), "")
        return f"{narrowed}{how} (--allow-narrowed accepts that)"
    for report in providers:
        if report.verdict is OutputVerdict.DIFFERS and (report.outputs or report.failure):
            return f"on {report.name} {report.failure or _differs(report)}{_first(proof)}"
    return crash or ""


def _wrong_by_the_files(proof: Proof, *, strict: bool) -> str:
    """Return what the files say against the candidate."""
    named = [p for p in proof.probes if p.verdict is ProbeVerdict.BROKEN and not p.found]
    if named:
        worst = max(named, key=lambda probe: probe.fraction)
        where = ", ".join(worst.region.outputs)
        how = next((d.how for d in proof.differences if d.tensor in worst.region.outputs), "")
        return f"the fold at {where} is wrong: {how or worst.note}"
    if proof.interface or proof.contradiction:
        return proof.interface or proof.contradiction or ""
    unchecked = any(probe.verdict is ProbeVerdict.UNCHECKED for probe in proof.probes)
    if strict and not proof.structure.proved and not unchecked:
        return f"the models differ outside the folds: {proof.structure.reason}"
    return ""


def _first(proof: Proof) -> str:
    """Say where the files differ first, behind what the outputs say."""
    return f"; tensor {proof.differences[0]}" if proof.differences else ""


def _differs(report: ProviderReport) -> str:
    worst = report.worst
    if worst is None:
        return "nothing could be compared"
    what = f"output {worst.called} {worst.numbers()} at {worst.level}"
    return f"{what} ({worst.note})" if worst.note else what


def _by_the_files(proof: Proof) -> str:
    if not proof.structure.proved:
        return f"not proved from the files: {_cause(proof)}"
    probed = [probe for probe in proof.probes if probe.verdict is ProbeVerdict.HELD]
    if not probed:
        return "the models are the same"
    worst = max(probe.fraction for probe in probed)
    regions, verb = counted(len(probed), "region"), "is" if len(probed) == 1 else "are"
    return f"{regions} {verb} within {worst:.2f} of the rounding bound and all else is identical"


def _cause(proof: Proof) -> str:
    """Return why there is no proof: a fold that could not be checked leaves all behind it open."""
    for probe in proof.probes:
        if probe.verdict is ProbeVerdict.UNCHECKED and not probe.found:
            names = ", ".join(map(repr, probe.region.outputs))
            return f"the fold at {names} could not be checked ({probe.note})"
    return proof.structure.reason


def _end_to_end(ran: Sequence[ProviderReport]) -> str:
    parts = []
    for report in ran:
        worst = report.worst
        if worst is not None:
            parts.append(f"on {report.name} output {worst.called} {worst.numbers()}")
    return "; ".join(parts)


def _why_not(providers: Sequence[ProviderReport]) -> str:
    for report in providers:
        worst = report.worst
        if worst is not None and worst.verdict is not OutputVerdict.AGREES:
            noise = f" (noise {worst.noise:.2g} of {worst.magnitude:.2g})" if worst.noise else ""
            return f"on {report.name}, output {worst.called}: {worst.note}{noise}"
    reasons = [f"{report.name}: {report.state} ({report.reason})" for report in providers
               if report.reason]  # fmt: skip
    return "; ".join(reasons) or "nothing ran"


def _first_divergence(proof: Proof, layers: Sequence[OutputComparison]) -> str | None:
    if proof.first_difference:
        return proof.first_difference
    return next((layer.name for layer in layers if layer.verdict is OutputVerdict.DIFFERS), None)
