"""One strategy for each row of the AFFINE table: a random node that is a channel affine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from building import AFFINE as STEM

if TYPE_CHECKING:
    from building import Network
    from evaluation import Array


@dataclass(frozen=True)
class Limits:
    """What an affine may be.

    Attributes:
        axis: The axis along which it may vary; None for none.
        positive: Whether its scale must be above zero.
        shiftless: Whether it must add nothing.
        uniform: Whether it must not vary.
        scaleless: Whether it must multiply nothing.
    """

    axis: int | None
    positive: bool = False
    shiftless: bool = False
    uniform: bool = False
    scaleless: bool = False


AffineStrategy = Callable[["Network", str, Limits], str | None]
"""Adds a node behind a tensor and returns its output, or None where the limits do not let it."""


def normalization(net: Network, tensor: str, limits: Limits) -> str | None:
    shape = net.shape(tensor)
    if len(shape) < 2 or limits.axis not in (1, None) or limits.scaleless:
        return None
    channels = shape[1]
    varies = limits.axis == 1 and not limits.uniform
    count = channels if varies else 1
    dice = net.dice
    gamma = dice.factors([count], positive=limits.positive)
    beta, mean = (np.zeros(count) if limits.shiftless else dice.numbers([count]) for _ in range(2))
    parameters = [gamma, beta, mean, dice.numbers([count], 0.25, 4.0)]
    wide = [np.broadcast_to(p, (channels,)) for p in parameters]
    names = [
        net.constant(p, s) for p, s in zip(wide, ["gamma", "beta", "mean", "var"], strict=True)
    ]
    attributes = {"epsilon": 0.125} if dice.chance(0.5) else {}
    return net.op("BatchNormalization", tensor, *names, stem=STEM, **attributes)


def _operand(
    net: Network, tensor: str, limits: Limits, values: Callable[[list[int]], Array]
) -> str:
    """A constant laid along the channels of a tensor, in one of the shapes that broadcast so."""
    shape, dice = net.shape(tensor), net.dice
    rank = len(shape)
    laid = [1] * rank
    if limits.axis is not None and not limits.uniform and dice.chance(0.8):
        laid[limits.axis] = shape[limits.axis]
    numbers = values(laid)
    first = next((i for i, size in enumerate(laid) if size > 1), rank)
    return net.constant(numbers.reshape(numbers.shape[dice.integer(0, first) :]), "operand")


def _either_order(net: Network, op_type: str, tensor: str, operand: str) -> str:
    order = [tensor, operand] if net.dice.chance(0.6) else [operand, tensor]
    return net.op(op_type, *order, stem=STEM)


def multiplication(net: Network, tensor: str, limits: Limits) -> str | None:
    if limits.scaleless:
        return None
    operand = _operand(net, tensor, limits, lambda s: net.dice.factors(s, positive=limits.positive))
    return _either_order(net, "Mul", tensor, operand)


def addition(net: Network, tensor: str, limits: Limits) -> str | None:
    if limits.shiftless:
        return None
    return _either_order(net, "Add", tensor, _operand(net, tensor, limits, net.dice.numbers))


def subtraction(net: Network, tensor: str, limits: Limits) -> str | None:
    if limits.shiftless:
        return None
    operand = _operand(net, tensor, limits, net.dice.numbers)
    if limits.positive or limits.scaleless:
        return net.op("Sub", tensor, operand, stem=STEM)
    return _either_order(net, "Sub", tensor, operand)


def division(net: Network, tensor: str, limits: Limits) -> str | None:
    if limits.scaleless:
        return None
    operand = _operand(net, tensor, limits, lambda s: net.dice.factors(s, positive=limits.positive))
    return net.op("Div", tensor, operand, stem=STEM)


def negation(net: Network, tensor: str, limits: Limits) -> str | None:
    if limits.positive or limits.scaleless:
        return None
    return net.op("Neg", tensor, stem=STEM)


def identity(net: Network, tensor: str, limits: Limits) -> str | None:
    del limits
    return net.op("Identity", tensor)


def dropout(net: Network, tensor: str, limits: Limits) -> str | None:
    del limits
    return net.op("Dropout", tensor)


STRATEGIES: Mapping[str, AffineStrategy] = {
    "BatchNormalization": normalization,
    "Mul": multiplication,
    "Add": addition,
    "Sub": subtraction,
    "Div": division,
    "Neg": negation,
    "Identity": identity,
    "Dropout": dropout,
}


def any_affines(net: Network, tensor: str, limits: Limits) -> str:
    """A chain of one to three affine nodes, a normalization among them where there can be one."""
    nodes = list(STRATEGIES.values())
    chosen = net.dice.some(nodes[1:])[:2]
    chosen.insert(net.dice.integer(0, len(chosen)), normalization)
    made = tensor
    for strategy in chosen:
        made = strategy(net, made, limits) or made
    if made == tensor:
        made = multiplication(net, tensor, limits) or addition(net, tensor, limits) or tensor
    return made
