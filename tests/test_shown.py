"""What somebody sees who works with the values in a console or a notebook."""

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import MODELS, load, model_in

import bnfold


def test_completion_offers_the_public_names() -> None:
    assert sorted(dir(bnfold)) == sorted(bnfold.__all__)


def test_a_folding_is_one_line() -> None:
    folding = bnfold.fold(load(MODELS / "digits.onnx"))
    expected = "<Folding: batch normalizations 8 → 0; nodes 30 → 22; folds 8; kept 0>"
    assert repr(folding) == expected
    assert "<td style='text-align:left'>30 → 22</td>" in folding._repr_html_()


@pytest.mark.slow
def test_a_report_and_its_verification(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path))
    assert "batch normalizations 8 → 0; nodes 30 → 22" in repr(report)
    assert "verification passed" in repr(report)
    found = report.verification
    assert found
    assert found.ok
    assert repr(found).startswith("<Verification: verdict passed; because ")
    assert "proved in float64 8 of 8 regions" in repr(found)
    assert len(repr(report)) < 400
    absent = replace(found, asked_provider_failed="cuda: not in this build")
    assert not absent
    assert not absent.ok
    assert absent.verdict.ok
    assert str(absent).endswith("; asked for by name, but did not run: cuda: not in this build")
    assert "did not run" not in str(found)


def test_names_are_only_text(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path, "digits", "<b>.onnx"), verify=None)
    assert "<b>" not in report._repr_html_()
    assert "&lt;b&gt;.onnx" in report._repr_html_()


def test_a_report_becomes_a_page(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path), verify=None)
    report.to_html(tmp_path / "r.html")
    assert "folded, not verified" in (tmp_path / "r.html").read_text(encoding="utf-8")
    with pytest.raises(bnfold.RequestError, match=r"r\.json: a page is written to a \.html file"):
        report.to_html(tmp_path / "r.json")
