"""A model as the verifier sees it: graphs within graphs, their nodes and their constants.

Written apart from the rest of bnfold on purpose: a mistake in how the folder reads a model must
not be repeated by what checks it.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from bnfold.errors import ModelError
from bnfold.files.opened import OpenedModel
from bnfold.files.sparse import dense
from bnfold.limits import COMPUTED, COMPUTED_GROWTH
from bnfold.onnx_model.computing import TooLargeError, require_computable
from bnfold.onnx_model.order import in_order
from bnfold.region import ScopePath
from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators.evaluate import constant_node
from bnfold.verification.operators.node import EvaluationError, Opsets, default_domain, opset_of
from bnfold.verification.operators.table import Kind, row_of

_NARROW_FLOATS = frozenset(
    {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT}
)
_WORTH_KEEPING = 1 << 16
"""Bytes; a computed constant larger than this is computed again when it is asked for again."""


def opsets_of(imports: object) -> dict[str, int]:
    """Return versions by domain, ONNX's own under the empty string."""
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in imports}  # type: ignore[attr-defined]


@dataclass(eq=False, slots=True)
class Scope:
    """One graph: the main one, a subgraph's or a local function's body.

    Attributes:
        model: The opened model that holds it.
        path: Where it is, as in `Region.scope`.
        nodes: Its nodes, each after those whose outputs it reads.
        inputs: Names of its inputs, in order, without those that have a default value.
        outputs: Names of its outputs.
        tensors: Its initializers by name.
        opsets: Versions of the operator sets.
        parent: The graph around it; None for the main graph and for functions.
        producers: Who makes a tensor, and as which output.
        readers: Who of the scope's own nodes reads a tensor, and as which input.
        places: Where a node is in `nodes`, by its `id`.
        owners: The nodes that have subgraphs.
        types: The element types of the model's inputs by name, and of other tensors of an original
            that are no floats; empty but for the main graph.
        products: What recurrent cells make of their inputs, by the `id` of each; see `cells`.
    """

    model: OpenedModel
    path: ScopePath
    nodes: list[onnx.NodeProto]
    inputs: list[str]
    outputs: list[str]
    tensors: dict[str, onnx.TensorProto]
    opsets: Opsets
    parent: "Scope | None" = None
    producers: dict[str, tuple[onnx.NodeProto, int]] = field(default_factory=dict)
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    owners: list[onnx.NodeProto] = field(default_factory=list)
    types: dict[str, int] = field(default_factory=dict)
    products: dict[int, str] = field(default_factory=dict)
    _entering: frozenset[str] = frozenset()
    _computed: dict[str, Array] = field(default_factory=dict)
    _constant: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the producers and find the constants.

        Raises:
            ModelError: A node makes a tensor that is an input or stored.
        """
        self._entering = frozenset(self.inputs)
        for place, node in enumerate(self.nodes):
            self.places[id(node)] = place
            if any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
                self.owners.append(node)
            for index, name in enumerate(node.output):
                if name in self.tensors or name in self._entering:
                    raise ModelError(f"{_where(self.model)}a node makes {name!r}, which is given")
                if name:
                    self.producers[name] = (node, index)
            for index, name in enumerate(node.input):
                if name:
                    self.readers.setdefault(name, []).append((node, index))
        for node in self.nodes:
            constant = _pure(node) and all(self.is_constant(n) for n in node.input if n)
            self._constant |= {name: constant for name in node.output if name}

    def defines(self, name: str) -> bool:
        """Tell whether a tensor is this graph's own, and not one of a graph around it."""
        return name in self.producers or name in self.tensors or name in self._entering

    def home(self, name: str) -> "Scope | None":
        """Return the scope that defines `name`: this one or one around it."""
        scope: Scope | None = self
        while scope is not None:
            if scope.defines(name):
                return scope
            scope = scope.parent
        return None

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor depends on no input; nothing is computed."""
        scope: Scope | None = self
        while scope is not None:  # as `home`, at once: it is asked very often
            if name in scope.tensors:
                return True
            if name in scope.producers:
                return scope._constant.get(name, False)  # noqa: SLF001
            if name in scope._entering:  # noqa: SLF001
                return False
            scope = scope.parent
        return False

    def constant(self, name: str) -> Array:
        """Return the value of a constant in the dtype that the model gives it.

        Raises:
            EvaluationError: It cannot be computed.
        """
        home = self.home(name)
        if home is not None and name in home.tensors:
            return home.model.read(home.tensors[name])
        if home is None or not self.is_constant(name):
            raise EvaluationError(f"{name} is no constant")
        return home._compute(name)  # noqa: SLF001

    def wide_constant(self, name: str) -> tuple[Array, np.dtype[np.generic]]:
        """Return the value of a constant, floats in float64, and the dtype that it has.

        Raises:
            EvaluationError: It cannot be computed.
        """
        home = self.home(name)
        stored = None if home is None else home.tensors.get(name)
        if home is not None and stored is not None and stored.data_type in _NARROW_FLOATS:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(stored.data_type)
            return home.model.read_wide(stored), dtype
        array = self.constant(name)
        return array.astype(np.float64) if is_float(array) else array, array.dtype

    def may_be_renamed(self, name: str) -> bool:
        """Tell whether a node of this scope makes a tensor, and nobody outside knows it."""
        return name in self.producers and name not in self.outputs

    def rename(self, name: str, other: str) -> None:
        """Give a tensor another name.

        The record is changed. Subgraphs that read the tensor must be looked at anew.
        """
        node, index = self.producers[other] = self.producers.pop(name)
        node.output[index] = other
        self._constant[other] = self._constant.pop(name)
        self.readers[other] = self.readers.pop(name, [])
        for reader, place in self.readers[other]:
            reader.input[place] = other
        for owner in self.owners:
            for attribute in owner.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    _rename_within(attribute.g, name, other)

    def _compute(self, name: str) -> Array:
        """Compute a constant and those it is made of."""
        if name in self._computed:
            return self._computed[name]
        values: dict[str, Array] = {}
        room = max(COMPUTED, COMPUTED_GROWTH * self.model.size)
        pending = [name]
        while pending:
            node, _ = self.producers[pending[-1]]
            for known in node.input:
                if known in self._computed:
                    values[known] = self._computed[known]
            missing = [n for n in node.input if n in self.producers and n not in values]
            pending += missing
            if missing:
                continue
            pending.pop()
            inputs = [values[n] if n in values else self.constant(n) if n else None
                      for n in node.input]  # fmt: skip
            made = self._values(node, inputs, room)
            room -= sum(array.nbytes for array in made)
            named = [output for output in node.output if output]
            if len(named) != len(made):
                raise EvaluationError(f"{node.op_type} does not make {len(named)} tensors")
            values |= dict(zip(named, made, strict=True))
        self._computed |= {n: v for n, v in values.items() if _held(v) <= _WORTH_KEEPING}
        return values[name]

    def _values(self, node: onnx.NodeProto, inputs: list[Array | None], room: int) -> list[Array]:
        if node.op_type == "Constant":
            return [constant_value(node, self.model)]
        if default_domain(node):
            try:
                require_computable(node, opset_of(node, self.opsets), inputs, room)
            except TooLargeError as error:
                raise EvaluationError(f"{node.op_type}: {error}") from error
        return constant_node(node, self.opsets, inputs)


def _held(array: Array) -> int:
    """Return how many bytes an array takes, of which the same may stand for many elements."""
    lengths = zip(array.shape, array.strides, strict=True)
    distinct = (length for length, stride in lengths if stride)
    return int(array.itemsize * math.prod(distinct))


def _rename_within(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Rename what a subgraph takes from outside."""
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = other
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename_within(attribute.g, name, other)
    for value in graph.output:
        if value.name == name:
            value.name = other


