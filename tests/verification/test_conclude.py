"""Every combination of evidence, and what it comes to."""

import itertools

import pytest

from bnfold.region import Region
from bnfold.verification.comparison import OutputComparison, OutputVerdict
from bnfold.verification.conclude import conclude
from bnfold.verification.options import VerifyOptions
from bnfold.verification.proof.prove import Proof
from bnfold.verification.verdict import (
    Probe,
    ProbeVerdict,
    ProviderReport,
    ProviderState,
    Structure,
    Verdict,
    Verification,
)

REGION = Region((), ("x",), ("y",))


def output(verdict: OutputVerdict) -> OutputComparison:
    return OutputComparison("y", "L", verdict, 1e-6, 1e-6, 1.0, 16e-6, 4)


def weighed(
    probe: ProbeVerdict | None, outputs: OutputVerdict | None, *, proved: bool, strict: bool
) -> Verification:
    probes = () if probe is None else (Probe(REGION, 0.2, probe, found=not strict),)
    proof = Proof(Structure(proved=proved, reason="" if proved else "unlike"), probes)
    state = ProviderState.CANNOT_RUN if outputs is None else ProviderState.RAN
    report = ProviderReport("cpu", state, outputs=() if outputs is None else (output(outputs),))
    return conclude(proof, [report], crash=None, layers=[], options=VerifyOptions(), strict=strict)


ALL = list(
    itertools.product([None, *ProbeVerdict], [None, *OutputVerdict], [True, False], [True, False])
)


@pytest.mark.parametrize(("probe", "outputs", "proved", "strict"), ALL)
def test_nothing_passes_without_a_reason(
    probe: ProbeVerdict | None, outputs: OutputVerdict | None, *, proved: bool, strict: bool
) -> None:
    found = weighed(probe, outputs, proved=proved, strict=strict)
    if not found.ok:
        return
    assert outputs is not OutputVerdict.DIFFERS
    if strict:
        assert proved
        assert probe is not ProbeVerdict.BROKEN
    assert proved or outputs is OutputVerdict.AGREES


@pytest.mark.parametrize(
    ("proved", "outputs", "strict", "verdict"),
    [
        (True, OutputVerdict.AGREES, True, Verdict.PASSED),
        (True, OutputVerdict.INCONCLUSIVE, True, Verdict.PASSED_BY_PROOF),
        (True, None, True, Verdict.PASSED_BY_PROOF),
        (True, OutputVerdict.DIFFERS, True, Verdict.FAILED),
        (False, OutputVerdict.AGREES, False, Verdict.PASSED_BY_OUTPUTS),
        (False, OutputVerdict.AGREES, True, Verdict.FAILED),
        (False, OutputVerdict.INCONCLUSIVE, False, Verdict.INCONCLUSIVE),
        (False, None, False, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict(
    outputs: OutputVerdict | None, verdict: Verdict, *, proved: bool, strict: bool
) -> None:
    assert weighed(ProbeVerdict.HELD, outputs, proved=proved, strict=strict).verdict is verdict


def test_an_unchecked_fold_is_inconclusive_and_no_pass() -> None:
    found = weighed(ProbeVerdict.UNCHECKED, OutputVerdict.AGREES, proved=False, strict=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert not found.ok


def test_a_broken_fold_fails_whatever_the_outputs_say() -> None:
    for outputs in (None, *OutputVerdict):
        found = weighed(ProbeVerdict.BROKEN, outputs, proved=False, strict=True)
        assert found.verdict is Verdict.FAILED


def test_a_crash_fails() -> None:
    proof = Proof(Structure(proved=True), ())
    found = conclude(proof, [], crash="it crashed", layers=[], options=VerifyOptions(), strict=True)
    assert (found.verdict, found.reason) == (Verdict.FAILED, "it crashed")


def test_only_providers_that_were_asked_for_are_missed() -> None:
    proof = Proof(Structure(proved=True), ())
    cuda = ProviderReport("cuda", ProviderState.NO_DEVICE, "no driver")
    cpu = ProviderReport("cpu", ProviderState.RAN, outputs=(output(OutputVerdict.AGREES),))
    for names, missed in (
        ((), None),
        (("CUDAExecutionProvider",), "cuda: in this build but no usable device (no driver)"),
    ):
        found = conclude(
            proof, [cpu, cuda], crash=None, layers=[], options=VerifyOptions(names), strict=True
        )
        assert found.verdict is Verdict.PASSED
        assert found.asked_provider_failed == missed


@pytest.mark.parametrize("outputs", [OutputVerdict.AGREES, OutputVerdict.INCONCLUSIVE, None])
@pytest.mark.parametrize("proved", [True, False])
def test_a_broken_probe_of_the_same_inputs_is_never_forgiven(
    outputs: OutputVerdict | None, *, proved: bool
) -> None:
    reports = [] if outputs is None else [
        ProviderReport("cpu", ProviderState.RAN, outputs=(output(outputs),))
    ]  # fmt: skip
    proof = Proof(Structure(proved=proved), (), broken="t: 2 instead of 1")
    found = conclude(
        proof, reports, crash=None, layers=[], options=VerifyOptions(), strict=False
    )  # fmt: skip
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "tensor t: 2 instead of 1" in found.reason


def test_a_fold_that_cannot_be_checked_is_the_cause_that_is_told() -> None:
    unchecked = Probe(
        Region((), ("x",), ("n",)), 0.0, ProbeVerdict.UNCHECKED, "Erf is none that a fold passes"
    )
    structure = Structure(proved=False, reason="tensor 'c' (Conv) is not computed as here")
    found = conclude(
        Proof(structure, (unchecked,)), (), crash=None, layers=(), options=VerifyOptions(),
        strict=True,
    )  # fmt: skip
    assert "the fold at 'n' could not be checked (Erf is none that a fold passes)" in found.reason
    assert "'c'" not in found.reason
