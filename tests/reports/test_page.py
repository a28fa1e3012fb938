"""The HTML report, in a real browser where there is one."""

import html
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import convolution, files, load, model_in, run, tampered, write

import bnfold
from bnfold.reports.page import (
    Plot,
    Scale,
    power,
    relative,
    render,
    require_jinja,
    scientific,
    short,
    size,
)
from bnfold.verification import VerifyOptions

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Looks at the page from inside it, and writes what it finds into its title.
PROBE = """
<script>
window.problems = [];
addEventListener("error", event => problems.push(String(event.message)));
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(
    element => element.getBoundingClientRect().right > innerWidth + 1);
  document.title = JSON.stringify({
    problems,
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    wide: wide.map(element => element.outerHTML.slice(0, 200)),
    text: document.body.innerText,
    scripts: document.scripts.length,
  });
});
</script>
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    sources = [model_in(folder, name) for name in ("kept", "mixnet", "digits")]
    thorough = VerifyOptions(thorough=True)
    made = [bnfold.fold_file(sources[0], verify=thorough).to_dict()]
    made.append(bnfold.fold_file(sources[1]).to_dict())
    made.append(bnfold.fold_file(sources[2], check=True).to_dict())
    return made


def looked_at(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Render a page in headless Chromium and return what a script in it saw."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    path = folder / "page.html"
    path.write_text(page.replace("<main>", PROBE + "<main>", 1), encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            "--virtual-time-budget=2000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert b":CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout.decode(), re.DOTALL)
    assert title
    seen: dict[str, Any] = json.loads(html.unescape(title[1]))
    return seen


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it(reports: list[dict[str, Any]], tmp_path: Path, width: int) -> None:
    seen = looked_at(render(reports), tmp_path, width)
    assert seen["problems"] == []
    assert seen["wide"] == []
    assert seen["scroll"] <= seen["width"]
    assert seen["scripts"] == 1, "the one that looks"
    text = seen["text"].replace("\u200b", "")
    for number in numbers(reports):
        assert number in text
    for report in reports:
        for file in (report["source"], report["target"]):
            if file:
                assert file["path"] in text
                assert file["sha256"] is None or file["sha256"] in text
        for kept in report["kept"]:
            assert kept["above"]["text"] in text
            assert kept["below"]["text"] in text
        for fold in report["folds"]:
            assert all(node["name"] in text for node in fold["taken"] + fold["into"])


def numbers(reports: list[dict[str, Any]]) -> set[str]:
    """Return what should be read somewhere on the page."""
    told = {f"{report['before']['nodes']} → {report['after']['nodes']}" for report in reports}
    for report in reports:
        found = report["verification"] or {"providers": [], "probes": []}
        for provider in found["providers"]:
            for output in provider["outputs"]:
                told |= {scientific(relative(output, key)) for key in ("difference", "noise")}
                told.add(short(output["ratio"]))
        if found["probes"]:
            told.add(short(max(probe["fraction"] for probe in found["probes"])))
    return told


def test_the_page_needs_nothing_else(reports: list[dict[str, Any]]) -> None:
    page = render(reports)
    assert not re.search(r"https?://|<script|<link(?![^>]*data:)|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page


def test_one_model_has_no_overview(reports: list[dict[str, Any]]) -> None:
    assert 'class="overview"' in render(reports)
    page = render(reports[:1])
    assert 'class="overview"' not in page
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
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>net" not in page
    assert html.escape("<script>alert(1)<") in page.replace("<wbr>", "")


def test_failures_are_shown_as_such(tmp_path: Path) -> None:
    model_in(tmp_path)
    run("digits.onnx", "missing.onnx", "-q", "--no-verify", "--report", "r.html", cwd=tmp_path)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Could not be folded" in page
    assert "No such file" in page
    assert "Folded, but not verified" in page
    tampered(tmp_path / "digits.folded.onnx", tmp_path / "bad.onnx", lambda w: w * 1.01)
    run("verify", "digits.onnx", "bad.onnx", "--report", "v.html", cwd=tmp_path)
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "<title>bad.onnx against digits.onnx · bnfold</title>" in page
    assert "Verification failed" in page
    assert "First layer that differs" in page
    seen = looked_at(page, tmp_path, 500)
    assert seen["wide"] == []


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    model_in(tmp_path)
    model_in(tmp_path / "other")
    run("verify", "digits.onnx", "other/digits.onnx", "--report", "v.html", cwd=tmp_path)
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "<title>other/digits.onnx against digits.onnx · bnfold</title>" in page


def test_a_check_tells_what_would_be(tmp_path: Path) -> None:
    model_in(tmp_path, "kept")
    run("kept.onnx", "--check", "--report", "c.html", cwd=tmp_path)
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "What would go, and where" in page
    assert "What would stay, and what stands in the way" in page


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
        bnfold.reports.report.check_report_path(tmp_path / "r.html")
    assert files(tmp_path) == set()


def test_the_page_is_written_beside_the_model(tmp_path: Path) -> None:
    model_in(tmp_path)
    assert run("digits.onnx", "--report", "r.html", cwd=tmp_path).code == 0
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx", "r.html"}
    assert load(tmp_path / "digits.folded.onnx").graph.node
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Folded, and verified to compute the same" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (None, "∞"), (3.3e-7, "3.3 × 10⁻⁷"), (1.0, "1.0 × 10⁰"), (2.5e12, "2.5 × 10¹²")],
)
def test_numbers_are_written_as_people_do(value: float | None, text: str) -> None:
    assert scientific(value) == text


def test_ratios_and_sizes() -> None:
    assert [short(v) for v in (0.2149, 1.0, 17.3, 18148.2, None)] == [
        "0.21", "1", "17", "18148", "∞",
    ]  # fmt: skip
    assert [size(v) for v in (0, 999, 1000, 8952, 45_000_000, None)] == [
        "0 bytes", "999 bytes", "1.0 kB", "9.0 kB", "45.0 MB", "",
    ]  # fmt: skip
    assert power(-12) == "10⁻¹²"


def test_scales_hold_what_they_are_made_for() -> None:
    values = [3e-7, 0.0, None, 2e-3]
    scale = Scale.around(values)
    assert (scale.low, scale.high) == (-7, -2)
    assert scale.at(0.0) == 0.0
    assert scale.at(None) == 1.0
    assert math.isclose(scale.at(10**-4.5), 0.5)
    assert len(scale.ticks) <= 6
    assert Scale.around([]).ticks
    assert Scale.around([1e-3]) == Scale(-3, -2)


def test_plots_stay_inside_their_frame() -> None:
    layers = [
        {"name": str(i), "difference": difference, "noise": 1e-6, "magnitude": 2.0}
        for i, difference in enumerate([0.0, 1e-6, 1e-2, None])
    ]
    plot = Plot(layers)
    points = [tuple(map(float, point.split(","))) for point in plot.line("difference").split()]
    assert len(points) == 4
    assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in points)
    assert points[0][1] == plot.height
    assert points[3][1] == 0
