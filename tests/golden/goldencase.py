"""A golden case: a file with a model in text, what folding makes of it, and what it keeps.

A file has sections that begin with `===`:

    (what the case shows, in words)
    === options       (optional: keyword arguments of bnfold.fold that are true, or `no_…` false)
    === invalid       (instead of the last two: ONNX's checker refuses the model, bnfold with this)
    === model
    === folded        (the model after folding, or the one word `unchanged`)
    === kept          (a line for each run of nodes that stays, and why)

A line of the last section reads

    operator output, operator output: reason at place | reason at place

with what stands in the way upwards and, where that was tried, downwards; last, where there are
any, of becoming one with the branches that they are added to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

import bnfold

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
SUFFIX = ".onnxtxt"
UNCHANGED = "unchanged"


@dataclass
class Golden:
    """One case."""

    path: Path
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.relative_to(FOLDER).with_suffix("").as_posix()

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.parser.parse_model(self.sections["model"])

    @property
    def expected(self) -> str:
        text = self.sections["folded"].strip()
        model = self.model if text == UNCHANGED else onnx.parser.parse_model(text)
        return onnx.printer.to_text(model)

    @property
    def kept(self) -> list[str]:
        return self.sections.get("kept", "").split("\n")[:-1]

    @property
    def reasons(self) -> set[str]:
        """The codes of the reasons that the case shows."""
        obstacles = [part for line in self.kept for part in line.split(": ", 1)[1].split(" | ")]
        return {obstacle.split(" at ")[0] for obstacle in obstacles}

    def fold(self) -> bnfold.Folding:
        stated = self.sections.get("options", "").split()
        options: dict[str, Any] = {
            name.removeprefix("no_"): not name.startswith("no_") for name in stated
        }
        return bnfold.fold(self.model, **options)


def read(path: Path) -> Golden:
    case, section = Golden(path), "words"
    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.startswith("==="):
            section = line.removeprefix("===").strip()
            case.sections.setdefault(section, "")
            continue
        case.sections[section] = case.sections.get(section, "") + line
    return case


def cases() -> list[Golden]:
    return [read(path) for path in sorted(FOLDER.rglob(f"*{SUFFIX}"))]


def kept_lines(folding: bnfold.Folding) -> Iterator[str]:
    for kept in folding.kept:
        nodes = ", ".join(f"{node.op_type} {node.output}" for node in kept.nodes)
        beside = None if kept.beside == kept.above else kept.beside
        obstacles = [o for o in (kept.above, kept.below, beside) if o is not None]
        told = [f"{o.reason} at {o.at}" if o.at else o.reason for o in obstacles]
        yield f"{nodes}: {' | '.join(told)}"
