"""Words and lines of which texts for a terminal are made."""

from collections.abc import Iterable, Iterator, Sequence

from bnfold.reports.records import NodeRecord, ObstacleRecord

INDENT = "  "


def indented(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines, each a step further to the right."""
    return (INDENT + line for line in lines)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def named(nodes: Sequence[NodeRecord], between: str = ", ") -> str:
    """Return nodes by their operators and names."""
    return between.join(map(str, nodes))


def coded(obstacle: ObstacleRecord) -> str:
    """Return what stands in the way, with the code that `bnfold explain` takes."""
    return f"{obstacle.text} [{obstacle.reason}]"
