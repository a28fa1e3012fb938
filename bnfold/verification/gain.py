"""What was gained: the nodes that ONNX Runtime executes before and after, and how long it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from bnfold.frozen import sealed
from bnfold.plain import Plain, fields_of

FUSED: Final = (
    ("Gelu", "BiasGelu", "FastGelu", "QuickGelu"),
    ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"),
    ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    ("Attention", "MultiHeadAttention"),
)
"""Operators that ONNX Runtime puts in the place of several nodes, by what they do."""


_NOTHING: Final = 2e-5
"""Seconds."""
_PRECISE: Final = 0.02
"""The part of a time by which the runs of a precise timing differ."""


@sealed
class Times(Plain):
    """How long a run takes, in seconds.

    Attributes:
        median: Half of the runs took longer.
        low: A quarter of them took less.
        high: A quarter of them took more.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Return the times of at least two runs."""
        from statistics import quantiles  # it takes longer to import than all else here

        low, median, high = quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high)


@sealed
class Timing(Plain):
    """How long runs of both models take that were made in turn.

    Attributes:
        runs: How many runs of each.
        before: The original's.
        after: The candidate's.
    """

    runs: int
    before: Times
    after: Times

    @property
    def verdict(self) -> str:
        """Whether the candidate is faster or slower; neither where a spread covers the difference.

        A few microseconds say nothing, however often they are measured: where a session's memory
        happens to lie makes as much of a difference, and stays the same from run to run.
        """
        if self._difference < max(self._spread, _NOTHING):
            return "no difference"
        if self.after.high < self.before.low:
            return "faster"
        return "slower" if self.before.high < self.after.low else "no difference"

    @property
    def claim(self) -> str:
        """The verdict for readers who see the times, and might take a few microseconds for more."""
        few = self._spread < self._difference < _NOTHING
        return "too few µs to tell" if few else self.verdict

    @property
    def is_precise(self) -> bool:
        """Whether the runs of either model took so much the same time that more tell no more."""
        return self._spread < _PRECISE * min(self.before.median, self.after.median)

    @property
    def _difference(self) -> float:
        return abs(self.after.median - self.before.median)

    @property
    def _spread(self) -> float:
        return max((times.high - times.low) / 2 for times in (self.before, self.after))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data, with the verdict."""
        return {**fields_of(self), "verdict": self.verdict}


@sealed
class Executed(Plain):
    """What ONNX Runtime executes of both models at one optimization level.

    Attributes:
        level: ORT_DISABLE_ALL or ORT_ENABLE_ALL.
        before: Nodes of the original in one run, by operator; a node in a loop counts each time.
        after: Those of the candidate.
        timing: How long a run takes; None where it was not measured.
    """

    level: str
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    timing: Timing | None = None

    @property
    def nodes(self) -> tuple[int, int]:
        """How many nodes are executed, before and after."""
        return sum(self.before.values()), sum(self.after.values())

    @property
    def grown(self) -> dict[str, tuple[int, int]]:
        """The operators that are executed more often after, where that is so in all."""
        before, after = self.nodes
        names = sorted(self.after) if after > before else []
        pairs = {name: (self.before.get(name, 0), self.after[name]) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}

    @property
    def lost(self) -> dict[str, tuple[int, int]]:
        """The fused operators of which fewer are executed, and none of their kind instead."""
        found = {}
        for kind in FUSED:
            totals = [sum(side.get(name, 0) for name in kind) for side in (self.before, self.after)]
            if totals[1] >= totals[0]:
                continue
            for name in kind:
                pair = (self.before.get(name, 0), self.after.get(name, 0))
                if pair[1] < pair[0]:
                    found[name] = pair
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        before, after = self.nodes
        return {
            "level": self.level,
            "before": {"nodes": before, "by_operator": dict(self.before)},
            "after": {"nodes": after, "by_operator": dict(self.after)},
            "lost": {name: list(pair) for name, pair in self.lost.items()},
            "timing": None if self.timing is None else self.timing.to_dict(),
        }
