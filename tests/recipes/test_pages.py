"""What every recipe's page keeps to, and how its blocks are read."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click import Command
from recipe_pages import FOLDER, PAGES, Block, Page, matches

from bnfold.command_line.fold import fold

if TYPE_CHECKING:
    from pathlib import Path

_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_can_be_run(path: Path) -> None:
    page = Page(path)
    assert page.title
    for block in page.blocks:
        assert block.language, f"{path.name}: a block without a language"
        if block.language == "sh":
            done = subprocess.run(["/bin/bash", "-n", "-c", block.text], check=False)
            assert done.returncode == 0, block.text
        elif block.language == "python":
            assert block.file, f"{path.name}: a file without a name"
            ast.parse(block.text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_options_of_bnfold_are_there(path: Path) -> None:
    assert isinstance(fold, Command)
    known = {name for parameter in fold.params for name in parameter.opts} | {"--help"}
    for block in Page(path).blocks:
        lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
        for line in lines:
            if re.match(r"(\S*/)?bnfold (?!verify)", line):
                assert set(_OPTION.findall(line.split("|")[0])) <= known, line


def test_the_index_lists_all_pages() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    missing = [p.name for p in PAGES if p.name != "README.md" and f"({p.name})" not in index]
    assert not missing


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a 1", "before\n  a   1 \nafter", True),
        ("a 1", "a 2", False),
        ("a 1.5", "a 2.25e-07", True),
        ("a 1.5 b", "a 2 b", False),
        ("1 a 1.5 b", "2 a 1.5 b", False),
        ("1 a\nb 2e-06", "2 a\nb 1e-06", False),
        ("a … b", "a - what - b", True),
        ("one\ntwo", "one\ntwo", True),
        ("one\ntwo", "one\n\nthree\ntwo", False),
        ("72 → 48 nodes, 3e-07", "72 → 48 nodes, 1.9e-08", True),
    ],
)
def test_what_is_printed_is_compared(expected: str, printed: str, same: bool) -> None:  # noqa: FBT001
    assert matches(expected, printed) is same


def test_blocks_that_install_are_known() -> None:
    assert Block("sh", "python3 -m venv a\na/bin/pip install -q b\n").installs
    assert not Block("sh", "pip install b\nbnfold models/digits.onnx\n").installs
    assert Block("python", "# a.py\nprint(1)\n").file == "a.py"
