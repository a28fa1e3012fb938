"""The picture of a network: cards in the order of the data, arrows to where something went."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from bnfold.frozen import frozen
from bnfold.reports.network import FoldPlace, Network
from bnfold.reports.page.layout import Layout, Point, lay_out

_CARDS = 250
"""Operators; of a larger network the whole is drawn in small."""
_NEIGHBOURS = 12
"""Operators around a fold."""
_CORE = 40
"""Operators of one fold that are drawn; some pass hundreds."""
_OPERATOR, _NAME = 18, 19
"""Characters on a card."""


class Fate(StrEnum):
    """What became of an operator."""

    GONE = "gone"
    KEPT = "kept"
    INTO = "into"
    THROUGH = "through"
    SAME = "same"


_TELLING = (Fate.SAME, Fate.THROUGH, Fate.INTO, Fate.KEPT, Fate.GONE)
"""What is shown of an operator for which several are true: the last of these."""
_SPOKEN = {
    Fate.GONE: "folded",
    Fate.KEPT: "kept",
    Fate.INTO: "takes something up",
    Fate.THROUGH: "is passed by a fold",
    Fate.SAME: "",
}


@frozen
class Measure:
    """How large things are drawn, in pixels.

    Attributes:
        width: The width of a card.
        height: Its height.
        column: From one column to the next.
        row: From one row to the next.
        margin: Around everything.
        rise: How far an arrow rises above the cards that it leads between.
    """

    width: int
    height: int
    column: int
    row: int
    margin: int
    rise: int


CARDS = Measure(150, 40, 182, 58, 30, 26)
DOTS = Measure(13, 13, 19, 19, 16, 9)


@frozen
class Card:
    """An operator.

    Attributes:
        x: Its left side.
        y: Its upper side.
        fate: What became of it.
        operator: What is written on it.
        name: What is written below that.
        told: All of it, for who points at it.
        anchor: Where it leads to on the page; may be empty.
    """

    x: float
    y: float
    fate: Fate
    operator: str
    name: str
    told: str
    anchor: str


@frozen
class Picture:
    """A drawing.

    Attributes:
        measure: How large things are.
        width: Its width.
        height: Its height.
        cards: The operators.
        lines: What flows, as the data of one path.
        arrows: Where something went, as the data of paths.
        left_out: How many operators are not drawn.
    """

    measure: Measure
    width: float
    height: float
    cards: tuple[Card, ...]
    lines: str
    arrows: tuple[str, ...]
    left_out: int = 0

    @property
    def has_text(self) -> bool:
        """Whether the cards are large enough to be read."""
        return self.measure is CARDS


class Drawer:
    """Draws a network, as a whole and around each fold."""

    def __init__(self, network: Network, prefix: str) -> None:
        self._network = network
        self._anchors: dict[int, str] = {}
        self._fates: dict[int, Fate] = {}
        for number, fold in enumerate(network.folds, 1):
            gone = [node for node in fold.taken if node not in fold.into]
            self._mark(fold.through, Fate.THROUGH, f"{prefix}-fold-{number}")
            self._mark(fold.into, Fate.INTO, f"{prefix}-fold-{number}")
            self._mark(gone, Fate.GONE, f"{prefix}-fold-{number}")
        for number, kept in enumerate(network.kept, 1):
            self._mark(kept, Fate.KEPT, f"{prefix}-kept-{number}")
        self._readers: dict[int, list[int]] = defaultdict(list)
        self._makers: dict[int, list[int]] = defaultdict(list)
        for one, other in network.edges:
            self._readers[one].append(other)
            self._makers[other].append(one)

    def _mark(self, nodes: Iterable[int], fate: Fate, anchor: str) -> None:
        for node in nodes:
            if _TELLING.index(self._fates.get(node, Fate.SAME)) < _TELLING.index(fate):
                self._fates[node], self._anchors[node] = fate, anchor

    def whole(self) -> Picture:
        """Draw all of it."""
        nodes = range(len(self._network.nodes))
        measure = CARDS if len(nodes) <= _CARDS else DOTS
        return self._drawn(nodes, range(len(self._network.folds)), measure)

    def around(self, number: int) -> Picture:
        """Draw a fold, by its place in the list, with what is beside it."""
        fold = self._network.folds[number]
        core = list(dict.fromkeys((*fold.taken, *fold.into, *fold.through)))
        drawn = core[:_CORE]
        beside = (n for node in drawn for n in (*self._makers[node], *self._readers[node]))
        around = [node for node in dict.fromkeys(beside) if node not in core][:_NEIGHBOURS]
        left_out = len(core) - len(drawn)
        return self._drawn(sorted({*drawn, *around}), [number], CARDS, left_out)

    def _drawn(
        self, nodes: Sequence[int], folds: Iterable[int], measure: Measure, left_out: int = 0
    ) -> Picture:
        shown = set(nodes)
        edges = [(node, after) for node in nodes for after in self._readers[node] if after in shown]
        layout = lay_out(nodes, edges)
        pen = _Pen(measure, layout)
        went = (pair for number in folds for pair in _went(self._network.folds[number]))
        arrows = tuple(pen.arrow(*pair) for pair in went if shown.issuperset(pair))
        return Picture(
            measure,
            pen.width,
            pen.height,
            tuple(self._card(node, *pen.corner(node)) for node in nodes),
            "".join(map(pen.line, layout.lines)),
            arrows,
            left_out,
        )

    def _card(self, number: int, x: float, y: float) -> Card:
        node = self._network.nodes[number]
        fate = self._fates.get(number, Fate.SAME)
        spoken = f": {_SPOKEN[fate]}" if _SPOKEN[fate] else ""
        return Card(
            x,
            y,
            fate,
            _cut(node.op_type, _OPERATOR, at_end=True),
            _cut(node.name or node.output, _NAME, at_end=False),
            f"{node}{spoken}",
            self._anchors.get(number, ""),
        )


def _went(fold: FoldPlace) -> Iterator[tuple[int, int]]:
    """Yield from where to where an arrow leads."""
    for node in fold.taken:
        if node not in fold.into:
            yield from ((node, other) for other in fold.into)


def _cut(text: str, longest: int, *, at_end: bool) -> str:
    """Return a text that is short enough to be written on a card."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 1]}…" if at_end else f"…{text[1 - longest :]}"


