"""The graph as planning reads it: the view, and what is known of its tensors."""

from collections.abc import Mapping, Sequence
from functools import partial

import onnx

from bnfold.files.walk import OWN_DOMAINS
from bnfold.graph.facts.constants import Constants
from bnfold.graph.facts.shapes import Shapes
from bnfold.graph.index.view import NONE, Node, View
from bnfold.rules.affine_nodes import AFFINE, ARITHMETIC, NORMALIZATION
from bnfold.rules.carry import ROUNDED_LATER
from bnfold.rules.operator import Attribute, Operator, Shape, Value

_CAST = "Cast"
_FOLLOWED = 64
"""Tensors that are followed at a time to where they are cast, or nodes to where a shape is lost."""


class Graph:
    """A view together with what is known of its tensors: all that planning reads."""

    def __init__(self, view: View, shapes: Shapes, constants: Constants) -> None:
        self.view = view
        self.shapes = shapes
        self.constants = constants
        self._operators: dict[int, Operator] = {}
        self._values: dict[int, Value | None] = {NONE: None}
        self._makes_constants: dict[int, bool] = {}

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
                ends_as=partial(self._ends_as, number),
            )
        return self._values[number]

    def _ends_as(self, number: int) -> frozenset[int]:
        """Return the element types that a tensor's numbers are cast to; see `Value`."""
        types: set[int] = set()
        waiting = [number]
        while waiting:
            tensor = self.view.tensors[waiting.pop()]
            if tensor.outputs or len(waiting) > _FOLLOWED:
                return frozenset()
            for reader, _ in tensor.readers:
                node = self.view.nodes[reader]
                if node.proto.op_type == _CAST:
                    types.add(self.operator(reader).integer("to", 0))
                elif self._is_rounded_later(node):
                    waiting.append(node.outputs[0])
                else:
                    return frozenset()
        return frozenset(types)

    def _is_rounded_later(self, node: Node) -> bool:
        """Whether a node is an affine of one tensor, or only chooses and moves its numbers."""
        op_type = node.proto.op_type
        if node.proto.domain not in OWN_DOMAINS or node.scopes or NONE in node.outputs[:1]:
            return False
        parameters = [t for t in node.inputs if t != NONE and t not in self.constants]
        return len(parameters) == 1 and (op_type in AFFINE or op_type in ROUNDED_LATER)

    def hides_shape(self, number: int) -> str:
        """Name the operator before a node behind which a shape is no longer known.

        Empty where that is the node itself, or where the shape of an input is unknown.
        """
        waiting, seen = [number], {number}
        while waiting and len(seen) <= _FOLLOWED:
            node = self.view.nodes[waiting.pop()]
            unknown = [t for t in node.inputs if t != NONE and self._is_hidden(t)]
            foreign = node.proto.domain not in OWN_DOMAINS
            if node.number != number and (foreign or not unknown):
                return node.label + (f" of {node.proto.domain}" if foreign else "")
            makers = {self.view.tensors[t].producer for t in unknown} - seen - {NONE}
            seen |= makers
            waiting += sorted(makers)
        return ""

    def _is_hidden(self, tensor: int) -> bool:
        """Whether nothing is known of a size, not even what else is as large."""
        shape = self.shapes.shapes.get(tensor)
        return shape is None or None in shape

    def makes_constants(self, number: int) -> bool:
        """Whether a node makes constants, whatever the numbers that it reads are, as Shape does."""
        known = self._makes_constants.get(number)
        if known is None:  # it is asked very often
            made = self.view.nodes[number].outputs
            known = all(t == NONE or t in self.constants for t in made)
            self._makes_constants[number] = known
        return known

    def is_arithmetic(self, number: int) -> bool:
        """Whether a node is arithmetic with constants that do not enlarge what it reads.

        Inside a subgraph or a function a constant must be a scalar: what shape the other operand
        has there, the verification does not know.
        """
        node = self.view.nodes[number]
        if node.proto.op_type not in ARITHMETIC or node.proto.attribute:
            return False
        shapes = [self.shapes.shapes.get(t) for t in node.inputs if t in self.constants]
        data = [self.shapes.evident.get(t) for t in node.inputs if t not in self.constants]
        main = node.scope == 0
        return all(
            shape == () or (main and shape and (set(shape) == {1} or _fits(shape, data)))
            for shape in shapes
        )

    def is_normalization(self, number: int) -> bool:
        """Whether a node is a BatchNormalization, whatever its mode."""
        proto = self.view.nodes[number].proto
        return proto.op_type == NORMALIZATION and proto.domain in OWN_DOMAINS


def _fits(shape: Shape, data: Sequence[Shape | None]) -> bool:
    """Whether a constant broadcasts to a tensor of known sizes, and not the other way round."""
    if len(data) != 1 or data[0] is None or len(shape) > len(data[0]):
        return False
    sizes = data[0][len(data[0]) - len(shape) :]
    return all(dim in (1, size) for dim, size in zip(shape, sizes, strict=True))


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
