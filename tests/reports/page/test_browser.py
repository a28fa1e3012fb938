"""The page in the Chromium of the system, with a mouse, with a keyboard and on a telephone."""

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from commandline import MODELS, convolution, model_in, tampered, write

import bnfold
from bnfold.reports.file_record import FileRecord
from bnfold.reports.report import Comparison, Entry, Failure
from bnfold.reports.report_file import write_reports
from bnfold.verification import VerifyOptions

playwright = pytest.importorskip(
    "playwright.sync_api", reason="bnfold[browser] drives a browser with Playwright"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUICK = VerifyOptions(time=0)
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover=alert(1) x="'

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write pages about one model, about several, and about one with names that are markup."""
    folder = tmp_path_factory.mktemp("pages")
    made: list[Entry] = [
        bnfold.fold_file(
            model_in(folder, name), verify=VerifyOptions(thorough=name == "kept", time=0)
        )
        for name in ("kept", "digits")
    ]
    made.append(Failure("missing.onnx", "missing.onnx: No such file"))
    evil = bnfold.fold_file(write(convolution(name=EVIL), folder / "<b>net.onnx"), verify=QUICK)
    written: dict[str, list[Entry]] = {
        "one": made[:1],
        "several": made,
        "evil": [evil],
        "failed": [_failed(folder)],
        "estimated": [_estimated(folder)],
    }
    for name, entries in written.items():
        write_reports(folder / f"{name}.html", entries)
    return {name: folder / f"{name}.html" for name in written}


def _failed(folder: Path) -> Comparison:
    """Compare two models with names that are markup, one of which has a wrong weight."""
    model = convolution(name=EVIL)
    for names in (model.graph.node[0].input, model.graph.node[0].output):
        names[:] = [f"{name}{EVIL}" if name != "x" else name for name in names]
    model.graph.node[1].input[0] += EVIL
    model.graph.initializer[0].name += EVIL
    right = write(model, folder / "right.onnx")
    wrong = tampered(right, folder / "wrong.onnx", lambda weight: weight * 1.01)
    found = bnfold.verify(right, wrong, options=QUICK)
    return Comparison(FileRecord(right.name), FileRecord(wrong.name), found)


def _estimated(folder: Path) -> Entry:
    data = bnfold.StatisticsOptions(MODELS / "digits_test.npz", batch_size=120)
    target = folder / "estimated.onnx"
    return bnfold.fold_file(model_in(folder), target, statistics=data, verify=QUICK)


@pytest.fixture
def show(browser: Any, pages: dict[str, Path]) -> Iterator[Open]:
    """Open a page; what goes wrong in it fails the test."""
    problems: list[str] = []
    contexts = []

    def opened(name: str, width: int = 1280, *, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.extend(_foreign(request.url, name)))
        page.goto(pages[name].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def _foreign(url: str, name: str) -> list[str]:
    own = url.startswith("file:") and url.endswith(f"{name}.html")
    return [] if own or url.startswith("data:") else [url]


@pytest.mark.parametrize("name", ["one", "several", "evil", "failed", "estimated"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_telephone(show: Open, name: str, scheme: str) -> None:
    page = show(name, 390, scheme=scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.evaluate("for (const b of document.querySelectorAll('.toggle')) b.click()")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(20, 23, 26)") == (scheme == "dark")


@pytest.mark.parametrize("name", ["one", "several", "failed"])
def test_no_level_of_headings_is_left_out(show: Open, name: str) -> None:
    tags = "[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))"
    levels = [0, *show(name).evaluate(tags)]
    assert max(after - before for before, after in pairwise(levels)) == 1


def test_on_a_telephone_no_button_covers_a_name(show: Open) -> None:
    page = show("one", 390)
    row = page.locator(".folds tbody tr").first
    button = row.locator(".toggle").bounding_box()
    names = """row => { const r = document.createRange(); r.selectNodeContents(row.cells[0]);
        return Math.max(...[...r.getClientRects()].map(box => box.right)); }"""
    assert row.evaluate(names) <= button["x"]


@pytest.mark.parametrize("width", [740, 768, 1024])
def test_on_a_tablet_no_column_of_names_is_a_few_letters_wide(show: Open, width: int) -> None:
    page = show("estimated", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for column in (1, 3):
        cell = page.locator(f".folds tbody td:nth-child({column})").first
        assert cell.bounding_box()["width"] >= 8 * 14


def test_columns_sort_both_ways(show: Open) -> None:
    page = show("several")
    head = page.locator(".overview th", has_text="nodes")

    def order() -> list[str]:
        rows: list[str] = page.locator(".overview tbody a").all_inner_texts()
        return rows

    head.get_by_role("button").click()
    assert order() == ["kept.onnx", "digits.onnx", "missing.onnx"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert order() == ["digits.onnx", "kept.onnx", "missing.onnx"], "what has no number stays last"


def test_one_box_filters_all_tables(show: Open) -> None:
    page = show("one")
    page.get_by_role("searchbox").fill("padded_bn")
    assert page.locator(".keeping li:visible").count() == 1
    assert page.locator(".folds tbody:visible").count() == 0
    told = page.locator(".bar output").inner_text()
    assert told.startswith("2 of "), "a layer, too"
    page.get_by_role("searchbox").fill("")
    assert page.locator(".keeping li:visible").count() == 4
    page.get_by_role("searchbox").fill("needs-zero-shift")
    assert page.locator(".keeping li:visible").count() == 2


def test_models_are_closed_until_somebody_wants_them(show: Open) -> None:
    page = show("several")
    assert page.locator("details.model[open]").count() == 0
    page.get_by_label("only what needs a look").check()
    assert page.locator(".overview tbody a:visible").all_inner_texts() == [
        "kept.onnx",
        "missing.onnx",
    ]
    page.locator(".overview a", has_text="kept.onnx").click()
    assert page.locator("details.model[open]").get_attribute("id") == "model-1"


def test_a_card_leads_to_the_reason_and_on_to_the_remedy(show: Open) -> None:
    pytest.importorskip("fast_sugiyama", reason="bnfold[html] lays graphs out with fast-sugiyama")
    page = show("one")
    page.locator(".network a:has(.kept)").first.click()
    row = page.locator("li:focus")
    assert row.get_attribute("id") == "model-1-kept-1"
    row.locator("xpath=ancestor::div").locator("a.code").first.click()
    assert page.locator(".remedy:focus").count() == 1
    page.locator(".network a:has(.gone)").first.click()
    assert page.locator("#model-1-fold-1-more").is_visible()
    assert page.locator("#model-1-fold-1-more .gone").count() == 1


def test_the_keyboard_reaches_everything(show: Open) -> None:
    page = show("one")
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
        if page.evaluate("document.activeElement === document.body"):
            break
    for what in ('type="search"', "data-sort", "toggle", "remedy-", "<summary", "<a href"):
        assert any(what in element for element in reached), what
    page.locator(".strip a, .plot a").first.focus()
    page.locator(".plot a").first.focus()
    page.keyboard.press("ArrowRight")
    assert "layer-2" in page.evaluate("document.activeElement.getAttribute('href')")
    page.keyboard.press("Enter")
    assert page.locator("#model-1-layer-2").is_visible()
    page.locator(".folds th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".folds th[aria-sort]").count() == 1


def test_the_verdict_stays_in_sight(show: Open) -> None:
    page = show("one")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.locator("h1").bounding_box()["y"] < 50
    assert page.locator(".bar .verdict").bounding_box()["y"] < 50


def test_names_that_are_markup_stay_text(show: Open) -> None:
    page = show("evil")
    assert page.locator("script").count() == 1, "the page's own"
    assert page.locator("img, b[onmouseover], [onmouseover], [onerror]").count() == 0
    assert "<script>alert(1)</script>" in page.locator(".folds").inner_text()
    assert page.locator("h1").inner_text() == "<b>net.onnx"


def test_where_two_models_differ_is_a_table(show: Open) -> None:
    page = show("failed")
    assert page.locator(".bar .verdict.bad").inner_text() == "Verification failed"
    row = page.locator(".differences tbody").first.inner_text()
    assert "<script>alert(1)</script>" in row
    assert " instead of " in row
    assert page.locator("script").count() == 1, "the page's own"
    assert page.locator("img, [onmouseover], [onerror]").count() == 0
    page.locator(".differences th button", has_text="channel").click()
    assert page.locator(".differences th[aria-sort]").inner_text() == "channel"
