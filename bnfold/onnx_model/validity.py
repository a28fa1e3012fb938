"""Whether the nodes of a model are what ONNX defines, by onnx's own checker and inference.

Each node is checked by itself: how many inputs and outputs it has, which attributes, of which
types, and whether the numbers that describe a window or a permutation can be right. Names and the
order of nodes are checked where the graph is indexed, shapes by inference. Operators that onnx does
not know are let pass, since runtimes have operators of their own.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import onnx

from bnfold.errors import ModelError, first_sentence
from bnfold.files.walk import OWN_DOMAINS, subgraphs

_LAST_VERSION: Final = 2**31 - 1
"""Onnx counts versions in 32 bits, although models store them in 64."""

_AUTO_PAD: Final = frozenset({b"", b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID"})

_LISTS: Final = frozenset({"auto_pad", "kernel_shape", "strides", "pads", "dilations", "perm"})
"""Attributes that describe a window or a permutation."""

_BARE: Final = 2
"""Axes that are not spatial: of an input the batch and the channels, of a weight both channels."""

_GROUPED: Final = {"Conv": 1, "ConvTranspose": 0}
"""Operators with groups, and their weight's axis that the input's channels run along; for a Conv
those of one group."""

Dims = Mapping[str, tuple[int | None, ...]]
"""The shapes that stored tensors have and graph inputs declare, by name."""


def require_valid(model: onnx.ModelProto) -> None:
    """Check every node of a model, of its subgraphs and of its functions.

    Raises:
        ModelError: A node is not valid ONNX; the text names it and says what is wrong.
    """
    _Check(model.ir_version, model.opset_import).graph(model.graph, {})
    for function in model.functions:
        _Check(model.ir_version, function.opset_import).nodes(function.node, {})


class _Check:
    """Checks the nodes of one scope and of those in it, which have the same opsets."""

    def __init__(self, ir_version: int, imports: Iterable[onnx.OperatorSetIdProto]) -> None:
        stated = [(i.version, int(i.domain in OWN_DOMAINS)) for i in imports]  # a 0 is not written
        for version, first in ((ir_version, 0), *stated):
            if not first <= version <= _LAST_VERSION:
                raise ModelError(f"it names version {version} of its operators, and there is none")
        self._context = onnx.checker.C.CheckerContext()
        self._context.ir_version = ir_version
        self._context.opset_imports = {i.domain: i.version for i in imports}
        versions = {i.version for i in imports if i.domain in OWN_DOMAINS}
        self._opset = max(versions, default=0)
        self._schemas: dict[str, onnx.defs.OpSchema | None] = {}

    def graph(self, graph: onnx.GraphProto, outer: Dims) -> None:
        fed = {value.name: _declared(value.type.tensor_type) for value in graph.input}
        stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        declared = {name: dims for name, dims in fed.items() if dims is not None}
        self.nodes(graph.node, {**outer, **declared, **stored})

    def nodes(self, nodes: Iterable[onnx.NodeProto], dims: Dims) -> None:
        for node in nodes:
            schema = self._schema(node)
            if schema is not None:
                self._require_defined(node)
                _require_window(node, schema, self._opset, dims)
                _require_fitting(node, dims)
            for body in subgraphs(node):
                self.graph(body, dims)

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        """Return what ONNX says of a node's operator; None where it says nothing."""
        if not node.op_type:
            raise ModelError(f"node {_label(node)} has no operator type")
        if node.domain not in OWN_DOMAINS or self._opset < 1:
            return None
        if node.op_type not in self._schemas:
            try:
                schema = onnx.defs.get_schema(node.op_type, self._opset)
            except onnx.defs.SchemaError:
                schema = None
            known = schema is not None and not schema.deprecated
            self._schemas[node.op_type] = schema if known else None
        return self._schemas[node.op_type]

    def _require_defined(self, node: onnx.NodeProto) -> None:
        """Raise `ModelError` if inputs, outputs or attributes are not those of the operator."""
        try:
            onnx.checker.check_node(_without_bulk(node), self._context)
        except onnx.checker.ValidationError as error:
            raise _invalid(node, first_sentence(error)) from error


