"""The rule tables as text, for `bnfold ops` and the README."""

from collections.abc import Callable, Iterator, Mapping

from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.carry import CARRY
from bnfold.rules.composites import COMPOSITES
from bnfold.rules.linear import LINEAR
from bnfold.rules.terms import TERM

_TITLES = {
    "affine": "Folded away: the operators that are an affine map per channel",
    "linear": "Folded into: the linear operators that absorb one, on their output and their input",
    "term": "Merged: what is one linear operator with the branches of the same tensor beside it",
    "carry": "Passed: the operators that let one through, and which",
    "composites": "Left whole: what runtimes and converters know as one operator",
}


def rows() -> Mapping[str, Mapping[str, str]]:
    """Return for each table what it says of each operator."""
    return {
        "affine": {name: _says(row) for name, row in AFFINE.items()},
        "linear": {name: _says(row).removeprefix(f"{name}: ") for name, row in LINEAR.items()},
        "term": {name: _says(row).removeprefix(f"{name}: ") for name, row in TERM.items()},
        "carry": {name: row.says for name, row in CARRY.items()},
        "composites": {row.name: row.says for row in COMPOSITES},
    }


def as_text() -> str:
    """Return the tables for a terminal."""
    return "\n".join(_text_lines())


def as_markdown() -> str:
    """Return the tables as Markdown."""
    return "\n".join(_markdown_lines())


def _says(row: Callable[..., object]) -> str:
    """Return the first line of a row's documentation, without its full stop."""
    return (row.__doc__ or "").strip().split("\n")[0].removesuffix(".")


def _text_lines() -> Iterator[str]:
    for table, listed in rows().items():
        yield _TITLES[table]
        width = max(map(len, listed)) + 2
        yield from (f"  {name:<{width}}{says}" for name, says in listed.items())
        yield ""


def _markdown_lines() -> Iterator[str]:
    for table, listed in rows().items():
        yield from (f"**{_TITLES[table]}**", "", "| operator | |", "|---|---|")
        yield from (f"| {name} | {says} |" for name, says in listed.items())
        yield ""
