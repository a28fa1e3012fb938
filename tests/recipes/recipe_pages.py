"""The commands of a recipe: read from its page and run in a checkout of their own.

Fenced blocks of a page count by their language:

- `sh`: commands, run by bash in a copy of the checkout, in the order of the page; the first that
  fails fails the test. A block that does nothing but install packages skips it instead.
- `python`: a file; its first line is a comment with the name, `# compare.py`.
- `text`: right behind commands, what they print. Lines may be missing around it. Numbers with a
  decimal point or an exponent may be others, and `…` stands for anything.
- `console`, and all others: not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from commandline import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "docs" / "recipes"
PAGES = sorted(FOLDER.glob("*.md"))
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.\w+)\n")
_INSTALLS = re.compile(r"(\S*/)?(pip|npm) install |python3?(\.\d+)? -m venv |apt-get install ")
_NUMBER = re.compile(r"[−-]?\d+(\.\d+)+(e[-+]?\d+)?|[−-]?\d+e[-+]?\d+")
_NEEDED = ("bnfold", "models", "benchmarks", "docs", "pyproject.toml", "README.md", "LICENSE")
_PATIENCE = 900  # seconds that a block may take


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that it is; empty for none."""
        found = _FILE.match(self.text) if self.language == "python" else None
        return found[1] if found else ""

    @property
    def installs(self) -> bool:
        """Whether it does nothing but install packages."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return self.language == "sh" and all(map(_INSTALLS.match, filter(None, lines)))


@dataclass
class Page:
    """A recipe.

    Attributes:
        path: Its page.
        blocks: Its fenced blocks.
    """

    path: Path
    blocks: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        self.blocks = [Block(found[1], found[2]) for found in _FENCE.finditer(text)]

    @property
    def title(self) -> str:
        return self.path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


class Bench:
    """Where a recipe is run: a copy of the checkout, and a virtual environment.

    What is installed beside the tests is there already, so that with `bnfold[test-edge]` little
    is installed anew.
    """

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "bnfold"
        self.checkout.mkdir()
        for name in _NEEDED:
            if (ROOT / name).is_dir():
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, self.checkout / name, ignore=left_out)
            else:
                shutil.copy(ROOT / name, self.checkout)
        environment = folder / "environment"
        venv.create(environment, with_pip=True, symlinks=True)
        self._variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, page: Page) -> None:
        """Do what a page says; skip the test where something cannot be installed."""
        printed = ""
        for number, block in enumerate(page.blocks):
            if block.file:
                (self.checkout / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "sh":
                printed = self._bash(block)
            elif block.language == "text" and page.blocks[number - 1].language == "sh":
                assert matches(block.text, printed), f"{block.text}\nis not in\n{printed}"

    def _bash(self, block: Block) -> str:
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.checkout, env=self._variables, stdin=subprocess.DEVNULL, timeout=_PATIENCE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode and block.installs:
            last = next(reversed(done.stdout.strip().splitlines()), "")
            pytest.skip(f"cannot be installed here: {last}")
        assert done.returncode == 0, f"{block.text}\n{done.stdout}"
        return done.stdout


def matches(expected: str, printed: str) -> bool:
    """Whether lines are among what was printed, one behind the other; see the module."""
    pattern = r"\s*\n".join(map(_pattern, expected.strip("\n").splitlines()))
    return re.search(rf"^{pattern}\s*$", printed, re.MULTILINE) is not None


def _pattern(line: str) -> str:
    parts = []
    for text in re.split("(…)", " ".join(line.split())):
        pieces = [re.escape(piece).replace(r"\ ", r"\s+") for piece in _split_numbers(text)]
        parts.append(".*" if text == "…" else rf"(?:{_NUMBER.pattern})".join(pieces))
    return r"\s*" + "".join(parts)


def _split_numbers(text: str) -> list[str]:
    ends = [0]
    for found in _NUMBER.finditer(text):
        ends += found.span()
    ends.append(len(text))
    return [text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]
