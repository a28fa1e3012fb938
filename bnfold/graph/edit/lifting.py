"""Constants written as initializers.

A Constant node holds its numbers in one of seven attributes, and not every runtime or converter
reads them all. An initializer is read by all of them.
"""

from collections.abc import Iterator

import numpy as np
import onnx

from bnfold.files.walk import OWN_DOMAINS, subgraphs
from bnfold.graph.edit.messages import arrange

FIRST_IR = 4
"""Up to IR version 3 every initializer is an input, too, and would change the interface."""

_NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
_TEXTS = {"value_string", "value_strings"}


def lift_constants(model: onnx.ModelProto) -> int:
    """Write the constants of all graphs as initializers of the same names; return how many.

    The model, of IR version 4 or later, is edited. What stays a node: constants of local functions,
    which hold no initializers, and those that are outputs of their graph, for runtimes want a node
    that makes an output.
    """
    return sum(_lift(graph) for graph in _graphs(model.graph))


def liftable(model: onnx.ModelProto) -> int:
    """Return how many constants could be written as initializers."""
    return sum(len(_found(graph)) for graph in _graphs(model.graph))


def _lift(graph: onnx.GraphProto) -> int:
    found = _found(graph)
    for node in found.values():
        _store(graph, node)
    if found:
        ranks = [None if place in found else (place, 0) for place in range(len(graph.node))]
        arrange(graph.node, ranks)
    return len(found)


def _found(graph: onnx.GraphProto) -> dict[int, onnx.NodeProto]:
    """Return the Constant nodes of a graph that can be initializers, by their places."""
    outputs = {value.name for value in graph.output}
    return {
        place: node
        for place, node in enumerate(graph.node)
        if _is_constant(node) and outputs.isdisjoint(node.output)
    }


def _is_constant(node: onnx.NodeProto) -> bool:
    if node.op_type != "Constant" or node.domain not in OWN_DOMAINS:
        return False
    if len(node.attribute) != 1 or len(node.output) != 1 or not node.output[0]:
        return False
    return node.attribute[0].name in {"value", "sparse_value", *_NUMBERS, *_TEXTS}


def _store(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Add what a Constant node holds to the initializers, with the remarks about it."""
    (name,), (attribute,) = node.output, node.attribute
    if attribute.name == "sparse_value":
        stored = graph.sparse_initializer.add()
        stored.CopyFrom(attribute.sparse_tensor)
        stored.values.name = name
        return
    tensor = graph.initializer.add()
    tensor.CopyFrom(_dense(attribute))
    tensor.name = name
    if node.doc_string and not tensor.doc_string:
        tensor.doc_string = node.doc_string
    tensor.metadata_props.extend(node.metadata_props)


def _dense(attribute: onnx.AttributeProto) -> onnx.TensorProto:
    if attribute.name == "value":
        return attribute.t
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in _NUMBERS:
        return onnx.numpy_helper.from_array(np.asarray(value, _NUMBERS[attribute.name]))
    texts = value if isinstance(value, list) else [value]
    dims = [len(texts)] if isinstance(value, list) else []
    return onnx.TensorProto(data_type=onnx.TensorProto.STRING, dims=dims, string_data=texts)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those within."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)
