"""What a terminal shows."""

from dataclasses import replace
from pathlib import Path

import click
import pytest
from commandline import MODELS, model_in

import bnfold
from bnfold.command_line.text import report_text, verification_text
from bnfold.region import Region
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import Counts, FoldRecord, KeptRecord, NodeRecord, ObstacleRecord
from bnfold.reports.report import Report
from bnfold.verification import Probe, ProviderReport, Structure, Verdict, Verification
from bnfold.verification.comparison import OutputComparison, OutputVerdict
from bnfold.verification.difference import Difference
from bnfold.verification.gain import Executed, Times, Timing
from bnfold.verification.verdict import ProbeVerdict, ProviderState

BN = NodeRecord("BatchNormalization", "bn", "y")
CONV = NodeRecord("Conv", "conv", "c")
FOLD = FoldRecord("output", (BN,), (CONV,), ())
REPORT = Report(
    FileRecord("net.onnx"),
    FileRecord("net.folded.onnx"),
    written=True,
    before=Counts(2, 1),
    after=Counts(1, 0),
    folds=(FOLD,),
)
OUTPUT = OutputComparison(
    "y", "ORT_DISABLE_ALL", OutputVerdict.AGREES, 2e-6, 1e-6, 4.0, 1.6e-5, 100
)
CPU = ProviderReport("cpu", ProviderState.RAN, nodes={"CPUExecutionProvider": 2}, outputs=(OUTPUT,))
PROBE = Probe(Region((), ("x",), ("y",)), 0.21, ProbeVerdict.HELD)
FOUND = Verification(
    Verdict.PASSED, "all is well", (CPU,), (PROBE,), Structure(proved=True, identical=1)
)
TWICE = "2 × the original's own rounding noise"
CHANGES = ["  before → after", "    all nodes  2 → 1", "  written: net.folded.onnx"]


def lines(report: Report, *, verbose: bool = False) -> list[str]:
    return click.unstyle(report_text(report, verbose=verbose)).splitlines()


def found_lines(found: Verification, *, verbose: bool = False) -> list[str]:
    return click.unstyle(verification_text(found, verbose=verbose)).splitlines()


def test_a_fold_takes_few_lines() -> None:
    assert lines(replace(REPORT, verification=FOUND)) == [
        "net.onnx → net.folded.onnx",
        "  1 of 1 batch normalization folded into the operator before, 2 → 1 nodes",
        "  verification passed",
        "    float64 probe: 1 region within 0.21 of the rounding bound; all else is identical",
        "    cpu: 'y' differs by 5.0e-07 of its magnitude, " + TWICE,
        *CHANGES,
    ]


def test_all_of_it() -> None:
    assert lines(replace(REPORT, verification=FOUND), verbose=True) == [
        "net.onnx → net.folded.onnx",
        "  1 of 1 batch normalization folded into the operator before, 2 → 1 nodes",
        "    BatchNormalization 'bn' ↑ Conv 'conv'",
        "  verification passed",
        "    float64 probe: 1 region within 0.21 of the rounding bound; all else is identical",
        "      y: held, 0.21",
        "    cpu: ran (nodes: 2 on CPUExecutionProvider)",
        "      'y' at DISABLE_ALL differs by 5.0e-07 of its magnitude, " + TWICE,
        *CHANGES,
    ]


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({"target": None, "checked_only": True}, "net.onnx"),
        ({"target": FileRecord("net.onnx")}, "net.onnx (in place)"),
        ({"target": FileRecord("net.onnx"), "written": False, "folds": ()},
         "net.onnx (in place, unchanged)"),
        ({"written": False}, "net.onnx → net.folded.onnx (not written)"),
        ({"source": FileRecord("-"), "target": FileRecord("-")},
         "standard input → standard output"),
    ],
)  # fmt: skip
def test_headlines(changes: dict[str, object], headline: str) -> None:
    assert lines(replace(REPORT, **changes))[0] == headline  # type: ignore[arg-type]


def test_without_verification_that_is_said() -> None:
    assert lines(REPORT)[2:] == ["  not verified", *CHANGES]


def test_nothing_to_fold() -> None:
    nothing = replace(REPORT, folds=(), before=Counts(2, 0))
    assert lines(nothing)[1:] == [
        "  no batch normalization to fold; the model was copied as it is",
        "  written: net.folded.onnx",
    ]
    kept = replace(REPORT, folds=(), written=False)
    assert lines(kept)[1:] == ["  nothing to fold"]


def test_other_nodes_that_went_are_counted() -> None:
    mul = NodeRecord("Mul", "m", "z")
    folds = (replace(FOLD, taken=(BN, mul)), replace(FOLD, how="input", taken=(mul,)))
    told = lines(replace(REPORT, folds=folds))
    assert told[1] == "  1 of 1 batch normalization and 2 Mul folded, 2 → 1 nodes"
    assert told[2] == "  1 into the operator before, 1 into the operator behind"
    no_bn = replace(REPORT, folds=folds[1:], before=Counts(2, 0))
    assert lines(no_bn)[1] == "  1 Mul folded into the operator behind, 2 → 1 nodes"