class _Pen:
    """Turns places of a layout into pixels and paths."""

    def __init__(self, measure: Measure, layout: Layout) -> None:
        self._measure, self._layout = measure, layout
        self.width = (layout.columns - 1) * measure.column + measure.width + 2 * measure.margin
        self.height = (layout.rows - 1) * measure.row + measure.height + 2 * measure.margin

    def corner(self, node: int) -> Point:
        """Return the upper left corner of a card."""
        return self._corner(self._layout.at[node])

    def _corner(self, place: Point) -> Point:
        measure, (column, row) = self._measure, place
        x, y = column * measure.column + measure.margin, row * measure.row + measure.margin
        return round(x, 1), round(y, 1)

    def line(self, places: Sequence[Point]) -> str:
        """Return the path of a line that leads through places, from a card to a card."""
        measure = self._measure
        corners = [self._corner(place) for place in places]
        ends = [(x, x + measure.width, y + measure.height / 2) for x, y in corners]
        (_, behind, above), *rest = ends
        path = [f"M{behind:g} {above:g}"]
        for left, right, y in rest:
            middle = (behind + left) / 2
            path.append(f"C{middle:g} {above:g} {middle:g} {y:g} {left:g} {y:g}H{right:g}")
            behind, above = right, y
        return "".join(path).rpartition("H")[0]

    def arrow(self, one: int, other: int) -> str:
        """Return the path of an arrow over the cards, from one to another."""
        measure = self._measure
        (x1, y1), (x2, y2) = self.corner(one), self.corner(other)
        step = 0.2 * measure.width * (1 if x2 > x1 else -1)
        x1, x2 = x1 + measure.width / 2 + step, x2 + measure.width / 2 - step
        top = max(min(y1, y2) - measure.rise, 2)
        return f"M{x1:g} {y1:g}C{x1:g} {top:g} {x2:g} {top:g} {x2:g} {y2 - 2:g}"
