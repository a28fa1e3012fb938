"""Between which numbers the output of an operator lies."""

import math
from collections.abc import Callable, Iterator

import onnx

from bnfold.frozen import frozen
from bnfold.verification.operators.node import Opsets, opset_of

Range = tuple[float, float]
"""The least and the largest number that a tensor may hold."""
Rule = Callable[[Iterator[Range]], Range]
"""Returns the range of an output, from those of the inputs in their order."""

ANY: Range = (-math.inf, math.inf)
FROM_ZERO: Range = (0.0, math.inf)

_CLIP_INPUTS = 11
"""From this version on the bounds of a Clip are inputs."""


def of_first(entering: Iterator[Range]) -> Range:
    """Return the range of what makes nothing but numbers of its first input."""
    return next(entering)


def of_all(entering: Iterator[Range]) -> Range:
    """Return the range of what makes nothing but numbers of its inputs."""
    lows, highs = zip(*entering, strict=True)
    return min(lows), max(highs)


def not_negative_as_first(entering: Iterator[Range]) -> Range:
    """Return the range of what adds up or averages the elements of its first input."""
    return FROM_ZERO if next(entering)[0] >= 0 else ANY


def not_negative_as_all(entering: Iterator[Range]) -> Range:
    """Return the range of what adds up or multiplies its inputs."""
    return FROM_ZERO if all(least >= 0 for least, _ in entering) else ANY


@frozen
class Clamp:
    """What keeps a tensor between constant bounds.

    Attributes:
        operand: The tensor.
        low: The lower bound; None where there is none. Either is a constant's name or a number.
        high: The upper bound.
    """

    operand: str
    low: str | float | None = None
    high: str | float | None = None


Clamping = Callable[[onnx.NodeProto, Opsets, Callable[[str], bool]], Clamp | None]
"""Returns what a node bounds, given what tells constants; None where it does something else."""


def above_zero(node: onnx.NodeProto, _: Opsets, __: Callable[[str], bool]) -> Clamp:
    """Relu."""
    return Clamp(node.input[0], low=0.0)


def above_a_constant(
    node: onnx.NodeProto, _: Opsets, is_constant: Callable[[str], bool]
) -> Clamp | None:
    """Max of a tensor and a constant."""
    operand, bound = _operand_and_constant(node, is_constant)
    return Clamp(operand, low=bound) if bound else None


def below_a_constant(
    node: onnx.NodeProto, _: Opsets, is_constant: Callable[[str], bool]
) -> Clamp | None:
    """Min of a tensor and a constant."""
    operand, bound = _operand_and_constant(node, is_constant)
    return Clamp(operand, high=bound) if bound else None


def _operand_and_constant(
    node: onnx.NodeProto, is_constant: Callable[[str], bool]
) -> tuple[str, str]:
    """Return the two operands of a node, the constant last; nothing where it has not such two."""
    operands = sorted(node.input, key=is_constant)
    unlike = len(operands) == 2 and [*map(is_constant, operands)] == [False, True]  # noqa: PLR2004
    return (operands[0], operands[1]) if unlike else ("", "")


def between_bounds(
    node: onnx.NodeProto, opsets: Opsets, is_constant: Callable[[str], bool]
) -> Clamp | None:
    """Clip between constants."""
    if opset_of(node, opsets) < _CLIP_INPUTS:
        stated = {a.name: a.f for a in node.attribute}
        return Clamp(node.input[0], stated.get("min"), stated.get("max"))
    low, high = [*node.input[1:3], "", ""][:2]
    if all(is_constant(bound) for bound in (low, high) if bound):
        return Clamp(node.input[0], low or None, high or None)
    return None
