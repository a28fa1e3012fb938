"""What the strategies of the rule tables speak of: a site in a network, a step from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dice import Dice
    from evaluation import Array

Shape = tuple[int, ...]


class Unsuited(Exception):  # noqa: N818 - an answer, not an error
    """A strategy's answer that it can do nothing with a site."""


@dataclass(frozen=True)
class Site:
    """A tensor to go on from.

    Attributes:
        dice: Where choices come from.
        opset: The version of ONNX's operators.
        shape: The tensor's shape.
        axis: The axis of its channels.
    """

    dice: Dice
    opset: int
    shape: Shape
    axis: int

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def others(self) -> list[int]:
        """The axes but that of the channels."""
        return [axis for axis in range(self.rank) if axis != self.axis]

    def need(self, condition: object) -> None:
        """Give up where something does not hold."""
        if not condition:
            raise Unsuited

    def signed(self, axis: int) -> int:
        """An axis counted from the front or from the back."""
        return (
            axis if self.opset < _NEGATIVE_AXES_OPSET or self.dice.chance(0.5) else axis - self.rank
        )


_NEGATIVE_AXES_OPSET = 13


@dataclass(frozen=True)
class Step:
    """A node of an operator of the CARRY table, and what should pass it.

    Attributes:
        op_type: The operator.
        attributes: Its attributes.
        parameters: Its constant inputs, behind the data inputs; None where left out.
        more: The shapes of further data inputs; each has its channels as far from its last axis
            as the site has.
        outputs: The number of its outputs.
        axis: The axis of the channels on its outputs; None where they are no longer apart.
        positive: Whether only positive scales pass.
        shiftless: Whether no shift passes.
        uniform: Whether only what is equal for all channels passes.
        uniform_up: Whether that is so for what sinks.
        uniform_down: Whether that is so for what is hoisted.
        one_arm: Whether only one of several inputs may take the affine.
        up: Whether affines behind it should sink through it.
        down: Whether affines before it should be hoisted through it.
    """

    op_type: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Array | None, ...] = ()
    more: tuple[Shape, ...] = ()
    outputs: int = 1
    axis: int | None = 1
    positive: bool = False
    shiftless: bool = False
    uniform: bool = False
    uniform_up: bool = False
    uniform_down: bool = False
    one_arm: bool = False
    up: bool = True
    down: bool = True
