"""Charts of the tables that the benchmarks print.

    python benchmarks/charts.py                         # those of README.md, into docs/charts
    python benchmarks/charts.py build/benchmarks/*.md --into build/benchmarks

A table is known by its header, so a chart shows what stands in the text and nothing else. Tables
that have no chart are passed over.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from measure import HERE

_NUMBER: Final = re.compile(r"\d[\d,]*\.?\d*")
_BEFORE, _AFTER, _OURS, _OTHERS = "#9aa5b1", "#3f51b5", "#3f51b5", "#9aa5b1"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a text in Markdown.

    Attributes:
        caption: The last line of text before it.
        header: The names of its columns.
        rows: Its cells.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def tables(text: str) -> Iterator[Table]:
    """Yield the tables of a text."""
    caption, lines = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
            continue
        if len(lines) > 2:
            yield Table(caption, _cells(lines[0]), tuple(map(_cells, lines[2:])))
        lines = []
        caption = line.strip() or caption


def number(cell: str) -> float:
    """Return the first number of a cell; 0 where there is none."""
    found = _NUMBER.search(cell)
    return float(found[0].replace(",", "")) if found else 0.0


def _pair(cell: str) -> tuple[float, float]:
    before, _, after = cell.partition("→")
    return number(before), number(after or before)


def _horizontal(names: Sequence[str], unit: str, title: str) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.45 * len(names)), layout="constrained")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(unit)
    axes.set_ylim(len(names) - 0.4, -0.6)
    figure.suptitle(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_files(table: Table) -> Any:  # noqa: ANN401 - matplotlib is imported where it is used
    """Draw the time of whole processes, one bar a tool."""
    left_out = ("imports", "floor", "cp")
    rows = [row for row in table.rows if not row[0].startswith(left_out)]
    title = f"Time to fold a file: {table.caption.rstrip(':')}"
    figure, axes = _horizontal([row[0] for row in rows], "seconds", title)
    colours = [_OURS if row[0].startswith("bnfold") else _OTHERS for row in rows]
    bars = axes.barh(range(len(rows)), [number(row[1]) for row in rows], color=colours)
    axes.bar_label(bars, [row[1] for row in rows], padding=3)
    return figure


def draw_gain(table: Table) -> Any:  # noqa: ANN401
    """Draw the nodes that are executed at each level, before and after."""
    names = [f"{row[0]}, {row[1].removesuffix('_ALL').lower()}d" for row in table.rows]
    pairs = [_pair(row[2]) for row in table.rows]
    figure, axes = _horizontal(
        names,
        "nodes executed",
        "What ONNX Runtime executes, with its optimizations disabled and enabled",
    )
    for shift, which, colour, label in (
        (-0.2, 0, _BEFORE, "as exported"), (0.2, 1, _AFTER, "folded")
    ):  # fmt: skip
        places = [place + shift for place in range(len(names))]
        bars = axes.barh(
            places, [pair[which] for pair in pairs], height=0.4, color=colour, label=label
        )
        axes.bar_label(bars, [f"{pair[which]:.0f}" for pair in pairs], padding=3, fontsize=8)
    axes.legend(frameon=False)
    return figure


def draw_peers(table: Table) -> Any:  # noqa: ANN401
    """Draw how many batch normalizations each tool leaves, over all networks."""
    total = next((row for row in table.rows if row[0] == "all"), table.rows[-1])
    known = [(n, c) for n, c in zip(table.header[2:], total[2:], strict=True) if c]
    title = f"Batch normalizations left of {total[1]}, over all networks"
    figure, axes = _horizontal([name for name, _ in known], "batch normalizations", title)
    colours = [_OURS if name == "bnfold" else _OTHERS for name, _ in known]
    bars = axes.barh(range(len(known)), [number(cell) for _, cell in known], color=colours)
    axes.bar_label(bars, [cell for _, cell in known], padding=3)
    return figure


def chart(table: Table) -> tuple[str, Any] | None:
    """Return a chart of a table and its name; None for a table that has none."""
    if table.header[1:4] == ("time", "of bnfold's", "CPU time"):
        size = re.match(r"(\d+) MB", table.caption)
        return f"files_{size[1] if size else ''}", draw_files(table)
    if table.header[:3] == ("network", "level", "nodes"):
        return "executed", draw_gain(table)
    if table.header[:2] == ("network", "BN") and table.header[-1] == "bnfold":
        return "left", draw_peers(table)
    return None


def main(words: Sequence[str] | None = None) -> int:
    """Read tables, draw charts, print where they are."""
    parser = argparse.ArgumentParser(description="Draw the tables that charts.py is given.")
    parser.add_argument("texts", type=Path, nargs="*", default=[HERE / "README.md"])
    parser.add_argument("--into", type=Path, default=HERE.parent / "docs" / "charts")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    arguments = parser.parse_args(words)
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams |= {"svg.hashsalt": "bnfold", "svg.fonttype": "none"}
    arguments.into.mkdir(parents=True, exist_ok=True)
    drawn: set[str] = set()
    for text in arguments.texts:
        for table in tables(text.read_text(encoding="utf-8")):
            made = chart(table)
            if made is None or made[0] in drawn:
                continue
            drawn.add(made[0])
            target = arguments.into / f"{made[0]}.{arguments.format}"
            made[1].savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
            print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
