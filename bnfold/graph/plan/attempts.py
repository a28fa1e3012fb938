"""What the search tries, and where each attempt ends, for whoever asks.

Planning tells a *tracer* when an attempt begins, what a node does in it and how it ends. `SILENT`
takes no note of that. A `Recorder` keeps the attempts for the runs that hold one node.
"""

from dataclasses import dataclass, field
from enum import Enum

from bnfold.frozen import frozen
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.run import Run
from bnfold.reasons import Obstacle


class Did(Enum):
    """What a node does in an attempt; the value is the code in reports."""

    PASSED_UP = "passes-up"  # its output changes, so its inputs do
    PASSED_DOWN = "passes-down"  # its inputs change, so its outputs do
    ABSORBED = "absorbs"  # a linear operator, or the parameters of a normalization
    MERGED = "merges"  # a node of another run, which takes it up
    REMOVED = "goes-too"  # a node of another run, which begins with the same affine
    RECOMPUTED = "recomputes"  # a constant that it reads becomes another
    RESTATED = "restates"  # the numbers that it states itself become others
    SHAPE_ONLY = "shape-only"  # its outputs depend on no numbers
    FORKED = "forks"  # the affine can move on in several ways; one is taken


@frozen
class Step:
    """What a node does in an attempt.

    Attributes:
        node: The node.
        did: What it does.
        detail: Which way is taken, at a fork.
    """

    node: int
    did: Did
    detail: str = ""


@dataclass(slots=True)
class Attempt:
    """One attempt to fold nodes of a run.

    Attributes:
        how: Up, down, or to drop them.
        nodes: The nodes of the run that would go.
        is_scale: Whether only their scale would go, and their shift would stay.
        steps: What other nodes do, in the order in which they are asked.
        obstacle: Where it ends; None where it succeeds.
    """

    how: How
    nodes: tuple[int, ...]
    is_scale: bool = False
    steps: list[Step] = field(default_factory=list)
    obstacle: Obstacle | None = None


class Tracer:
    """Gets to know what planning tries, and notes nothing."""

    def begin(self, run: Run, span: tuple[int, int], how: How, *, is_scale: bool) -> None:
        """Begin an attempt to fold nodes of a run, from and to."""

    def step(self, node: int, did: Did, detail: str = "") -> None:
        """Note what a node does."""

    def end(self, obstacle: Obstacle | None = None) -> None:
        """End the attempt: with what stands in the way, or with success."""


SILENT = Tracer()


class Recorder(Tracer):
    """Keeps the attempts for the runs that hold one node.

    Attributes:
        attempts: They, in order.
    """

    def __init__(self, node: int) -> None:
        self.attempts: list[Attempt] = []
        self._node = node
        self._current: Attempt | None = None

    def begin(self, run: Run, span: tuple[int, int], how: How, *, is_scale: bool) -> None:
        """Begin an attempt; whether it is kept depends on whose it is."""
        if self._node in run.nodes:
            self._current = Attempt(how, tuple(run.nodes[slice(*span)]), is_scale)

    def step(self, node: int, did: Did, detail: str = "") -> None:
        """Keep what a node does; that the run itself goes too is not worth a word."""
        if self._current is not None and node not in self._current.nodes:
            self._current.steps.append(Step(node, did, detail))

    def end(self, obstacle: Obstacle | None = None) -> None:
        """Keep how the attempt ends."""
        if self._current is not None:
            self._current.obstacle = obstacle
            self.attempts.append(self._current)
            self._current = None
