"""What is said of what ONNX Runtime executes, and of how long it takes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import onnx
import pytest
import realmodels
import transformer
from executed import executed, feeds_for

import bnfold
from bnfold.command_line.gain_text import gain_lines
from bnfold.reports.page.numbers import claim
from bnfold.verification import ProviderReport, VerifyOptions
from bnfold.verification.gain import Executed, Times, Timing
from bnfold.verification.runs.timing import confirmed, timed_in_turn
from bnfold.verification.verdict import ProviderState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CPU = VerifyOptions(("cpu",))
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"]


@pytest.mark.slow
def test_it_is_what_onnxruntime_executes(tmp_path: Path) -> None:
    source = realmodels.committed("visformer")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx", verify=CPU)
    assert report.verification is not None
    [provider] = report.verification.providers
    assert [each.level for each in provider.executed] == LEVELS
    for each in provider.executed:
        for path, told in ((source, each.before), (tmp_path / "folded.onnx", each.after)):
            model = onnx.ModelProto.FromString(path.read_bytes())
            assert dict(told) == executed(model, each.level, feeds_for(model))
        assert each.timing is not None
        assert each.timing.runs >= 3
        for times in (each.timing.before, each.timing.after):
            assert 0 < times.low <= times.median <= times.high


def test_composites_are_named(tmp_path: Path) -> None:
    source = realmodels.committed("visformer")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx", verify=None).to_dict()
    names = [composite["name"] for composite in report["composites"]]
    assert names.count("GELU") == 4
    assert names.count("attention scores") == 2
    within = {n["output"] for composite in report["composites"] for n in composite["nodes"]}
    kept = {n["output"] for kept in report["kept"] for n in kept["nodes"]}
    assert not within & kept


@pytest.mark.slow
@pytest.mark.parametrize("time", [0.0, None])
def test_no_time_is_measured_where_none_is_given(tmp_path: Path, time: float | None) -> None:
    options = VerifyOptions(("cpu",), time=time)
    target = tmp_path / "folded.onnx"
    report = bnfold.fold_file(realmodels.committed("waveform"), target, verify=options)
    assert report.verification is not None
    [provider] = report.verification.providers
    assert all((each.timing is None) == (time == 0) for each in provider.executed)


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(bnfold.RequestError, match="must be 0 or more"):
        VerifyOptions(time=-1)


def level(before: dict[str, int], after: dict[str, int], timing: Timing | None = None) -> Executed:
    return Executed("ORT_ENABLE_ALL", before, after, timing)


def told(*levels: Executed) -> list[str]:
    return list(gain_lines(ProviderReport("cpu", ProviderState.RAN, executed=levels)))


def test_what_was_lost_is_a_warning() -> None:
    each = level({"Gelu": 5, "MatMul": 3}, {"Erf": 5, "Mul": 9, "MatMul": 3})
    line, warning = told(each)
    assert "8 → 17" in line
    assert "warning: at ENABLE_ALL more is executed after than before, 8 → 17 nodes" in warning
    assert "Erf 0 → 5, Mul 0 → 9" in warning
    assert "fused operators were lost: Gelu 5 → 0" in warning


def test_a_warning_says_what_tensors_are_reordered_for() -> None:
    _, warning = told(level({"Conv": 3, "Mul": 1}, {"Conv": 3, "ReorderInput": 2}))
    assert "ReorderInput 0 → 2, for convolutions in a layout of ONNX Runtime's own" in warning


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"Gelu": 5, "Add": 5}, {"BiasGelu": 5}),
        (
            {"LayerNormalization": 2, "Add": 1},
            {"SkipLayerNormalization": 1, "LayerNormalization": 1},
        ),
        ({"Conv": 3, "BatchNormalization": 3}, {"Conv": 3}),
        ({"FusedConv": 4, "Conv": 1}, {"FusedConv": 2, "Conv": 1}),
    ],
)
def test_what_others_of_its_kind_replace_is_not_lost(
    before: dict[str, int], after: dict[str, int]
) -> None:
    assert len(told(level(before, after))) == 1


def times(*milliseconds: float) -> Times:
    return Times.of([m / 1000 for m in milliseconds])


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        (times(10, 11, 12), times(5, 6, 7), "faster", "45% less)"),
        (times(5, 6, 7), times(10, 11, 12), "slower", "83% more)"),
        (times(0.01, 0.01, 0.01), times(0.015, 0.015, 0.015), "no difference", "few µs to tell)"),
        *(
            (before, after, "no difference", "no difference)")
            for before, after in [
                (times(5, 8, 11), times(6, 7, 8)),
                (times(5, 5, 5), times(5, 5, 5)),
                (times(5, 5, 5), times(5.5, 6, 9, 9, 5.5)),
            ]
        ),
    ],
)
def test_no_claim_where_the_spread_covers_the_difference(
    before: Times, after: Times, verdict: str, words: str
) -> None:
    timing = Timing(3, before, after)
    assert timing.verdict == verdict
    [line] = told(level({"Conv": 2}, {"Conv": 1}, timing))
    assert line.endswith(words)
    assert claim(timing.to_dict()) == timing.claim


@pytest.mark.parametrize(
    ("found", "expected", "timings"),
    [
        (["slower", "no difference"], "no difference", 2),
        (["slower", "slower"], "slower", 2),
        (["faster", "slower"], "faster", 1),
    ],
)
def test_slower_is_said_only_where_a_second_timing_says_so(
    found: list[str], expected: str, timings: int
) -> None:
    after = {"slower": times(10, 11, 12), "faster": times(1, 2, 3)}
    pending = [Timing(3, times(5, 6, 7), after.get(verdict, times(5, 6, 7))) for verdict in found]
    timing = confirmed(lambda: pending.pop(0), lambda: pending.pop(0))
    assert timing is not None
    assert timing.verdict == expected
    assert len(pending) == len(found) - timings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock's time, which only those move on who run."""
    now = [0.0]
    monkeypatch.setattr("bnfold.verification.runs.timing.time.perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("before", "after", "rounds"),
    [
        ((10,), (8,), 5),
        ((10,), (10,), 5),
        ((10,), (10, 13, 7, 9, 12), 15),
        ((10, 13, 7, 9, 12), (10,), 15),
    ],
)
def test_rounds_end_early_only_where_they_agree(
    clock: list[float], before: tuple[int, ...], after: tuple[int, ...], rounds: int
) -> None:
    first, second = itertools.cycle(before), itertools.cycle(after)

    def run(milliseconds: Iterator[int]) -> None:
        clock[0] += next(milliseconds) / 1000

    timing = timed_in_turn(lambda: run(first), lambda: run(second), 60, asked=False)
    assert timing is not None
    assert timing.runs == rounds


