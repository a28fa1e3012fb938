"""Iterating over a parsed model: its tensors, values and graphs, wherever ONNX allows them."""

from collections.abc import Iterable, Iterator
from typing import Final

import onnx

OWN_DOMAINS: Final = ("", "ai.onnx")
"""The two names of the domain of ONNX's own operators."""


def opset_of(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    """Return the version of ONNX's own operators; 0 where it is not imported."""
    return next((int(i.version) for i in imports if i.domain in OWN_DOMAINS), 0)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of `model`, outermost graph first.

    Those are initializers, sparse ones' parts and nodes' attributes, in the graph, in nested
    graphs, in functions and in training information.
    """
    graphs = [model.graph]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    for graph in graphs:
        yield from _in_graph(graph)
    for function in model.functions:
        yield from _in_attributes(function.attribute_proto)
        yield from _in_nodes(function.node)


def values(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    """Yield every declared value: inputs, outputs and those in between, of functions too."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        holder = waiting.pop()
        yield from holder.value_info
        if isinstance(holder, onnx.GraphProto):
            yield from holder.input
            yield from holder.output
        for node in holder.node:
            if node.attribute:
                waiting += subgraphs(node)


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the main graph and every nested one, those in functions too."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, onnx.GraphProto):
            yield holder
        for node in holder.node:
            if node.attribute:
                waiting += subgraphs(node)


def node_count(model: onnx.ModelProto) -> int:
    """Return the number of nodes, those of subgraphs and functions included."""
    count, waiting = 0, [model.graph, *model.functions]
    while waiting:
        nodes = waiting.pop().node
        count += len(nodes)
        for node in nodes:
            if node.attribute:
                waiting += subgraphs(node)
    return count


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        if node.attribute:
            yield from _in_attributes(node.attribute)


def _in_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        # What an attribute holds decides, not its `type`, which may be wrong or missing.
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _in_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _in_graph(graph)
        sparse = list(attribute.sparse_tensors)
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        for one in sparse:
            yield one.values
            yield one.indices
