"""What each node of a view is to a channel affine, according to the rule tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import onnx

from bnfold.frozen import frozen
from bnfold.graph.constants import Constants
from bnfold.graph.shapes import Shapes
from bnfold.graph.view import NONE, Node, View
from bnfold.limits import AFFINES
from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.affine_nodes import AFFINE, NORMALIZATION
from bnfold.rules.carry import BARRIERS, CARRY, CarryRow
from bnfold.rules.linear import LINEAR, Linear
from bnfold.rules.operator import Attribute, Operator, Value

_INVALID = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a rule raises on attributes and shapes that contradict each other."""


@contextmanager
def asking(node: Node) -> Iterator[None]:
    """Ask a rule about a node: let a refusal say at which, and refuse what is not valid ONNX."""
    try:
        yield
    except Refusal as refusal:
        obstacle = refusal.obstacle
        detail = " ".join(part for part in (obstacle.at, obstacle.detail) if part)
        raise Refusal(obstacle.reason, detail, node.label) from None
    except _INVALID as error:
        raise Refusal(Reason.INVALID_NODE, str(error), node.label) from error


@frozen(eq=False)
class AffineNode:
    """A node that is an affine of one of its inputs."""

    data: int
    affine: Affine


@dataclass(slots=True)
class Roles:
    """The role of every node.

    Attributes:
        affine: Nodes that are channel affines.
        linear: Nodes that absorb channel affines.
        carry: Nodes that channel affines pass.
        refused: Why a node that its operator puts in a table is not in it.
        held: How many values the affines have, together.
    """

    affine: dict[int, AffineNode] = field(default_factory=dict)
    linear: dict[int, Linear] = field(default_factory=dict)
    carry: dict[int, CarryRow] = field(default_factory=dict)
    refused: dict[int, Obstacle] = field(default_factory=dict)
    held: int = 0


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

    def find_roles(self) -> Roles:
        """Look every node up in the tables."""
        roles = Roles()
        for node in self.view.nodes:
            if node.proto.domain not in ("", "ai.onnx"):
                continue
            if all(tensor in self.constants for tensor in node.outputs if tensor != NONE):
                roles.refused[node.number] = Obstacle(Reason.CONSTANT)
                continue
            try:
                self._assign(node, roles)
            except Refusal as refusal:
                roles.refused[node.number] = self._explained(node, refusal.obstacle)
            except _INVALID as error:
                roles.refused[node.number] = Obstacle(Reason.INVALID_NODE, detail=str(error))
        return roles

    def _assign(self, node: Node, roles: Roles) -> None:
        op_type = node.proto.op_type
        if any(attribute.ref_attr_name for attribute in node.proto.attribute):
            raise Refusal(Reason.FUNCTION_ARGUMENT)
        if op_type in LINEAR:
            roles.linear[node.number] = LINEAR[op_type](self.operator(node.number))
            return
        if op_type in AFFINE and self._try_affine(node, roles):
            return
        if op_type in CARRY:
            self.operator(node.number).required(0)
            roles.carry[node.number] = CARRY[op_type]
        elif op_type in BARRIERS:
            raise Refusal(BARRIERS[op_type])

    def _try_affine(self, node: Node, roles: Roles) -> bool:
        """Enter a node as an affine; if its operator is also in CARRY, it may be that instead."""
        try:
            data, affine = AFFINE[node.proto.op_type](self.operator(node.number))
            self._check_operands(node, data)
        except Refusal as refusal:
            if node.proto.op_type not in CARRY:
                raise
            roles.refused[node.number] = refusal.obstacle
            return False
        roles.held += affine.size
        if roles.held > AFFINES:
            raise Refusal(Reason.TOO_LARGE, "all affines together")
        roles.affine[node.number] = AffineNode(data, affine)
        return True

    def _check_operands(self, node: Node, data: int) -> None:
        """Refuse a node that reads something besides its data that is not constant."""
        for index, tensor in enumerate(node.inputs):
            if index != data and tensor != NONE and tensor not in self.constants:
                raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=self.view.tensors[tensor].name)

    def _explained(self, node: Node, obstacle: Obstacle) -> Obstacle:
        """Say more precisely why parameters are not constant."""
        if obstacle.reason is not Reason.PARAMETERS_NOT_CONSTANT:
            return obstacle
        for number in node.inputs[1:]:
            if number == NONE or number in self.constants:
                continue
            tensor = self.view.tensors[number]
            if self.constants.is_overridable(number):
                return Obstacle(Reason.OVERRIDABLE, tensor.name)
            if tensor.is_input and self.view.scopes[tensor.scope].is_function:
                return Obstacle(Reason.FUNCTION_ARGUMENT, tensor.name)
        return obstacle

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
