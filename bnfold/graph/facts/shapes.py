"""Shapes and element types of a model's tensors, by ONNX's own shape inference.

Unknown dimensions of the graph's inputs are given symbols first, so that equal dimensions stay
recognizably equal. Where inference stops (an operator that it does not know, a local function),
the weight of a linear operator still tells the rank and the channels of its output.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.walk import OWN_DOMAINS
from bnfold.graph.index.view import NONE, Node, View
from bnfold.onnx_model.annotations import alike_types
from bnfold.onnx_model.inference import Inference
from bnfold.onnx_model.ranks import output_shape
from bnfold.region import ScopePath
from bnfold.rules.operator import Dim, Shape

_ELEM_TYPES = frozenset(onnx.helper.get_all_tensor_dtypes())

_SMALL = 64
"""Elements; of a larger constant, inference gets the shape and not the numbers."""


class Shapes:
    """What is known of every tensor of a view.

    Attributes:
        shapes: The shape by the tensor's number; absent where not even the rank is known.
        elem_types: The `onnx.TensorProto.DataType` by the tensor's number.
        evident: Those shapes that the model tells without anything being computed.
    """

    def __init__(
        self,
        view: View,
        inferred: onnx.ModelProto,
        computed: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        """Gather what is known."""
        self.shapes: dict[int, Shape] = {}
        self.elem_types: dict[int, int] = {}
        for tensor in view.tensors:
            if tensor.initializer is not None:
                self.shapes[tensor.number] = tuple(tensor.initializer.dims)
                self._learn_type(tensor.number, tensor.initializer.data_type)
        known = _typed_values(inferred)
        known |= {((), name): _typed(name, value) for name, value in (computed or {}).items()}
        for tensor in view.tensors:
            path = view.scopes[tensor.scope].path
            value = known.get((path, tensor.name))
            if value is not None and tensor.number not in self.shapes:
                self._learn(tensor.number, value)
        self.evident = {} if computed else dict(self.shapes)
        for node in view.nodes:
            self._fill_in(view, node.number)

    def _learn(self, tensor: int, value: onnx.ValueInfoProto) -> None:
        typed = value.type.tensor_type
        self._learn_type(tensor, typed.elem_type)
        if typed.HasField("shape"):
            self.shapes[tensor] = tuple(_dim(d) for d in typed.shape.dim)

    def _learn_type(self, tensor: int, elem_type: int) -> None:
        """Learn an element type, if the number stands for one."""
        if elem_type in _ELEM_TYPES:
            self.elem_types[tensor] = elem_type

    def _fill_in(self, view: View, number: int) -> None:
        """Learn a node's first output from its weight or its input, where inference did not."""
        node = view.nodes[number]
        if not node.outputs or node.outputs[0] == NONE or node.outputs[0] in self.shapes:
            return
        if node.proto.domain not in OWN_DOMAINS:  # there the same word may mean anything
            return
        output = node.outputs[0]
        if node.proto.op_type == "Constant":
            self._learn_constant(output, node.proto)
            return
        known = [None if t == NONE else self.shapes.get(t) for t in node.inputs]
        shape = output_shape(node.proto, known)
        if shape is not None:
            self.shapes[output] = shape
            self._take_type(output, node, view.scopes[node.scope].opset)

    def _take_type(self, output: int, node: Node, opset: int) -> None:
        """Learn an element type that an operator's first output shares with an input."""
        kinds = alike_types(node.proto.op_type, opset, len(node.inputs), 1)
        for tensor, kind in zip(node.inputs, kinds, strict=False):
            if kind and kind == kinds[-1] and tensor in self.elem_types:
                self.elem_types.setdefault(output, self.elem_types[tensor])

    def _learn_constant(self, output: int, proto: onnx.NodeProto) -> None:
        for attribute in proto.attribute:
            if attribute.name == "value":
                self.shapes[output] = tuple(attribute.t.dims)
                self._learn_type(output, attribute.t.data_type)


def inference(
    model: onnx.ModelProto,
    computed: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    check: bool = False,
) -> Inference:
    """Begin shape inference.

    Args:
        model: The model.
        computed: Constants of the main graph that are known to be computed to these numbers, by
            name; inference does not compute them itself.
        check: Whether to look first whether the model's nodes are valid.
    """
    return Inference(model, partial(_prepare, computed or {}), check=check)


def _prepare(computed: Mapping[str, NDArray[np.generic]], copy: onnx.ModelProto) -> None:
    """Add to a model what inference would not find out by itself."""
    _name_unknown_dims(copy.graph.input)
    small = {name: value for name, value in computed.items() if value.size <= _SMALL}
    for name, value in small.items():
        copy.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    large = computed.keys() - small.keys()
    listed = {value.name: value for value in copy.graph.value_info}
    for name in sorted(large):
        (listed.get(name) or copy.graph.value_info.add()).CopyFrom(_typed(name, computed[name]))
    if small:
        nodes = [node for node in copy.graph.node if not small.keys() & set(node.output)]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)


def _typed(name: str, value: NDArray[np.generic]) -> onnx.ValueInfoProto:
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, elem_type, value.shape)


def _name_unknown_dims(inputs: Iterable[onnx.ValueInfoProto]) -> None:
    for i, value in enumerate(inputs):
        if not value.type.tensor_type.HasField("shape"):
            continue
        for j, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_param and not _is_known(dim):
                dim.dim_param = f"unknown input dim {i} {j}"


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    size = dim.dim_value
    if size > 0:  # most are; a dimension that is a symbol has no size
        return size
    return dim.dim_param or (0 if _is_known(dim) else None)


def _is_known(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether a dimension is a number; some exporters write -1 for an unknown one."""
    return dim.HasField("dim_value") and dim.dim_value >= 0


def _typed_values(model: onnx.ModelProto) -> dict[tuple[ScopePath, str], onnx.ValueInfoProto]:
    """Return every typed value of the main graph and its subgraphs, by scope and name."""
    values: dict[tuple[ScopePath, str], onnx.ValueInfoProto] = {}
    graphs: list[tuple[ScopePath, onnx.GraphProto]] = [((), model.graph)]
    while graphs:
        path, graph = graphs.pop()
        for listed in (graph.value_info, graph.output, graph.input):
            values.update(((path, value.name), value) for value in listed)
        for node in graph.node:
            owner = next(iter(node.output), "")
            graphs.extend(
                ((*path, (owner, attribute.name)), attribute.g)
                for attribute in node.attribute
                if attribute.HasField("g")
            )
    return values
