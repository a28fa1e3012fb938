"""A run: a chain of affine nodes that is folded as one, or as much of it as can be."""

from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import reduce

import numpy as np

from bnfold.frozen import slotted
from bnfold.reasons import Obstacle, Refusal
from bnfold.rules.affine import Affine

_SHORT = 8
"""Nodes of a run of which it is kept what the first of them come to, for each number of them."""


@slotted
class Run:
    """A chain of affine nodes in which each node is the only reader of the one before it.

    Together they are one channel affine, which varies along at most one axis. What other runs
    pass on to this one is composed with it, before its first node or after its last.

    Attributes:
        number: The place of the run in `Draft.runs`.
        nodes: The nodes that have not been folded, in order.
        steps: The affine of each of these nodes.
        before: The affine that a run above has passed on to this one, or None.
        after: The affine that a run below has passed on to this one, or None.
        above: Why the run could not be folded upwards.
        below: Why the run could not be folded downwards.
        respelled: Whether `steps` differ from the operators of the nodes: after `respell` the first
            node will be rewritten to a Mul and the second to an Add.
    """

    number: int
    nodes: list[int]
    steps: list[Affine]
    before: Affine | None = None
    after: Affine | None = None
    above: Obstacle | None = None
    below: Obstacle | None = None
    respelled: bool = False
    _made_of: tuple[Affine | None, ...] = field(default=(), init=False)
    _prefixes: tuple[Affine, ...] = field(default=(), init=False)

    @property
    def is_merged(self) -> bool:
        """Whether its nodes must be rewritten, because the run is not what they compute now."""
        return self.respelled or self.before is not None or self.after is not None

    @property
    def is_respelled(self) -> bool:
        """Whether its nodes will be a Mul and an Add, and nothing has been added to it since."""
        return self.respelled and self.before is None and self.after is None

    def respell(self) -> None:
        """Make the first node the whole scale, the second the whole shift, others identities."""
        total = self.total
        rest = [Affine.identity(total.rank)] * (len(self.nodes) - 2)
        shift = Affine.of(np.ones_like(total.scale), total.shift)
        self.steps = [total.scale_only(), shift, *rest]
        self.before = self.after = None
        self.respelled = True

    def become(self, affine: Affine) -> None:
        """Make the first node the whole of an affine, others identities."""
        rest = [Affine.identity(affine.rank)] * (len(self.nodes) - 1)
        self.steps = [affine, *rest]
        self.before = self.after = None
        self.respelled = True

    def plain_steps(self) -> list[Affine]:
        """Return one affine for each node; the first includes `before`, the last `after`."""
        return [self.prefix(1), *self.steps[1:-1], self.suffix(len(self.steps) - 1)][
            : len(self.steps)
        ]

    def prefix(self, count: int) -> Affine:
        """Return the affine of the first `count` nodes together."""
        if count > 0 and len(self.steps) <= _SHORT:
            return self.prefixes()[count - 1]
        return self._composed(self.before, self.steps[:count], self._after_if(count))

    def prefixes(self) -> Sequence[Affine]:
        """Return the affine of the first node, of the first two together, and so on."""
        if len(self.steps) > _SHORT:
            return tuple(self._composed_in_turn())
        made_of = (self.before, *self.steps, self.after)
        if self._made_of != made_of:  # many searches ask without anything having changed
            self._made_of, self._prefixes = made_of, tuple(self._composed_in_turn())
        return self._prefixes

    def _composed_in_turn(self) -> Iterator[Affine]:
        result = self.before
        for count, step in enumerate(self.steps, start=1):
            result = step if result is None else result.then(step)
            after = self._after_if(count)
            yield result if after is None else result.then(after)

    def suffix(self, start: int) -> Affine:
        """Return the affine of the nodes from `start` on together."""
        before = self.before if start == 0 else None
        return self._composed(before, self.steps[start:], self.after)

    @property
    def total(self) -> Affine:
        """The affine of the whole run."""
        return self.prefix(len(self.nodes))

    def _after_if(self, count: int) -> Affine | None:
        return self.after if count == len(self.nodes) else None

    def _composed(self, before: Affine | None, steps: list[Affine], after: Affine | None) -> Affine:
        affines = [a for a in (before, *steps, after) if a is not None]
        if not affines:
            return Affine.identity(self.steps[0].rank)
        return reduce(Affine.then, affines)


def can_follow(first: Affine, second: Affine) -> bool:
    """Whether two affines, one after the other, make an affine along at most one axis."""
    try:
        return first.rank == second.rank and len(first.then(second).axes) <= 1
    except Refusal:  # it would be too large
        return False
