"""The charts show what stands in the tables."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _words(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    return importlib.import_module("charts")


def test_tables_are_read_with_their_captions(charts: ModuleType) -> None:
    text = "45 MB, inline:\n\n| a | b |\n| --- | ---: |\n| x | 1,234.5 s |\n\nafter\n"
    (table,) = charts.tables(text)
    assert (table.caption, table.header) == ("45 MB, inline:", ("a", "b"))
    assert table.rows == (("x", "1,234.5 s"),)
    assert charts.number(table.rows[0][1]) == 1234.5


def test_what_is_drawn_is_what_the_table_says(charts: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="benchmarks/requirements.txt has it")
    text = tmp_path / "peers.md"
    text.write_text(
        "| network | BN | onnxslim | absent | bnfold |\n| --- | --- | --- | --- | --- |\n"
        "| a.onnx | 7 | 5 ✗ | not installed | 0 |\n| all | 7 | 5 |  | 0 |\n",
        encoding="utf-8",
    )
    assert charts.main([str(text), "--into", str(tmp_path)]) == 0
    drawn = (tmp_path / "left.svg").read_text(encoding="utf-8")
    assert all(word in drawn for word in ("onnxslim", "bnfold", "left of 7"))
    assert "absent" not in drawn


def test_the_charts_of_the_page_are_those_of_its_tables(charts: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="benchmarks/requirements.txt has it")
    assert charts.main(["--into", str(tmp_path)]) == 0
    kept = _BENCHMARKS.parent / "docs" / "charts"
    drawn = sorted(kept.glob("*.svg"))
    assert len(drawn) >= 3
    for path in drawn:
        again = (tmp_path / path.name).read_text(encoding="utf-8")
        assert _words(path.read_text(encoding="utf-8")) == _words(again)


def test_the_tables_of_the_benchmarks_have_charts(charts: ModuleType) -> None:
    text = (_BENCHMARKS / "README.md").read_text(encoding="utf-8")
    headers = [table.header for table in charts.tables(text)]
    assert sum(header[1:4] == ("time", "of bnfold's", "CPU time") for header in headers) > 2
    assert any(header[:3] == ("network", "level", "nodes") for header in headers)
    assert any(header[:2] == ("network", "BN") and header[-1] == "bnfold" for header in headers)
