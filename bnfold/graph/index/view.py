"""A read-only index of a model: who makes a tensor, who reads it, in which scope.

This is the only module that looks through onnx-graphsurgeon. It is shown an *outline* of the
model, names and nesting without attributes and numbers, and resolves every name to the tensor
that it means: a name that a subgraph takes from outside becomes the very same tensor. What
graphsurgeon hides is added here: graph outputs, overridable initializers, and the places where a
subgraph's output is a tensor from outside.

Nodes and tensors are known by numbers, because names may be empty or repeated. Nothing here edits
anything; `ModelProto` stays the record.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.logger import G_LOGGER

from bnfold.errors import ModelError, first_sentence
from bnfold.files.walk import opset_of
from bnfold.frozen import slotted
from bnfold.graph.index.outline import Container, outline, outline_of_body
from bnfold.onnx_model.order import in_order, names_from_outside
from bnfold.region import ScopePath

NONE = -1
"""Stands for a left-out optional input or output, and for "no node"."""

Edge = tuple[int, int]
"""A (node, input index) that reads a tensor."""


@slotted
class Tensor:
    """A tensor of one scope.

    Attributes:
        number: Its number.
        name: Its name in the scope.
        scope: The scope that holds it.
        producer: The node that makes it, or NONE.
        readers: Every (node, input index) that reads it, in subgraphs too.
        is_input: Whether it is an input of its graph or function.
        outputs: How often its graph or function lists it as an output, or a subgraph's does.
        initializer: Its stored numbers, if it is an initializer.
        sparse: The same, if it is a sparse one.
        overridable: Whether a caller may feed something else (an initializer that is an input).
    """

    number: int
    name: str
    scope: int
    producer: int = NONE
    readers: list[Edge] = field(default_factory=list)
    is_input: bool = False
    outputs: int = 0
    initializer: onnx.TensorProto | None = None
    sparse: onnx.SparseTensorProto | None = None
    overridable: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether it is an initializer, sparse or not."""
        return self.initializer is not None or self.sparse is not None


@slotted
class Node:
    """A node of one scope.

    Attributes:
        number: Its number; within a scope numbers follow the data.
        scope: The scope that holds it.
        index: Its place in the scope's list of nodes.
        proto: The record.
        inputs: The tensors that it reads, NONE where left out.
        outputs: The tensors that it makes, likewise.
        scopes: The scopes of its subgraphs.
    """

    number: int
    scope: int
    index: int
    proto: onnx.NodeProto
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    scopes: list[int] = field(default_factory=list)

    @property
    def label(self) -> str:
        """How a person finds it: its name, or else what it makes."""
        name = self.proto.name or next(iter(self.proto.output), "")
        return f"{self.proto.op_type} '{name}'"


@slotted
class Scope:
    """A graph or a function: a list of nodes and the names that they share.

    Attributes:
        number: Its number; the main graph is 0.
        proto: The record.
        parent: The scope around it, or NONE.
        path: How to get there, see `bnfold.region.Region`.
        opset: The version of the default domain.
        nodes: The numbers of its nodes, in the order of the record.
        is_function: Whether it is a local function.
        owner: The node whose subgraph it is, or NONE.
        attribute: The attribute of the owner that holds it; of a function, nothing.
    """

    number: int
    proto: Container
    parent: int
    path: ScopePath
    opset: int
    nodes: list[int] = field(default_factory=list)
    is_function: bool = False
    owner: int = NONE
    attribute: str = ""