def _without_bulk(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a node whose subgraphs and tensors, which are looked at elsewhere, are empty."""
    kept = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.TENSOR)
    if all(a.type not in kept for a in node.attribute):
        return node
    copy = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.name, input=node.input,
        output=node.output,
    )  # fmt: skip
    for attribute in node.attribute:
        if attribute.type not in kept:
            copy.attribute.append(attribute)
            continue
        empty = copy.attribute.add(
            name=attribute.name, type=attribute.type, ref_attr_name=attribute.ref_attr_name
        )
        if attribute.HasField("g"):
            empty.g.name = "body"
        elif attribute.HasField("t"):
            empty.t.data_type = onnx.TensorProto.FLOAT
            empty.t.dims.append(0)
    return copy


def _require_window(
    node: onnx.NodeProto, schema: onnx.defs.OpSchema, opset: int, dims: Dims
) -> None:
    """Raise `ModelError` if a node describes no possible window or permutation.

    ONNX's inference looks at these as soon as the rank of the input is known. It gets the rank
    that the node itself implies: the rank in a file may be wrong although the node is right.
    """
    stated = {attribute.name: attribute for attribute in node.attribute}
    if stated.keys().isdisjoint(_LISTS) or any(a.ref_attr_name for a in node.attribute):
        return
    if "auto_pad" in stated and stated["auto_pad"].s not in _AUTO_PAD:
        text = stated["auto_pad"].s.decode("utf-8", "replace")
        raise _invalid(node, f"its auto_pad is {text!r}")
    weight = _weight(node, schema, dims)
    kernel = tuple(stated["kernel_shape"].ints) if "kernel_shape" in stated else weight[_BARE:]
    if weight and kernel != weight[_BARE:]:
        raise _invalid(node, f"its kernel_shape is {list(kernel)}, its weight {list(weight)}")
    if "perm" in stated:
        implied = dims.get(node.input[0], (None,) * len(stated["perm"].ints))
    else:
        implied = (None,) * (len(kernel) + _BARE) if kernel else ()
    if implied:
        _require_inferable(node, schema, opset, (implied, *map(dims.get, node.input[1:])))


def _weight(node: onnx.NodeProto, schema: onnx.defs.OpSchema, dims: Dims) -> tuple[int | None, ...]:
    """Return the shape of the input that ONNX calls the weight, where it has spatial axes.

    Other inputs have some, too: the offsets of a DeformConv, the indices of a MaxUnpool.
    """
    named = zip(schema.inputs, node.input, strict=False)
    shape = next((dims.get(name, ()) for formal, name in named if formal.name.lower() == "w"), ())
    return shape if len(shape) > _BARE else ()


def _require_inferable(
    node: onnx.NodeProto,
    schema: onnx.defs.OpSchema,
    opset: int,
    dims: Iterable[tuple[int | None, ...] | None],
) -> None:
    """Raise `ModelError` if inference refuses a node with inputs of these shapes."""
    # Of types nothing is known here: any that the operator takes will do.
    types = [_type_of(formal) for formal in schema.inputs]
    types += types[-1:] * (len(node.input) - len(types))
    known = {
        name: onnx.helper.make_tensor_type_proto(elem_type, shape)
        for name, elem_type, shape in zip(node.input, types, dims, strict=False)
    }
    imports = [onnx.helper.make_opsetid("", opset)]
    try:
        onnx.shape_inference.infer_node_outputs(
            schema, node, known, opset_imports=imports, ir_version=onnx.IR_VERSION
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise _invalid(node, first_sentence(error)) from error


def _require_fitting(node: onnx.NodeProto, dims: Dims) -> None:
    """Raise `ModelError` if the tensors of a convolution or a normalization do not fit."""
    known = [dims.get(name) for name in node.input]
    if node.op_type == "BatchNormalization":
        shapes = [list(shape) for shape in known[1:] if shape is not None]
        if any(shape != shapes[0] for shape in shapes[1:]):
            raise _invalid(node, f"its parameters have the shapes {', '.join(map(str, shapes))}")
    if node.op_type not in _GROUPED or known[1] is None:
        return
    weight, axis = known[1], _GROUPED[node.op_type]
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if len(weight) <= _BARE or groups < 1 or (weight[0] or 0) % groups:
        raise _invalid(node, f"its weight is {list(weight)}, in {groups} groups")
    read = known[0][1] if known[0] is not None and len(known[0]) == len(weight) else None
    wanted = (weight[axis] or 0) * (groups if axis else 1)
    if read is not None and read != wanted:
        raise _invalid(node, f"its input has {read} channels, its weight {wanted}")


def _declared(declared: onnx.TypeProto.Tensor) -> tuple[int | None, ...] | None:
    if not declared.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in declared.shape.dim)


def _type_of(formal: onnx.defs.OpSchema.FormalParameter) -> int:
    """Return an element type that an input may have: float, or else the first of its types."""
    named = sorted(t.removeprefix("tensor(").removesuffix(")").upper() for t in formal.types)
    known = [name for name in ("FLOAT", *named) if name in named]
    return int(onnx.TensorProto.DataType.Value(known[0]))


def _invalid(node: onnx.NodeProto, why: str) -> ModelError:
    return ModelError(f"{node.op_type} {_label(node)} is not valid ONNX: {why}")


def _label(node: onnx.NodeProto) -> str:
    return repr(node.name or next(iter(node.output), ""))
