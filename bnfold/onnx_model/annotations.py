"""What a model declares of the tensors in between, and how far it is believed.

A `value_info` is a remark, not a law: graphs are edited, batch sizes changed, and the remarks stay
as they were. ONNX's inference keeps a stale one and knows nothing behind it; runtimes compute
something else than it says. So inference goes first without them. What it finds counts. A remark
only adds to it: where inference knows nothing, or a size that it made a symbol up for. Those
that come first along the data are added first, for what follows from them may contradict others.

Where inference leaves a tensor without as much as a rank, the operators beside it may say
something (`ranks`); that counts more than a remark, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cache

import onnx

from bnfold.files.walk import OWN_DOMAINS, opset_of
from bnfold.frozen import slotted
from bnfold.onnx_model.order import names_from_outside
from bnfold.onnx_model.ranks import Dims, input_shape, output_shape

_INVENTED = "unk__"
"""How the symbols begin that inference makes up for what it does not know."""

Remarks = dict[str, onnx.ValueInfoProto]
"""What is declared of the tensors of one graph, by name."""


def take_remarks(graph: onnx.GraphProto, *, outputs: bool = True) -> Iterator[Remarks]:
    """Take all remarks out of a graph and its subgraphs; yield those of each, outermost first.

    What a graph's outputs are declared to be is a remark, too. Their element types stay.
    """
    remarks = {value.name: value for value in graph.value_info if _is_tensor(value)}
    others = [value for value in graph.value_info if not _is_tensor(value)]
    for value in graph.output if outputs else ():
        if _is_tensor(value) and value.type.tensor_type.HasField("shape"):
            copy = onnx.ValueInfoProto()
            copy.CopyFrom(value)
            remarks[value.name] = copy
            value.type.tensor_type.ClearField("shape")
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in others]
    copies = {n: onnx.ValueInfoProto.FromString(v.SerializeToString()) for n, v in remarks.items()}
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for sparse in graph.sparse_initializer:  # inference takes them for another type of tensor
        made = onnx.helper.make_tensor_value_info
        graph.value_info.append(
            made(sparse.values.name, sparse.values.data_type, list(sparse.dims))
        )
    del graph.sparse_initializer[:]
    yield copies
    for body in _bodies(graph):
        yield from take_remarks(body, outputs=False)


def add_hints(model: onnx.ModelProto, remarks: Iterator[Remarks], *, all_remarks: bool) -> bool:
    """Add to a model what inference does not know and a remark or an operator says.

    Args:
        model: The model, with what inference has found.
        remarks: What was declared, graph by graph as `take_remarks` yields it.
        all_remarks: Add every remark that contradicts nothing, not just the first along the data.

    Returns:
        Whether anything was added, so that there may be more to infer.
    """
    opset = opset_of(model.opset_import)

    def add(graph: onnx.GraphProto, shapes: Mapping[str, Dims], types: Mapping[str, int]) -> bool:
        outside = {*names_from_outside(graph)}  # of many more, copies would take quadratic time
        known = _Known(
            graph,
            {name: shapes[name] for name in outside if name in shapes},
            {name: types[name] for name in outside if name in types},
        )
        remarked = next(remarks)
        added = False
        if known.lacks_something():
            known.ask_operators(opset)
            chosen = remarked if all_remarks else _first_along_the_data(graph, known, remarked)
            for remark in chosen.values():
                known.add(remark)
            known.ask_operators(opset)
            added = known.write()
        for body in _bodies(graph):
            added |= add(body, known.shapes, known.types)
        return added

    return add(model.graph, {}, {})


def _first_along_the_data(graph: onnx.GraphProto, known: "_Known", remarks: Remarks) -> Remarks:
    """Return the remarks that add something, and follow from no other that does."""
    chosen: Remarks = {}
    behind: set[str] = set()
    for node in graph.node:
        news = {name for name in node.output if name in remarks and known.learns(remarks[name])}
        if behind.isdisjoint(node.input):
            chosen |= {name: remarks[name] for name in news}
            behind |= news
        else:
            behind.update(node.output)
    return chosen


@slotted
class _Known:
    """What is known of the tensors that one graph sees.

    Attributes:
        graph: The graph.
        shapes: The shapes, of tensors from outside too.
        types: The element types, of tensors from outside too.
        news: The shapes that are new.
    """

    graph: onnx.GraphProto
    shapes: dict[str, Dims]
    types: dict[str, int]
    news: dict[str, Dims] = field(default_factory=dict)
    _records: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.graph
        self._records = {v.name: v for v in (*graph.value_info, *graph.output, *graph.input)}
        for name, value in self._records.items():
            shape = shape_of(value)
            if shape is not None:
                self.shapes[name] = shape
        self.types |= {
            name: value.type.tensor_type.elem_type
            for name, value in self._records.items()
            if _is_tensor(value)
        }
        self.shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.types |= {tensor.name: tensor.data_type for tensor in graph.initializer}

    def lacks_something(self) -> bool:
        """Whether of a tensor that a node reads or makes the type is not known, or a size."""
        names = {name for node in self.graph.node for name in (*node.input, *node.output) if name}
        return not all(self.types.get(n) and _is_settled(self.shapes.get(n)) for n in names)

    def learns(self, remark: onnx.ValueInfoProto) -> bool:
        """Whether a remark adds something to what is known, and contradicts nothing."""
        shape, known = shape_of(remark), self.shapes.get(remark.name)
        if self._contradicts(remark) or shape is None:
            return False
        return known is None or merged(known, shape) not in (None, known)

    def _contradicts(self, remark: onnx.ValueInfoProto) -> bool:
        record = self._records.get(remark.name)
        types = {r.type.tensor_type.elem_type for r in (remark, record) if r is not None} - {0}
        return len(types) > 1 or (record is not None and not _is_tensor(record))

    def add(self, remark: onnx.ValueInfoProto) -> None:
        """Learn what a remark says, unless that is known, or known to be otherwise."""
        if self._contradicts(remark):
            return
        if not self.types.get(remark.name):
            self.types[remark.name] = remark.type.tensor_type.elem_type
        shape = shape_of(remark)
        if shape is not None:
            self._learn(remark.name, shape)

    def _learn(self, name: str, shape: Dims) -> None:
        known = self.shapes.get(name)
        both = shape if known is None else merged(known, shape)
        if both is not None and both != known:
            self.shapes[name] = self.news[name] = both

    def ask_operators(self, opset: int) -> None:
        """Learn unknown shapes and types from operators, along the data and against it."""
        for node in self.graph.node:
            self._agree_on_types(node, opset)
            if node.output and node.output[0] and node.output[0] not in self.shapes:
                shape = output_shape(node, self._inputs(node))
                if shape is not None:
                    self._learn(node.output[0], shape)
        for node in reversed(self.graph.node):
            self._agree_on_types(node, opset)
            output = self.shapes.get(node.output[0]) if node.output else None
            for name in node.input if node.op_type == "Concat" else node.input[:1]:
                if not name or _is_settled(self.shapes.get(name)):
                    continue
                shape = input_shape(node, self._inputs(node), output)
                if shape is not None:
                    self._learn(name, shape)

    def _agree_on_types(self, node: onnx.NodeProto, opset: int) -> None:
        """Where an operator takes tensors of one type, the type of one is that of all."""
        names = [*node.input, *node.output]
        unknown = [name for name in names if name and not self.types.get(name)]
        if not unknown or node.domain not in OWN_DOMAINS:
            return
        kinds = alike_types(node.op_type, opset, len(node.input), len(node.output))
        for name, kind in zip(names, kinds, strict=False):
            types = (self.types.get(n, 0) for n, k in zip(names, kinds, strict=False) if k == kind)
            if kind and name in unknown and (elem_type := next(filter(None, types), 0)):
                self.types[name] = elem_type

    def _inputs(self, node: onnx.NodeProto) -> list[Dims | None]:
        return [self.shapes.get(name) if name else None for name in node.input]

    def write(self) -> bool:
        """Write what is new into the graph; return whether that was anything."""
        made = {value.name: None for value in self.graph.input}
        made |= {name: None for node in self.graph.node for name in node.output if name}
        news = [n for n in made if n in self.news or (n in self.types and self._type_of(n) == 0)]
        for name in news:
            record = self._records.get(name)
            if record is None:
                record = self._records[name] = self.graph.value_info.add(name=name)
            tensor = record.type.tensor_type
            tensor.elem_type = tensor.elem_type or self.types.get(name, 0)
            if name in self.news:
                _set_shape(tensor, self.news[name])
        return bool(news)

    def _type_of(self, name: str) -> int:
        record = self._records.get(name)
        return 0 if record is None else record.type.tensor_type.elem_type


def _set_shape(tensor: onnx.TypeProto.Tensor, shape: Dims) -> None:
    del tensor.shape.dim[:]
    tensor.shape.SetInParent()
    for size in shape:
        dim = tensor.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size


@cache
def alike_types(op_type: str, opset: int, inputs: int, outputs: int) -> tuple[str, ...]:
    """Return the names of the types that an operator's inputs and outputs have; empty if fixed.

    Those that have one name have one type.
    """
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except (onnx.defs.SchemaError, TypeError):
        return ()
    variables = {constraint.type_param_str for constraint in schema.type_constraints}
    kinds = []
    for formal, count in ((schema.inputs, inputs), (schema.outputs, outputs)):
        for index in range(count):
            parameter = formal[min(index, len(formal) - 1)] if formal else None
            alike = parameter is not None and parameter.is_homogeneous
            named = parameter.type_str if parameter is not None and alike else ""
            kinds.append(named if named in variables else "")
    return tuple(kinds)


def merged(known: Dims, other: Dims) -> Dims | None:
    """Return a shape with the sizes that another adds to it, or None where the two contradict.

    Of a symbol that stands for the size of an input another's number says nothing: it may be any.
    """
    if len(known) != len(other):
        return None
    pairs = [*zip(known, other, strict=True)]
    if any(isinstance(m, int) and isinstance(n, int) and m != n for m, n in pairs):
        return None
    return tuple(n if n is not None and _is_open(m) else m for m, n in pairs)


def _is_open(dim: int | str | None) -> bool:
    """Whether nothing is known of a size, but perhaps a symbol that inference made up."""
    return dim is None or str(dim).startswith(_INVENTED)


def _is_settled(shape: Dims | None) -> bool:
    return shape is not None and not any(map(_is_open, shape))


def shape_of(value: onnx.ValueInfoProto) -> Dims | None:
    """Return what a value declares of its shape; None where it says nothing of its rank."""
    if not (_is_tensor(value) and value.type.tensor_type.HasField("shape")):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    )


def _is_tensor(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") in ("tensor_type", None)


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