class View:
    """The index of one model, whose bulk tensors may be references.

    Raises:
        ModelError: Names are missing, repeated or in a circle.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self.scopes: list[Scope] = []
        self._numbers: dict[int, int] = {}
        self._stored: dict[int, dict[str, onnx.TensorProto | onnx.SparseTensorProto]] = {}
        self._inputs: dict[int, set[str]] = {}
        self._kept_alive: list[object] = []
        self._seen: dict[int, dict[str, gs.Tensor]] = {}
        _require_made(model.graph, _nothing)
        for function in model.functions:
            _require_made(function, _nothing)
        with _quietly():
            imported = gs.import_onnx(outline(model))
        self._add_scope(model.graph, imported, NONE, (), opset_of(model.opset_import))
        default = opset_of(model.opset_import)
        for function, seen in zip(model.functions, imported.functions, strict=True):
            path = ((f"{function.domain}::{function.name}", ""),)
            opset = opset_of(function.opset_import) or default
            self._add_scope(function, seen, NONE, path, opset)
        del self._kept_alive, self._numbers, self._stored, self._inputs, self._seen

    def readers(self, tensor: int) -> Sequence[tuple[int, int]]:
        """Return every (node, input index) that reads a tensor."""
        return self.tensors[tensor].readers

    def producer(self, tensor: int) -> Node | None:
        """Return the node that makes a tensor."""
        number = self.tensors[tensor].producer
        return None if number == NONE else self.nodes[number]

    # -- building -----------------------------------------------------------------------------

    def _add_scope(
        self,
        proto: Container,
        seen: gs.Graph | gs.Function,
        parent: int,
        path: ScopePath,
        opset: int,
    ) -> int:
        scope = Scope(len(self.scopes), proto, parent, path, opset)
        scope.is_function = isinstance(proto, onnx.FunctionProto)
        self.scopes.append(scope)
        self._kept_alive.append(seen)
        stored = proto.initializer if isinstance(proto, onnx.GraphProto) else ()
        inputs = proto.input if isinstance(proto, onnx.GraphProto) else ()
        self._stored[scope.number] = {tensor.name: tensor for tensor in stored}
        sparse = proto.sparse_initializer if isinstance(proto, onnx.GraphProto) else ()
        self._stored[scope.number] |= {tensor.values.name: tensor for tensor in sparse}
        self._inputs[scope.number] = {value.name for value in inputs}
        within = (tensor for node in seen.nodes for tensor in (*node.inputs, *node.outputs))
        self._seen[scope.number] = {tensor.name: tensor for tensor in (*seen.inputs, *within)}
        for tensor in seen.inputs:
            if tensor.name:
                self.tensors[self._number(tensor, scope)].is_input = True
        self._add_nodes(scope, proto, seen)
        self._add_outputs(scope, seen)
        for node in scope.nodes:
            self._add_subgraphs(self.nodes[node], scope)
        return scope.number

    def _add_nodes(self, scope: Scope, proto: Container, seen: gs.Graph | gs.Function) -> None:
        first = len(self.nodes)
        records = list(proto.node)
        for offset, index in enumerate(in_order(records)):
            number = first + offset
            imported = seen.nodes[index]
            node = Node(number, scope.number, index, records[index])
            node.inputs = tuple(self._number(tensor, scope) for tensor in imported.inputs)
            node.outputs = tuple(self._number(tensor, scope) for tensor in imported.outputs)
            self.nodes.append(node)
            scope.nodes.append(number)
            self._connect(node)
        scope.nodes.sort(key=lambda number: self.nodes[number].index)

    def _connect(self, node: Node) -> None:
        for index, tensor in enumerate(node.inputs):
            if tensor != NONE:
                self.tensors[tensor].readers.append((node.number, index))
        for tensor in node.outputs:
            if tensor == NONE:
                continue
            made = self.tensors[tensor]
            if made.producer != NONE or made.is_input or made.is_stored:
                raise ModelError(f"tensor '{made.name}' is made twice")
            made.producer = node.number

    def _add_outputs(self, scope: Scope, seen: gs.Graph | gs.Function) -> None:
        for imported in seen.outputs:
            if imported.name:
                made = self._own_or_outside(imported, scope)
                self.tensors[self._number(made, scope)].outputs += 1

    def _own_or_outside(self, imported: gs.Tensor, scope: Scope) -> gs.Tensor:
        """Return the tensor that an output means: that of a subgraph may come from outside.

        Graphsurgeon takes every output for one of the graph's own.
        """
        name = imported.name
        own = imported.inputs or name in self._stored[scope.number]
        if own or name in self._inputs[scope.number] or scope.parent == NONE:
            return imported
        return self._tensor_outside(name, self.scopes[scope.parent])

    def _add_subgraphs(self, node: Node, scope: Scope) -> None:
        attributes = [a for a in node.proto.attribute if a.HasField("g")]
        if not attributes:
            return
        owner = next(iter(node.proto.output), "")
        for attribute in attributes:
            path = (*scope.path, (owner, attribute.name))
            body = self._body(attribute.g, scope)
            number = self._add_scope(attribute.g, body, scope.number, path, scope.opset)
            self.scopes[number].owner = node.number
            self.scopes[number].attribute = attribute.name
            node.scopes.append(number)

    def _body(self, body: onnx.GraphProto, scope: Scope) -> gs.Graph:
        """Import a subgraph, with those tensors from outside that it reads and no others.

        Where graphsurgeon goes into subgraphs by itself it copies the names around each, all of
        them: many branches side by side would take time quadratic in their number.
        """
        read = (name for name in names_from_outside(body) if name)
        outside = OrderedDict((name, self._tensor_outside(name, scope)) for name in read)
        with _quietly():
            return OnnxImporter.import_graph(outline_of_body(body), outside)

    def _tensor_outside(self, name: str, scope: Scope) -> gs.Tensor:
        """Return the tensor that a name means in a scope; what a subgraph reads first is new."""
        home = scope
        while name not in self._seen[home.number]:
            if name in self._stored[home.number]:
                self._seen[home.number][name] = gs.Variable(name)
            else:
                home = self.scopes[home.parent]
        return self._seen[home.number][name]

    def _number(self, tensor: gs.Tensor, scope: Scope) -> int:
        if not tensor.name:
            return NONE
        number = self._numbers.get(id(tensor))
        if number is None:
            number = len(self.tensors)
            self._numbers[id(tensor)] = number
            self.tensors.append(self._tensor(number, tensor.name, scope))
        return number

    def _tensor(self, number: int, name: str, scope: Scope) -> Tensor:
        """Return a tensor that is met for the first time, in a scope that need not be its own.

        Everything but an initializer is met in its own scope first. An initializer that only
        subgraphs read belongs to the nearest scope around them that stores one of its name.
        """
        home = scope
        while name not in self._stored[home.number] and home.parent != NONE:
            home = self.scopes[home.parent]
        stored = self._stored[home.number].get(name)
        if stored is None:
            return Tensor(number, name, scope.number)
        if isinstance(stored, onnx.SparseTensorProto):
            return Tensor(number, name, home.number, sparse=stored)
        overridable = name in self._inputs[home.number]
        return Tensor(number, name, home.number, initializer=stored, overridable=overridable)


def _nothing(name: str) -> bool:
    """Return False: a name in the main graph never stands for something around it."""
    del name
    return False


def _require_made(scope: Container, is_outside: Callable[[str], bool]) -> None:
    """Refuse a name that is read, and that nothing in its scope or around it stands for."""
    own = {name for node in scope.node for name in node.output}
    if isinstance(scope, onnx.GraphProto):
        own.update(value.name for value in scope.input)
        own.update(tensor.name for tensor in scope.initializer)
        own.update(sparse.values.name for sparse in scope.sparse_initializer)
        outputs = [value.name for value in scope.output]
    else:
        own.update(scope.input)
        outputs = list(scope.output)

    def is_known(name: str) -> bool:
        return name in own or is_outside(name)

    for node in scope.node:
        for name in node.input:
            if name and not is_known(name):
                label = node.name or next(iter(node.output), "")
                raise ModelError(f"node '{label}' reads '{name}', which nothing makes")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _require_made(attribute.g, is_known)
    for name in outputs:
        if name and not is_known(name):
            raise ModelError(f"nothing makes the output '{name}'")


@contextmanager
def _quietly() -> Iterator[None]:
    """Import an outline without a word: graphsurgeon's logger belongs to the whole process."""
    severity = G_LOGGER.severity
    G_LOGGER.severity = G_LOGGER.CRITICAL
    try:
        yield
    except Exception as error:
        raise ModelError(f"the graph cannot be read: {first_sentence(error)}") from error
    finally:
        G_LOGGER.severity = severity
