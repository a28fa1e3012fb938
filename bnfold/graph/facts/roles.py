"""What each node of a view is to a channel affine, according to the rule tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field

from bnfold.errors import first_sentence
from bnfold.files.walk import OWN_DOMAINS
from bnfold.frozen import frozen, slotted
from bnfold.graph.facts.composites import Composite, find_composites
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE, Node
from bnfold.limits import AFFINES
from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.carry import BARRIERS, CARRY
from bnfold.rules.linear import LINEAR, Linear
from bnfold.rules.passage import CarryRow

_INVALID = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a rule may raise when attributes and shapes contradict each other."""


@contextmanager
def refusing_at(node: Node, graph: Graph | None = None) -> Iterator[None]:
    """Name the node in every refusal of a rule; refuse where the rule fails on invalid ONNX.

    With the graph, name what hides an unknown shape, too.
    """
    try:
        yield
    except Refusal as refusal:
        obstacle = refusal.obstacle
        detail = " ".join(part for part in (obstacle.at, obstacle.detail) if part)
        if graph is not None:
            detail += _hidden(graph, node, obstacle)
        raise Refusal(obstacle.reason, detail, node.label) from None
    except _INVALID as error:
        raise Refusal(Reason.INVALID_NODE, first_sentence(error), node.label) from error


@frozen(eq=False)
class AffineNode:
    """A node that is an affine of one of its inputs."""

    data: int
    affine: Affine


@slotted
class Roles:
    """The role of every node.

    Attributes:
        affine: Nodes that are channel affines.
        linear: Nodes that absorb channel affines.
        carry: Nodes that channel affines pass. A linear node among them absorbs those that vary
            along its channels.
        also_carry: Nodes that are channel affines, and could be nodes that others pass instead.
        normalized: Written-out normalizations with parameters that absorb, by the node that makes
            their result.
        composites: What runtimes know as one operator; its nodes are in no table.
        refused: Why a node that its operator puts in a table is not in it.
        held: How many values the affines have, together.
    """

    affine: dict[int, AffineNode] = field(default_factory=dict)
    linear: dict[int, Linear] = field(default_factory=dict)
    carry: dict[int, CarryRow] = field(default_factory=dict)
    also_carry: dict[int, CarryRow] = field(default_factory=dict)
    normalized: dict[int, Composite] = field(default_factory=dict)
    composites: tuple[Composite, ...] = ()
    refused: dict[int, Obstacle] = field(default_factory=dict)
    held: int = 0


def find_roles(graph: Graph, take_apart: frozenset[str] = frozenset()) -> Roles:
    """Look every node up in the tables; of composites, those but for some."""
    roles = Roles(composites=find_composites(graph, take_apart))
    for composite in roles.composites:
        obstacle = Obstacle(Reason.COMPOSITE, detail=composite.name)
        whole = [n for n in composite.nodes if n in composite.behind or not _is_idle(graph, n)]
        roles.refused |= dict.fromkeys(whole, obstacle)
        if composite.scale or composite.shift:
            roles.normalized[composite.output] = composite
    for node in graph.view.nodes:
        if node.proto.domain not in OWN_DOMAINS or node.number in roles.refused:
            continue
        if all(tensor in graph.constants for tensor in node.outputs if tensor != NONE):
            roles.refused[node.number] = Obstacle(Reason.CONSTANT)
            continue
        try:
            _assign(graph, node, roles)
        except Refusal as refusal:
            roles.refused[node.number] = _explained(graph, node, refusal.obstacle)
        except _INVALID as error:
            roles.refused[node.number] = Obstacle(Reason.INVALID_NODE, detail=first_sentence(error))
    return roles


def _hidden(graph: Graph, node: Node, obstacle: Obstacle) -> str:
    """Tell what hides a shape that is unknown; else nothing."""
    hiding = obstacle.reason is Reason.UNKNOWN_SHAPE and graph.hides_shape(node.number)
    return f", hidden by {hiding}" if hiding else ""