def obstacle(reason: str, at: str) -> ObstacleRecord:
    return ObstacleRecord(reason, at, f"{at}: it is {reason}")


def test_kept_nodes_are_told_once_for_each_kind_of_reason() -> None:
    up, down = obstacle("graph-input", "x"), obstacle("not-linear", "Sigmoid 's'")
    kept = [KeptRecord((NodeRecord("BatchNormalization", f"bn{i}", ""),), up, down) for i in "123"]
    kept.append(KeptRecord((BN,), obstacle("bad-variance", ""), None))
    kept.append(KeptRecord((NodeRecord("Mul", "m", ""),), up, None))
    report = replace(REPORT, kept=tuple(kept))
    assert lines(report)[2:] == [
        "  4 batch normalizations kept:",
        "    BatchNormalization 'bn1'",
        "      before: x: it is graph-input [graph-input]",
        "      behind: Sigmoid 's': it is not-linear [not-linear]",
        "      and 2 more for the same reasons",
        "    BatchNormalization 'bn'",
        "      : it is bad-variance [bad-variance]",
        "    (-v shows all)",
        "  bnfold explain CODE says what a code in brackets means, and what to do",
        "  not verified",
        *CHANGES,
    ]
    verbose = lines(report, verbose=True)
    for name in ("bn1", "bn2", "bn3"):
        assert f"    BatchNormalization '{name}'" in verbose
    assert "  1 run of other per-channel arithmetic kept:" in verbose
    assert "    Mul 'm'" in verbose


@pytest.mark.parametrize(
    ("number", "told"),
    [(1, "1 branch kept apart from what it is"), (2, "2 branches kept apart from what they are")],
)
def test_branches_that_stay_apart(number: int, told: str) -> None:
    why = ObstacleRecord("other-geometry", "Transpose 't'", "it reads otherwise")
    branch = KeptRecord((CONV,), why, None, why)
    assert f"  {told} added to:" in lines(replace(REPORT, kept=(branch,) * number))


def test_an_export_in_training_mode_is_a_warning() -> None:
    training = KeptRecord((BN,), ObstacleRecord("training-mode", "", "it trains"), None)
    report = replace(REPORT, folds=(), kept=(training, training))
    told = report_text(report).splitlines()[1]
    assert click.unstyle(told) == (
        "  warning: 2 nodes are in training mode, most often because the export was; "
        "bnfold explain training-mode says what to do"
    )
    assert told == f"  {click.style(click.unstyle(told).strip(), fg='yellow')}"
    assert "nothing to fold" not in report_text(report)
    some = report_text(replace(REPORT, kept=(training,)))
    assert "warning: 1 node is in training mode" in some
    assert "1 of 1 batch normalization folded" in some


def test_a_failure_says_what_is_wrong() -> None:
    broken = replace(PROBE, fraction=25.0, verdict=ProbeVerdict.BROKEN, note="at y[3]")
    differs = replace(OUTPUT, difference=1e-2, verdict=OutputVerdict.DIFFERS)
    found = Verification(
        Verdict.FAILED,
        "the fold at y is wrong",
        (replace(CPU, outputs=(differs,)),),
        (PROBE, broken),
        first_divergence="y",
    )
    assert found_lines(found) == [
        "verification failed: the fold at y is wrong",
        "  first layer that differs: y",
        "  float64 probe: 1 of 2 regions within 0.21 of the rounding bound",
        (
            "  cpu: 'y' differs by 2.5e-03 of its magnitude, "
            "10,000 × the original's own rounding noise: differs"
        ),
    ]
    assert "    y: broken (at y[3])" in found_lines(found, verbose=True)
    report = replace(REPORT, verification=found, written=False)
    assert "  verification failed" in lines(report), "the caller tells the reason first"


def test_differences_are_told_with_the_regions_around_them() -> None:
    first = Difference(
        "y", "Conv", "c", weights=("c.W",), channel=4, original=1.0, candidate=1.5, fraction=2e6,
        before=("a", "b"), behind=("z",),
    )  # fmt: skip
    others = [Difference(f"t{i}", "MaxPool", what="ceil_mode is 1 instead of 0") for i in range(5)]
    how = "1.5 instead of 1 in channel 4, 2e+06 times the rounding bound; because of 'c.W'"
    found = Verification(Verdict.FAILED, f"y is wrong: {how}", differences=(first, *others))
    assert found_lines(found) == [
        f"verification failed: y is wrong: {how}",
        "    2 regions before it hold, 1 region behind it holds",
        "  also tensor 't0' (MaxPool): ceil_mode is 1 instead of 0",
        "  also tensor 't1' (MaxPool): ceil_mode is 1 instead of 0",
        "  also tensor 't2' (MaxPool): ceil_mode is 1 instead of 0",
        "  and 2 more (-v shows all)",
    ]
    verbose = found_lines(found, verbose=True)
    assert "    2 regions before it hold (a, b), 1 region behind it holds (z)" in verbose
    assert "  also tensor 't4' (MaxPool): ceil_mode is 1 instead of 0" in verbose
    untold = found_lines(replace(found, reason="the outputs differ"))
    assert f"  tensor 'y' (Conv 'c'): {how}" in untold


