"""Where the function of an operator bends: what is compared with what in it."""

from collections.abc import Callable, Iterator

import onnx

from bnfold.verification.operators.node import Attributes

Point = tuple[str, str | float]
"""A tensor, and another one or a number that it is compared with."""
Bend = tuple[tuple[object, ...], Point | None]
"""What identifies it, whatever the tensors are called, and where it is; None where no run tells."""
Identify = Callable[[str], object]
"""Returns what identifies a constant; None for what is none."""
Rule = Callable[[onnx.NodeProto, Attributes, Identify], Iterator[Bend]]
"""Yields where a node of an operator bends."""


def at_zero(node: onnx.NodeProto, stated: Attributes, _: Identify) -> Iterator[Bend]:
    """Two slopes meet at 0."""
    yield _kind(node, stated), (node.input[0], 0.0)


def at_alpha(node: onnx.NodeProto, stated: Attributes, _: Identify) -> Iterator[Bend]:
    """ThresholdedRelu: what is not above α becomes 0."""
    yield _kind(node, stated), (node.input[0], stated.get("alpha", 1.0))


def among_operands(node: onnx.NodeProto, stated: Attributes, _: Identify) -> Iterator[Bend]:
    """Whether the first operand exceeds another one counts."""
    for other in node.input[1:]:
        yield _kind(node, stated), (node.input[0], other)


def hard(alpha: float, beta: float) -> Rule:
    """Return the rule of a hard sigmoid, α x + β between 0 and 1, with these by default."""

    def rule(node: onnx.NodeProto, stated: Attributes, _: Identify) -> Iterator[Bend]:
        slope, offset = stated.get("alpha", alpha), stated.get("beta", beta)
        if slope:
            width = float(f"{1 / abs(slope):.6g}")
            for level in (0, 1):
                yield ("hard", width), (node.input[0], (level - offset) / slope)

    return rule


def where_compared(node: onnx.NodeProto, _: Attributes, identify: Identify) -> Iterator[Bend]:
    """Two operands are compared, or one with what is not finite."""
    yield (node.op_type, *map(identify, node.input)), (node.output[0], 0.5)


def as_greater(*, turned: bool) -> Rule:
    """Return the rule of a comparison that Greater can tell, its operands `turned` or not.

    a > b is b < a, and not a ≤ b.
    """

    def rule(node: onnx.NodeProto, _: Attributes, identify: Identify) -> Iterator[Bend]:
        operands = node.input[::-1] if turned else node.input
        yield ("Greater", *map(identify, operands)), (node.output[0], 0.5)

    return rule


def where_chosen(node: onnx.NodeProto, _: Attributes, __: Identify) -> Iterator[Bend]:
    """The first input chooses."""
    yield (node.op_type,), (node.input[0], 0.5)


def seldom(node: onnx.NodeProto, _: Attributes, __: Identify) -> Iterator[Bend]:
    """Numbers halfway and a middle, of which the ends of what enters show nothing."""
    yield (node.op_type,), None


def _kind(node: onnx.NodeProto, stated: Attributes) -> tuple[object, ...]:
    return (node.op_type, *(v for _, v in sorted(stated.items()) if isinstance(v, float | int)))
