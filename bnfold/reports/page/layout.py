"""Where operators stand in a picture of a graph: columns follow the data, rows what is beside.

The layered layout itself (Sugiyama's method) is the library fast-sugiyama's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter

from bnfold.frozen import frozen

Point = tuple[float, float]
"""A column and a row."""
Pair = tuple[int, int]
"""An edge, from and to."""

_BENDS = 6
"""Bends of lines that are laid out, for each node; what is longer is drawn straight."""
_BENDS_AT_LEAST = 500


@frozen
class Layout:
    """Where nodes stand, and how lines lead between them.

    Attributes:
        at: The place of each node.
        lines: The places that each line leads through, from a node to a node.
        columns: The number of columns.
        rows: The number of rows.
    """

    at: Mapping[int, Point]
    lines: tuple[tuple[Point, ...], ...]
    columns: float
    rows: float


def is_available() -> bool:
    """Whether the library that lays graphs out is installed."""
    try:
        import fast_sugiyama
    except ImportError:
        return False
    del fast_sugiyama
    return True


def lay_out(nodes: Sequence[int], edges: Iterable[Pair]) -> Layout:
    """Lay out a graph without circles, the data going from the left to the right.

    Its nodes are in the order of the data; edges say which node reads what which one makes, each
    once. Parts that are not connected stand one behind the other.
    """
    laid, straight = _affordable(nodes, list(edges))
    parts = _connected(laid)
    known = {node for part in parts for node in part.at}
    parts += [Layout({node: (0.0, 0.0)}, (), 1, 1) for node in nodes if node not in known]
    parts.sort(key=lambda part: min(part.at))
    rows = max((part.rows for part in parts), default=1.0)
    at: dict[int, Point] = {}
    lines: list[tuple[Point, ...]] = []
    columns = 0.0
    for part in parts:
        move = _moved(columns, (rows - part.rows) / 2)
        at |= {node: move(point) for node, point in part.at.items()}
        lines += (tuple(map(move, line)) for line in part.lines)
        columns += part.columns
    lines += ((at[one], at[other]) for one, other in straight)
    return Layout(at, tuple(lines), columns, rows)


def _moved(columns: float, rows: float) -> Callable[[Point], Point]:
    return lambda point: (point[0] + columns, point[1] + rows)


def _affordable(nodes: Sequence[int], edges: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return the edges to lay out, and those for which that would take too long.

    A line bends in every column that it crosses, and a graph in which everything reads everything
    before it would have a bend for every node squared.
    """
    readers: dict[int, list[int]] = {node: [] for node in nodes}
    for one, other in edges:
        readers[other].append(one)
    depth: dict[int, int] = {}
    for node in TopologicalSorter(readers).static_order():
        depth[node] = max((depth[before] + 1 for before in readers[node]), default=0)
    left = _BENDS * len(nodes) + _BENDS_AT_LEAST
    laid: list[Pair] = []
    straight: list[Pair] = []
    for edge in sorted(edges, key=lambda edge: depth[edge[1]] - depth[edge[0]]):
        left -= depth[edge[1]] - depth[edge[0]] - 1
        (laid if left >= 0 else straight).append(edge)
    return laid, straight


def _connected(edges: Sequence[Pair]) -> list[Layout]:
    """Lay out each connected part."""
    beside: dict[int, list[int]] = defaultdict(list)
    for one, other in edges:
        beside[one].append(other)
        beside[other].append(one)
    part_of: dict[int, int] = {}
    for first in sorted(beside):
        waiting = [first]
        while waiting:
            node = waiting.pop()
            if node not in part_of:
                part_of[node] = part_of.get(first, first)
                waiting.extend(beside[node])
    parts: dict[int, list[Pair]] = defaultdict(list)
    for edge in edges:
        parts[part_of[edge[0]]].append(edge)
    return [_part(part) for part in parts.values()]


def _part(edges: Sequence[Pair]) -> Layout:
    """Lay out a connected part; the library numbers the bends of lines behind the nodes."""
    from fast_sugiyama import from_edges

    nodes = sorted({node for edge in edges for node in edge})
    number = {node: index for index, node in enumerate(nodes)}
    pairs = [(number[one], number[other]) for one, other in edges]
    made = from_edges(pairs, vertex_spacing=1, dummy_vertices=True, dummy_size=0.4)
    ((places, _, _, joints),) = made
    left = min(x for _, (x, _) in places)
    top = max(y for _, (_, y) in places)
    at = {n: (top - y, x - left) for n, (x, y) in sorted(places)}
    following: dict[int, list[int]] = defaultdict(list)
    for one, other in joints or pairs:
        following[int(one)].append(int(other))  # it would take names, too
    lines = tuple(
        tuple(at[n] for n in (node, *_until_node(after, following, len(nodes))))
        for node in range(len(nodes))
        for after in following[node]
    )
    columns = max(column for column, _ in at.values()) + 1
    rows = max(row for _, row in at.values()) + 1
    return Layout({node: at[number[node]] for node in nodes}, lines, columns, rows)


def _until_node(number: int, following: Mapping[int, Sequence[int]], nodes: int) -> Iterator[int]:
    """Yield the bends of a line, and the node at which it ends."""
    yield number
    while number >= nodes:
        (number,) = following[number]
        yield number
