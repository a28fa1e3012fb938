"""How affines pass through a node: what a row of the CARRY table is, and what it answers.

Here are the rows of nodes with one data input, and of those that join or split tensors; the rows of
nodes that combine branches are in `branching`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules import selecting
from bnfold.rules.affine import Affine
from bnfold.rules.operator import Operator


@frozen
class Passage:
    """What a row answers.

    Attributes:
        inputs: The affine that each input becomes; others do not change.
        outputs: The affine that each output becomes; others do not change.
        stated: The affine of the numbers that the node states itself, a Pad's value, or None.
    """

    inputs: Mapping[int, Affine] = field(default_factory=dict)
    outputs: Mapping[int, Affine] = field(default_factory=dict)
    stated: Affine | None = None


class CarryRow(Protocol):
    """One row of the table."""

    @property
    def takes_shift(self) -> Callable[[Iterable[bool]], bool]:
        """Whether a shift can pass upwards, given which inputs could take one.

        It decides what is tried first, not what is done.
        """

    @property
    def every_input(self) -> bool:
        """Whether affines pass through every input, or through the first alone."""

    @property
    def says(self) -> str:
        """What passes, in a few words."""

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return the ways that `up` can take; one or none if it has no alternative.

        If affines pass through every input, a way is the index of an input.
        """

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Return the affines on the inputs that appear as `affine` on the output `output`."""

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Return the affines on the outputs as which `affines` on the inputs appear."""


class OneWay:
    """A row that has one way upwards."""

    __slots__ = ()

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return nothing: there is no alternative."""
        del op, affine
        return ()


Move = Callable[[Operator, Affine], Affine]
"""Returns the affine on the other side of a node."""


def never(_: Iterable[bool]) -> bool:
    """Say that no shift passes, whatever the inputs could take."""
    return False


@frozen
class Single:
    """A node with one data input and one data output."""

    move_up: Move
    move_down: Move
    says: str = "any affine, moved as the elements are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    stated: Callable[[Operator, Affine], Affine | None] = lambda *_: None
    alone_up: Move | None = None
    every_input: bool = False

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return two ways if the node leaves elements out: they take the affine too, or do not."""
        del op, affine
        return (0,) if self.alone_up is None else (0, 1)

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Move the affine from the output to the input."""
        if output:
            raise Refusal(Reason.NOT_LINEAR, f"output {output}")
        move = self.alone_up if way and self.alone_up is not None else self.move_up
        return Passage(inputs={0: move(op, affine)}, stated=self.stated(op, affine))

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Move the affine from the input to the output."""
        moved = self.move_down(op, _only(op, affines))
        return Passage(outputs={0: moved}, stated=self.stated(op, moved))


def _only(op: Operator, affines: Mapping[int, Affine]) -> Affine:
    if set(affines) != {0}:
        raise Refusal(Reason.NOT_LINEAR, f"{op.op_type} reads it as a parameter")
    return affines[0]


@frozen
class Concatenation(OneWay):
    """Concat: each input has its own slice of the affine along the axis."""

    says: str = "any affine, cut and joined as the tensors are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    every_input: bool = True

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Cut the affine as the output is cut."""
        del output, way
        axis = op.integer("axis", 1) % affine.rank
        return Passage(inputs=selecting.cut(affine, axis, op.inputs))

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Join the inputs' affines."""
        axis = op.integer("axis", 1) % op.required(0).rank
        return Passage(outputs={0: selecting.joined(affines, axis, op.inputs)})


@frozen
class Splitting(OneWay):
    """Split: each output has its own slice of the affine along the axis."""

    says: str = "any affine, cut and joined as the tensors are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    every_input: bool = False

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Spread one output's affine over its slice of the input."""
        del way
        axis = op.integer("axis", 0) % affine.rank
        return Passage(inputs={0: selecting.joined({output: affine}, axis, op.outputs)})

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Cut the affine as the input is cut."""
        affine = _only(op, affines)
        axis = op.integer("axis", 0) % affine.rank
        return Passage(outputs=selecting.cut(affine, axis, op.outputs))


@frozen
class Blind(OneWay):
    """Shape, Size, and CastLike's second input: what no affine changes.

    Attributes:
        reads: The index of the input of which no numbers are read.
    """

    reads: int = 0
    says: str = "its result does not depend on the numbers"
    takes_shift: Callable[[Iterable[bool]], bool] = never
    every_input: bool = False

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Refuse: its output holds no values of the input."""
        del op, output, affine, way
        raise Refusal(Reason.NOT_LINEAR)

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Return nothing: no affine on the input changes the output."""
        if set(affines) != {self.reads}:
            raise Refusal(Reason.NOT_LINEAR, f"{op.op_type} reads its numbers")
        return Passage()