def test_the_two_take_turns_and_which_begins_changes(clock: list[float]) -> None:
    ran: list[str] = []
    durations = itertools.cycle((1, 2, 3, 4, 5))

    def run(name: str) -> None:
        ran.append(name)
        clock[0] += next(durations) / 1000

    timing = timed_in_turn(lambda: run("before"), lambda: run("after"), 60, asked=False)
    assert timing is not None
    rounds = [tuple(ran[i : i + 2]) for i in range(2, len(ran), 2)]
    assert len(rounds) == timing.runs == 15
    assert rounds[:2] == [("before", "after"), ("after", "before")]
    assert set(rounds[0::2]) == {("before", "after")}


def test_what_has_run_before_is_timed_from_its_first_run_on(clock: list[float]) -> None:
    ran: list[None] = []

    def run() -> None:
        ran.append(None)
        clock[0] += 0.001

    timing = timed_in_turn(run, run, 60, asked=False, warm=True)
    assert timing is not None
    assert len(ran) == 2 * timing.runs


def test_what_was_asked_for_is_measured_however_long_a_run_takes() -> None:
    def nothing() -> None:
        pass

    assert timed_in_turn(nothing, nothing, 0, asked=False) is None
    timing = timed_in_turn(nothing, nothing, 0, asked=True)
    assert timing is not None
    assert timing.runs == 3


def test_a_network_without_anything_to_fold_is_told_nothing(tmp_path: Path) -> None:
    source = tmp_path / "blocks.onnx"
    source.write_bytes(transformer.blocks(13, count=1).SerializeToString())
    report = bnfold.fold_file(source, verify=CPU)
    assert report.verification is None
    assert len(report.composites) == 4
