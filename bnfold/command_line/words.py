"""Helpers for the texts on a terminal: wrapping lines, naming nodes."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import click

from bnfold.reports.records import NodeRecord, ObstacleRecord

INDENT = "  "
_NARROWEST = 24
"""So many characters a line has behind its margin, however narrow the terminal is."""


def wrapped(lines: Iterable[str], width: int | None) -> str:
    """Return lines as text, none wider than `width` columns; None for no limit."""
    if width is None:
        return "\n".join(lines)
    return "\n".join(part for line in lines for part in _wrap(line, width))


def _wrap(line: str, width: int) -> list[str]:
    """Wrap a line, the further parts indented a little more; names stay whole."""
    plain = click.unstyle(line)
    margin = plain[: len(plain) - len(plain.lstrip())]
    parts = textwrap.wrap(
        plain.lstrip(),
        max(width, len(margin) + _NARROWEST),
        initial_indent=margin,
        subsequent_indent=margin + 2 * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*_coloured(parts, line)] if plain != line else parts or [""]


def _coloured(parts: Iterable[str], line: str) -> Iterator[str]:
    """Yield the parts of a line with its words as they are there, colours among them."""
    words = iter(line.split())
    for part in parts:
        margin = part[: len(part) - len(part.lstrip())]
        yield margin + " ".join(next(words) for _ in part.split())


def indented(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines, each a step further to the right."""
    return (INDENT + line for line in lines)


def named(nodes: Sequence[NodeRecord], between: str = ", ") -> str:
    """Return nodes by their operators and names."""
    return between.join(map(str, nodes))


def coded(obstacle: ObstacleRecord) -> str:
    """Return what stands in the way, with the code that `bnfold explain` takes."""
    return f"{obstacle.text} [{obstacle.reason}]"
