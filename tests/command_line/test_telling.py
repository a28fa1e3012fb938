"""One line for each of several models, and the sum, in terminals of any width."""

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import MODELS

import bnfold
from bnfold.command_line import telling
from bnfold.command_line.brief import Brief
from bnfold.command_line.telling import Telling, column_of
from bnfold.many.outcome import Outcome
from bnfold.reports.records import KeptRecord, ObstacleRecord
from bnfold.reports.report import Exit, Report

NAMES = tuple(Path(f"zoo/{name}.onnx") for name in ("digits", "a_network_with_a_long_name"))


@pytest.fixture(scope="module")
def report() -> Report:
    return bnfold.fold_file(MODELS / "digits.onnx", check=True)


def told(monkeypatch: pytest.MonkeyPatch, report: Report, columns: int | None) -> Outcome:
    monkeypatch.setattr(telling, "width", lambda **_: columns)
    outcome = Outcome(NAMES[1], Exit.FOLDABLE, report, seconds=1.25)
    several = Telling(False, column_of(NAMES), False, False, True, False)  # noqa: FBT003
    several.tell(outcome)
    several.sum_up([Brief.of(outcome), Brief.of(outcome)], 0)
    return outcome


@pytest.mark.parametrize("columns", [40, 80, None])
def test_a_line_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    report: Report,
    columns: int | None,
) -> None:
    told(monkeypatch, report, columns)
    shown = capsys.readouterr().out
    assert "BN 8 → 0, nodes 30 → 22, can be" in shown or columns is None
    assert all(len(line) <= (columns or 200) for line in shown.splitlines())
    assert shown.count("\n") == {40: 4, 80: 3, None: 2}[columns]


def test_models_in_training_mode_are_named_as_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: Report
) -> None:
    kept = KeptRecord((), ObstacleRecord("training-mode", "", "it trains"), None)
    told(monkeypatch, replace(report, kept=(kept,), folds=()), None)
    line, *_, warning, _ = capsys.readouterr().out.splitlines()
    assert "training mode" in line
    assert warning.startswith("warning: in training mode: zoo/a_network")


def test_what_has_nothing_to_fold_is_counted_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: Report
) -> None:
    outcome = told(monkeypatch, report, None)
    several = Telling(False, column_of(NAMES), False, False, True, False)  # noqa: FBT003
    idle = replace(outcome, exit_code=Exit.DONE)
    several.sum_up([Brief.of(outcome), Brief.of(idle)], 0)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "2 models: 1 can be folded, 1 with nothing to fold"
