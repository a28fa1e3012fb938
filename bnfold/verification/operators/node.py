"""What is asked of a node before anything is computed, and the errors of computing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array

Opsets = Mapping[str, int]
"""Versions of the operator sets by domain."""
Inputs = Sequence[Array | None]
"""A node's inputs, in order; None for one that is left out."""
Attributes = Mapping[str, Any]
"""What a node states, by name."""


@frozen
class Call:
    """A node that is to be computed.

    Attributes:
        inputs: Its inputs.
        attributes: What it states.
        opset: The version of its operator set.
        outputs: How many of its outputs have a name.
    """

    inputs: Inputs
    attributes: Attributes
    opset: int
    outputs: int = 1


class EvaluationError(Exception):
    """A node cannot be computed: the operator is unknown here, or the shapes do not fit."""


class UnsupportedError(EvaluationError):
    """A node is beyond what can be computed or proved here, whatever the shapes."""


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name; references to a function's attributes are refused."""
    made: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise UnsupportedError(f"{node.op_type} depends on an attribute of its function")
        read = _PLAIN.get(attribute.type, onnx.helper.get_attribute_value)
        made[attribute.name] = read(attribute)
    return made


_PLAIN: Mapping[int, Callable[[onnx.AttributeProto], Any]] = {
    onnx.AttributeProto.FLOAT: lambda attribute: attribute.f,
    onnx.AttributeProto.INT: lambda attribute: attribute.i,
    onnx.AttributeProto.STRING: lambda attribute: attribute.s,
    onnx.AttributeProto.INTS: lambda attribute: list(attribute.ints),
    onnx.AttributeProto.FLOATS: lambda attribute: list(attribute.floats),
}
"""How most attributes are read; onnx tries one type after the other."""


def default_domain(node: onnx.NodeProto) -> bool:
    """Tell whether the node is one of ONNX's own operators."""
    return node.domain in {"", "ai.onnx"}


def opset_of(node: onnx.NodeProto, opsets: Opsets) -> int:
    """Return the version of the operator set that defines `node`; 0 if the model names none."""
    if default_domain(node):
        return opsets.get("", opsets.get("ai.onnx", 0))
    return opsets.get(node.domain, 0)


def needed(inputs: Inputs, index: int) -> Array:
    """Return an input that the operator cannot do without.

    Raises:
        EvaluationError: It is left out.
    """
    value = inputs[index] if index < len(inputs) else None
    if value is None:
        raise EvaluationError(f"input {index} is missing")
    return value


def optional(inputs: Inputs, index: int) -> Array | None:
    """Return an input that may be left out; None where it is, or where an empty one says that."""
    value = inputs[index] if index < len(inputs) else None
    return None if value is None or value.shape == (0,) else value
