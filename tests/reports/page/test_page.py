"""What stands on the page."""

import html
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from commandline import MODELS, convolution, files, load, model_in, run, tampered, write

import bnfold
from bnfold.reasons import Reason
from bnfold.remedies import EXPLANATIONS
from bnfold.reports.file_record import FileRecord
from bnfold.reports.page import render, require_jinja
from bnfold.reports.page.entry import EntryView, Weight
from bnfold.reports.report import Comparison
from bnfold.reports.report_file import check_report_path
from bnfold.verification import Verdict, VerifyOptions


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    sources = [model_in(folder, name) for name in ("kept", "mixnet", "digits")]
    thorough = VerifyOptions(thorough=True)
    made = [bnfold.fold_file(sources[0], verify=thorough)]
    made.append(bnfold.fold_file(sources[1]))
    made.append(bnfold.fold_file(sources[2], check=True))
    return [report.to_dict() for report in made]


def test_the_page_needs_nothing_else(reports: list[dict[str, Any]]) -> None:
    page = render(reports)
    assert not re.search(r"https?://|<script[^>]|<link(?![^>]*data:)|@import|url\((?!#)", page)
    assert "prefers-color-scheme: dark" in page


def test_one_model_has_no_overview(reports: list[dict[str, Any]]) -> None:
    assert 'class="overview"' in render(reports)
    assert render(reports).count('<details class="model"') == 3
    page = render(reports[:1])
    assert 'class="overview"' not in page
    assert page.count("<h1>") == 1
    assert "<title>kept.onnx · bnfold</title>" in page
    assert 'class="plot"' in page
    assert 'class="plot"' not in render(reports[1:2])


def test_names_from_strangers_are_only_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    model = convolution(name=evil)
    source = write(model, tmp_path / "<b>net.onnx")
    report = bnfold.fold_file(source).to_dict()
    assert report["folds"][0]["taken"][0]["name"] == evil
    page = render([report, {**report, "error": evil, "exit_code": 3}])
    assert page.count("<script") == 1, "the page's own"
    assert "<img" not in page
    assert "<b>net" not in page
    assert html.escape("<script>alert(1)<") in page.replace("<wbr>", "")


def test_differences_tell_what_differs_and_names_stay_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J'
    source = write(convolution(name=evil), tmp_path / "net.onnx")
    model = load(source)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}{evil}" if name not in {"x", "y"} else name for name in names]
    for stored in model.graph.initializer:
        stored.name = f"{stored.name}{evil}"
    write(model, source)
    tampered(source, tmp_path / "bad.onnx", lambda w: w * 1.01)
    done = run("verify", "net.onnx", "bad.onnx", "--report", "v.html", cwd=tmp_path)
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1, "the page's own"
    assert "<img" not in page
    table = page.partition('<table class="differences')[2].partition("</table>")[0]
    shown = html.unescape(re.sub(r"<[^>]*>", "", table))
    assert f"c{evil}" in shown or "\x1b" not in shown
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in shown
    assert "W 'W" in shown
    assert "channel" in shown
    assert "\x1b" not in done.err + done.text
    assert "W 'W" in done.err


def test_the_first_layer_that_differs_is_named_where_nothing_else_is(tmp_path: Path) -> None:
    model_in(tmp_path)
    found = bnfold.verify(tmp_path / "digits.onnx", tmp_path / "digits.onnx")
    told = replace(found, verdict=Verdict.FAILED, reason="y differs", first_divergence="layer 'c'")
    file = FileRecord("net.onnx")
    page = render([Comparison(file, file, told).to_dict()])
    assert "First layer that differs: <code>layer &#39;c&#39;</code>" in page


def test_a_difference_without_a_number_says_so() -> None:
    def told(before: str, after: str) -> str:
        head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,6,6] x) => (float[m,n,k,l] y)'
        texts = (f"{head} {{ y = {call} }}" for call in (before, after))
        found = bnfold.verify(*map(onnx.parser.parse_model, texts), options=VerifyOptions(time=0))
        file = FileRecord("net.onnx")
        return render([Comparison(file, file, found).to_dict()])

    pool = "MaxPool <kernel_shape = [2, 2]{}> (x)"
    page = told(pool.format(""), pool.format(", strides = [2, 2]"))
    assert "strides is [2, 2] instead of [1, 1]" in html.unescape(page)
    assert "None" not in page