def test_providers_that_did_not_run() -> None:
    providers = (
        ProviderReport("cuda", ProviderState.NO_DEVICE, "libcuda.so.1: cannot open"),
        ProviderReport("openvino", ProviderState.NOT_IN_BUILD),
        ProviderReport("xnnpack", ProviderState.NOT_IN_BUILD),
        ProviderReport("dml", ProviderState.RAN, failure="it stopped"),
    )
    assert found_lines(replace(FOUND, providers=providers))[2:] == [
        "  cuda: in this build but no usable device: libcuda.so.1: cannot open",
        "  dml: it stopped",
        "  not in this build of ONNX Runtime: openvino, xnnpack",
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"difference": 0.0}, "'y' is the same to the last bit"),
        (
            {"level": "ORT_DISABLE_ALL against float64"},
            (
                "'y' against float64 differs by 5.0e-07 of its magnitude, "
                "2 × what the original differs by"
            ),
        ),
        ({"noise": 0.0}, "'y' differs by 5.0e-07 of its magnitude, 0.12 of what is allowed"),
        (
            {"magnitude": 0.0, "note": "3 of 100 values differ"},
            "'y' differs (3 of 100 values differ)",
        ),
        (
            {"difference": 0.0, "no_evidence": 7},
            (
                "'y' is the same to the last bit; "
                "7 of 100 elements are no evidence: NaN, infinite or masked"
            ),
        ),
    ],
)
def test_outputs(changes: dict[str, object], text: str) -> None:
    output = replace(OUTPUT, **changes)  # type: ignore[arg-type]
    found = replace(FOUND, providers=(replace(CPU, outputs=(output,)),))
    assert found_lines(found)[-1] == f"  cpu: {text}"


@pytest.mark.parametrize(
    ("after", "told"),
    [(4e-3, "in 10 → 4 ms (± 0%: 60% less)"), (15e-3, "in 10 → 15 ms (± 0%: 50% more)")],
)
def test_the_time_of_a_run_is_less_or_more(after: float, told: str) -> None:
    timing = Timing(9, Times(0.01, 0.01, 0.01), Times(after, after, after))
    executed = Executed("ORT_DISABLE_ALL", {"Conv": 2}, {"Conv": 1}, timing)
    found = replace(FOUND, providers=(replace(CPU, executed=(executed,)),))
    assert found_lines(found)[-1] == f"  cpu: 2 → 1 nodes executed {told}"


def test_a_second_run_is_no_second_output() -> None:
    again = replace(OUTPUT, name=f"{OUTPUT.name} for x [2, 3]")
    found = replace(FOUND, providers=(replace(CPU, outputs=(OUTPUT, again)),))
    assert "outputs" not in found_lines(found)[-1]
    told = [line.split(" at ")[0] for line in found_lines(found, verbose=True)[-2:]]
    assert told == ["    'y'", "    'y' for x [2, 3]"]
    other = replace(OUTPUT, name="other")
    found = replace(FOUND, providers=(replace(CPU, outputs=(OUTPUT, again, other)),))
    assert "of 2 outputs" in found_lines(found)[-1]


def test_lines_are_wrapped_for_a_terminal_and_names_stay_whole(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path, "kept"), check=True)
    wide = click.unstyle(report_text(replace(report, source=FileRecord("kept.onnx"))))
    for width in (40, 60):
        text = report_text(replace(report, source=FileRecord("kept.onnx")), width=width)
        narrow = click.unstyle(text).splitlines()
        names = [line for line in narrow if len(line.split()) == 1]
        assert all(len(line) <= width for line in narrow if line not in names)
        assert " ".join(narrow).split() == wide.split()


def test_colours_take_no_room() -> None:
    reason = "tensor 'y' (Conv) differs by more than rounding: 2 instead of 1 in channel 7"
    found = Verification(Verdict.FAILED, reason)
    coloured = verification_text(found, width=40)
    assert coloured.startswith(click.style("verification failed", fg="red", bold=True))
    assert click.unstyle(coloured).splitlines() == [
        "verification failed: tensor 'y' (Conv)",
        "    differs by more than rounding: 2",
        "    instead of 1 in channel 7",
    ]


def test_effects_on_the_models_interface_are_told() -> None:
    report = replace(
        REPORT, unlisted=("gamma", "beta"), inlined=("mine::norm",), left_files=("weights.bin",)
    )
    told = "\n".join(lines(report))
    assert "1 local function inlined: mine::norm" in told
    assert "2 initializers no longer listed as graph inputs" in told


@pytest.mark.parametrize("name", ["digits", "mixnet", "visformer", "rearranged"])
def test_no_line_says_the_same_twice(name: str) -> None:
    report = bnfold.fold_file(MODELS / f"{name}.onnx", check=True)
    told = [line for line in lines(report) if "'" not in line]
    assert len(told) == len(set(told))
