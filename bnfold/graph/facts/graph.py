"""The graph as planning reads it: the view, and what is known of its tensors."""

from collections.abc import Mapping
from functools import partial

import onnx

from bnfold.graph.facts.constants import Constants
from bnfold.graph.facts.shapes import Shapes
from bnfold.graph.index.view import NONE, View
from bnfold.rules.affine_nodes import NORMALIZATION
from bnfold.rules.operator import Attribute, Operator, Value


class Graph:
    """A view together with what is known of its tensors: all that planning reads."""

    def __init__(self, view: View, shapes: Shapes, constants: Constants) -> None:
        self.view = view
        self.shapes = shapes
        self.constants = constants
        self._operators: dict[int, Operator] = {}
        self._values: dict[int, Value | None] = {NONE: None}

    def operator(self, number: int) -> Operator:
        """Return a node as the rules see it."""
        operator = self._operators.get(number)
        if operator is None:
            node = self.view.nodes[number]
            operator = Operator(
                op_type=node.proto.op_type,
                opset=self.view.scopes[node.scope].opset,
                inputs=tuple(self._value(tensor) for tensor in node.inputs),
                outputs=tuple(self._value(tensor) for tensor in node.outputs),
                attributes=_attributes(node.proto),
            )
            self._operators[number] = operator
        return operator

    def _value(self, number: int) -> Value | None:
        if number not in self._values:
            tensor = self.view.tensors[number]
            constant = number in self.constants
            self._values[number] = Value(
                name=tensor.name,
                shape=self.shapes.shapes.get(number),
                elem_type=self.shapes.elem_types.get(number, 0),
                constant=partial(self.constants.value, number) if constant else None,
                used=bool(tensor.readers or tensor.outputs),
            )
        return self._values[number]

    def makes_constants(self, number: int) -> bool:
        """Whether a node makes constants, whatever the numbers that it reads are."""
        return all(t == NONE or t in self.constants for t in self.view.nodes[number].outputs)

    def is_normalization(self, number: int) -> bool:
        """Whether a node is a BatchNormalization, whatever its mode."""
        proto = self.view.nodes[number].proto
        return proto.op_type == NORMALIZATION and proto.domain in ("", "ai.onnx")


_PLAIN: Mapping[int, str] = {
    onnx.AttributeProto.INT: "i",
    onnx.AttributeProto.FLOAT: "f",
    onnx.AttributeProto.STRING: "s",
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.FLOATS: "floats",
}


def _attributes(node: onnx.NodeProto) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    for attribute in node.attribute:
        field_name = _PLAIN.get(attribute.type)
        if field_name is None:
            continue
        value = getattr(attribute, field_name)
        listed = field_name in ("ints", "floats")
        attributes[attribute.name] = tuple(value) if listed else value
    return attributes