def test_statistics_are_told_by_their_numbers(tmp_path: Path) -> None:
    data = bnfold.StatisticsOptions(MODELS / "digits_test.npz", batch_size=120)
    report = bnfold.fold_file(model_in(tmp_path), statistics=data, verify=None).to_dict()
    page = render([report])
    assert "Statistics of 8 normalizations estimated from 3 batches" in page
    told = report["statistics"]["normalizations"][0]["values"]
    assert f'data-value="{told}">{told}</td>' in page
    assert " object at 0x" not in page


def test_failures_are_shown_as_such(tmp_path: Path) -> None:
    model_in(tmp_path)
    run("digits.onnx", "missing.onnx", "-q", "--no-verify", "--report", "r.html", cwd=tmp_path)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Could not be folded" in page
    assert "No such file" in page
    assert "8 of 8 batch normalizations folded, not verified" in page
    tampered(tmp_path / "digits.folded.onnx", tmp_path / "bad.onnx", lambda w: w * 1.01)
    run("verify", "digits.onnx", "bad.onnx", "--report", "v.html", cwd=tmp_path)
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "<title>bad.onnx against digits.onnx · bnfold</title>" in page
    assert "Verification failed" in page
    assert "Where they differ" in page
    assert "because of" in page or "instead of" in page


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    model_in(tmp_path)
    model_in(tmp_path / "other")
    run("verify", "digits.onnx", "other/digits.onnx", "--report", "v.html", cwd=tmp_path)
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "<title>other/digits.onnx against digits.onnx · bnfold</title>" in page
    run("digits.onnx", "other", "--check", "-q", "--report", "c.html", cwd=tmp_path)
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert re.findall("<summary><h2>(.*?)</h2>", page) == ["digits.onnx", "other/digits.onnx"]


def test_a_check_tells_what_would_be(tmp_path: Path) -> None:
    model_in(tmp_path, "kept")
    run("kept.onnx", "--check", "--report", "c.html", cwd=tmp_path)
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "would go" in page
    assert "1 of 5 batch normalizations can be folded" in page


def test_numbers_that_are_not_finite(reports: list[dict[str, Any]]) -> None:
    report = json.loads(json.dumps(reports[0]))
    for output in report["verification"]["providers"][0]["outputs"]:
        output |= {"difference": None, "ratio": None, "verdict": "differs"}
    report["verification"]["layers"][1]["difference"] = None
    report["verification"]["probes"][0] |= {"fraction": None, "verdict": "broken", "note": "NaN"}
    page = render([report])
    assert "∞" in page
    assert "broken" in page


def test_without_jinja_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(bnfold.RequestError, match=r"pip install 'bnfold\[html\]'"):
        require_jinja()
    with pytest.raises(bnfold.RequestError, match="html"):
        check_report_path(tmp_path / "r.html")
    assert files(tmp_path) == set()


def test_the_page_is_written_beside_the_model(tmp_path: Path) -> None:
    model_in(tmp_path)
    assert run("digits.onnx", "--report", "r.html", cwd=tmp_path).code == 0
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx", "r.html"}
    assert load(tmp_path / "digits.folded.onnx").graph.node
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "8 of 8 batch normalizations folded, verified" in page
    assert 'class="card gone"' in page or "There is no picture" in page


def test_a_kept_node_leads_to_its_remedy(reports: list[dict[str, Any]]) -> None:
    page = render(reports[:1])
    for reason in ("zero-padding", "other-reader"):
        assert f'href="#remedy-{reason}"' in page
        assert page.count(f'id="remedy-{reason}"') == 1
        text = EXPLANATIONS[Reason(reason)].split("`")[0]
        assert html.escape(text) in page
    assert 'id="remedy-bad-variance"' not in page, "nothing names it"


def test_all_links_lead_somewhere(tmp_path: Path) -> None:
    model_in(tmp_path, "kept")
    bnfold.fold_file(tmp_path / "kept.onnx").to_html(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    targets = re.findall(r'href="#([^"]+)"', page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids))


def test_each_fold_has_the_fraction_of_its_region(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path))
    rows = EntryView(report.to_dict(), report.network, 1).folds
    assert [row.fraction for row in rows] == [
        probe.fraction
        for probe in report.verification.probes  # type: ignore[union-attr]
    ]


def test_what_int8_loses_is_told(reports: list[dict[str, Any]]) -> None:
    fold = EntryView(reports[1], None, 1).folds[0]
    weight = fold.weights[0]
    page = render(reports[1:2])
    assert f"{weight.data['after']['per_tensor']:.1f}" in page
    worse = {**weight.data, "before": {**weight.data["before"], "per_tensor": 99.0}}
    assert Weight(worse, weight.ranges).tone("per_tensor") == "worse"
    infinite = {**weight.data, "before": None}
    assert Weight(infinite, weight.ranges).gain("per_tensor") is None