def _is_idle(graph: Graph, number: int) -> bool:
    """Whether a node changes nothing, such as the factor 1 in some exporters' x σ(1 x)."""
    if not graph.is_arithmetic(number):
        return False
    operator = graph.operator(number)
    try:
        return AFFINE[operator.op_type](operator)[1].is_identity
    except (Refusal, *_INVALID):
        return False


def _assign(graph: Graph, node: Node, roles: Roles) -> None:
    op_type = node.proto.op_type
    if any(attribute.ref_attr_name for attribute in node.proto.attribute):
        raise Refusal(Reason.FUNCTION_ARGUMENT)
    if op_type in LINEAR:
        roles.linear[node.number] = LINEAR[op_type](graph.operator(node.number))
        if op_type in CARRY:
            roles.carry[node.number] = CARRY[op_type]
        return
    if op_type in AFFINE and _try_affine(graph, node, roles):
        return
    if op_type in CARRY:
        graph.operator(node.number).required(0)
        roles.carry[node.number] = CARRY[op_type]
    elif op_type in BARRIERS:
        raise Refusal(BARRIERS[op_type])


def _try_affine(graph: Graph, node: Node, roles: Roles) -> bool:
    """Enter a node as an affine; return False if it is no affine, but may be in CARRY."""
    try:
        data, affine = AFFINE[node.proto.op_type](graph.operator(node.number))
        _check_operands(graph, node, data)
    except Refusal as refusal:
        if node.proto.op_type not in CARRY:
            raise
        roles.refused[node.number] = refusal.obstacle
        return False
    roles.held += affine.size
    if roles.held > AFFINES:
        raise Refusal(Reason.TOO_LARGE, "all affines together")
    roles.affine[node.number] = AffineNode(data, affine)
    if node.proto.op_type in CARRY:
        roles.also_carry[node.number] = CARRY[node.proto.op_type]
    return True


def _check_operands(graph: Graph, node: Node, data: int) -> None:
    """Refuse a node that reads something besides its data that is not constant."""
    for index, tensor in enumerate(node.inputs):
        if index != data and tensor != NONE and tensor not in graph.constants:
            raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=graph.view.tensors[tensor].name)


def _explained(graph: Graph, node: Node, obstacle: Obstacle) -> Obstacle:
    """Return a more precise reason why parameters are not constant, or a shape is unknown."""
    if hidden := _hidden(graph, node, obstacle):
        return Obstacle(obstacle.reason, obstacle.at, obstacle.detail + hidden)
    if obstacle.reason is Reason.WEIGHT_NOT_CONSTANT:
        return _dequantized(graph, node) or _given(graph, node) or obstacle
    if obstacle.reason is not Reason.PARAMETERS_NOT_CONSTANT:
        return obstacle
    for number in node.inputs[1:]:
        if number == NONE or number in graph.constants:
            continue
        tensor = graph.view.tensors[number]
        if graph.constants.is_overridable(number):
            return Obstacle(Reason.OVERRIDABLE, tensor.name)
    return _given(graph, node) or obstacle


def _given(graph: Graph, node: Node) -> Obstacle | None:
    """Say of what should be constant that it is an argument of a function."""
    tensors = (graph.view.tensors[number] for number in node.inputs[1:] if number != NONE)
    for tensor in tensors:
        if tensor.is_input and graph.view.scopes[tensor.scope].is_function:
            return Obstacle(Reason.FUNCTION_ARGUMENT, tensor.name)
    return None


def _dequantized(graph: Graph, node: Node) -> Obstacle | None:
    """Say of a weight that another domain's DequantizeLinear makes of constants what it is."""
    for tensor in node.inputs:
        maker = None if tensor == NONE else graph.view.producer(tensor)
        if maker is None or maker.proto.op_type != "DequantizeLinear":
            continue
        constant = all(t in graph.constants for t in maker.inputs if t != NONE)
        if constant and maker.proto.domain not in OWN_DOMAINS:
            return Obstacle(Reason.QUANTIZED_FORM, maker.label, f"of {maker.proto.domain}")
    return None
