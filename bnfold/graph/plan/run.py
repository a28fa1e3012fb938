"""A run: a chain of affine nodes that goes as one, or as much of it as can."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from bnfold.reasons import Obstacle, Refusal
from bnfold.rules.affine import Affine


@dataclass(slots=True, eq=False)
class Run:
    """A chain of affine nodes, each the only reader of the one before.

    Together they are a channel affine too: they vary along one axis.

    Attributes:
        number: Its number.
        nodes: The nodes that are left of it, in order.
        steps: What each of them is.
        before: What was merged in from above.
        after: What was merged in from below.
        above: Why it could not go up.
        below: Why it could not go down.
        respelled: Whether the steps are no longer what the nodes say.
    """

    number: int
    nodes: list[int]
    steps: list[Affine]
    before: Affine | None = None
    after: Affine | None = None
    above: Obstacle | None = None
    below: Obstacle | None = None
    respelled: bool = False

    @property
    def is_merged(self) -> bool:
        """Whether it holds more than its nodes say."""
        return self.respelled or self.before is not None or self.after is not None

    @property
    def is_respelled(self) -> bool:
        """Whether it has been put into the form of a Mul and an Add, and is still in it."""
        return self.respelled and self.before is None and self.after is None

    def respell(self) -> None:
        """Let the first node be the whole scale, the second the whole shift, the rest nothing."""
        total = self.total
        rest = [Affine.identity(total.rank)] * (len(self.nodes) - 2)
        shift = Affine.of(np.ones_like(total.scale), total.shift)
        self.steps = [total.scale_only(), shift, *rest]
        self.before = self.after = None
        self.respelled = True

    def plain_steps(self) -> list[Affine]:
        """Return the steps, with what was merged in put into the first and the last."""
        return [self.prefix(1), *self.steps[1:-1], self.suffix(len(self.steps) - 1)][
            : len(self.steps)
        ]

    def prefix(self, count: int) -> Affine:
        """Return what the first `count` nodes are together."""
        return self._composed(self.before, self.steps[:count], self._after_if(count))

    def prefixes(self) -> Iterator[Affine]:
        """Yield what the first node is, the first two are together, and so on."""
        result = self.before
        for count, step in enumerate(self.steps, start=1):
            result = step if result is None else result.then(step)
            after = self._after_if(count)
            yield result if after is None else result.then(after)

    def suffix(self, start: int) -> Affine:
        """Return what the nodes from `start` on are together."""
        before = self.before if start == 0 else None
        return self._composed(before, self.steps[start:], self.after)

    @property
    def total(self) -> Affine:
        """What the whole run is."""
        return self.prefix(len(self.nodes))

    def _after_if(self, count: int) -> Affine | None:
        return self.after if count == len(self.nodes) else None

    def _composed(self, before: Affine | None, steps: list[Affine], after: Affine | None) -> Affine:
        affines = [a for a in (before, *steps, after) if a is not None]
        if not affines:
            return Affine.identity(self.steps[0].rank)
        return reduce(Affine.then, affines)


def can_follow(first: Affine, second: Affine) -> bool:
    """Whether two affines, one after the other, are a channel affine."""
    try:
        return first.rank == second.rank and len(first.then(second).axes) <= 1
    except Refusal:  # it would be too large
        return False