def _pure(node: onnx.NodeProto) -> bool:
    """Tell whether a node gives the same for the same inputs and can be computed by itself."""
    if row_of(node).kind is Kind.RANDOM:
        return False
    return not any(
        a.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS} or a.ref_attr_name
        for a in node.attribute
    )


def constant_value(node: onnx.NodeProto, model: OpenedModel) -> Array:
    """Return the value of a Constant node, in any of its forms.

    Raises:
        EvaluationError: It has none.
    """
    if not node.attribute:
        raise EvaluationError("a Constant without a value")
    attribute = node.attribute[0]
    if attribute.name == "value":
        return model.read(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "sparse_value":
        return dense(value, model)
    kinds = {"value_float": np.float32, "value_floats": np.float32,
             "value_int": np.int64, "value_ints": np.int64}  # fmt: skip
    try:
        return np.asarray(value, kinds.get(attribute.name, object))
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{attribute.name} of a Constant holds something else") from error


def _where(model: OpenedModel) -> str:
    """Return how a message about a model begins."""
    return f"{model.path}: " if model.path is not None else ""


def _ordered(model: OpenedModel, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes so that each comes after those whose outputs it reads, however they are listed.

    Raises:
        ModelError: They read one another in a circle, or two make a tensor of the same name.
    """
    made = Counter(name for node in nodes for name in node.output if name)
    name, count = next(iter(made.most_common(1)), ("", 0))
    if count > 1:
        raise ModelError(f"{_where(model)}two nodes make {name!r}")
    try:
        return [nodes[index] for index in in_order(nodes)]
    except ModelError as error:
        raise ModelError(f"{_where(model)}{error}") from error


def graph_scope(
    model: OpenedModel, graph: onnx.GraphProto, path: ScopePath = (), parent: Scope | None = None
) -> Scope:
    """Return a graph as a scope."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        array = dense(sparse, model)
        tensors[sparse.values.name] = onnx.numpy_helper.from_array(array, sparse.values.name)
    given = [value for value in graph.input if value.name not in tensors]
    types = {value.name: value.type.tensor_type.elem_type for value in given}
    return Scope(
        model, path, _ordered(model, graph.node),
        [value.name for value in given],
        [value.name for value in graph.output],
        tensors,
        parent.opsets if parent is not None else opsets_of(model.proto.opset_import),
        parent,
        types={} if parent is not None else types,
    )  # fmt: skip


def function_scope(model: OpenedModel, function: onnx.FunctionProto) -> Scope:
    """Return a local function's body as a scope."""
    return Scope(
        model, ((function_name(function), ""),), _ordered(model, function.node),
        list(function.input), list(function.output), {}, opsets_of(function.opset_import),
    )  # fmt: skip


def all_names(model: onnx.ModelProto) -> set[str]:
    """Return the names of all tensors of a model, in subgraphs and functions too."""
    names: set[str] = set()
    for function in model.functions:
        names.update(function.input)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    graphs = [model.graph]
    while nodes or graphs:
        for graph in graphs:
            names.update(value.name for value in (*graph.input, *graph.output, *graph.initializer))
            names.update(sparse.values.name for sparse in graph.sparse_initializer)
        names.update(name for node in nodes for name in node.output)
        graphs = [a.g for node in nodes for a in node.attribute if a.HasField("g")]
        nodes = [node for graph in graphs for node in graph.node]
    return names


def all_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node and the graphs in it read of whose elements something depends."""
    yield from filter(None, row_of(node).elements_of(node))
    for inner in within(node):
        yield from filter(None, inner.input)


def within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the graphs in a node."""
    pending = [a.g for a in node.attribute if a.HasField("g")]
    while pending:
        graph = pending.pop()
        yield from graph.node
        pending += [a.g for inner in graph.node for a in inner.attribute if a.HasField("g")]


def varying(scope: Scope) -> set[str]:
    """Return the tensors that depend on elements of what enters, and not only on shapes."""
    found = {*scope.inputs}
    for node in scope.nodes:
        if not found.isdisjoint(all_read(node)):
            found.update(filter(None, node.output))
    return found


def function_name(function: onnx.FunctionProto) -> str:
    """Return a function's name as regions spell it."""
    overload = f":{function.overload}" if function.overload else ""
    return f"{function.domain}::{function.name}{overload}"
