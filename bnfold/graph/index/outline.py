"""What onnx-graphsurgeon is shown of a model: names and nesting, without attributes and numbers."""

from collections import Counter
from collections.abc import Sequence

import onnx

from bnfold.errors import ModelError
from bnfold.files.walk import opset_of

Container = onnx.GraphProto | onnx.FunctionProto


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the names in a model, in the form that graphsurgeon reads.

    Subgraphs are left out; each has an `outline_of_body`.

    Attributes and types are left out: graphsurgeon fails on some that are legal (strings that are
    not UTF-8, sparse tensors, newer element types), and none is looked at through it.
    """
    drawn = onnx.ModelProto(ir_version=model.ir_version)
    drawn.opset_import.add(domain="", version=opset_of(model.opset_import) or 1)
    _outline_graph(model.graph, drawn.graph)
    for function in model.functions:
        body = drawn.functions.add(name=function.name, domain=function.domain)
        body.opset_import.add(domain="", version=opset_of(function.opset_import) or 1)
        body.input.extend(function.input)
        body.output.extend(function.output)
        _outline_nodes(function.node, body)
    return drawn


def outline_of_body(body: onnx.GraphProto) -> onnx.GraphProto:
    """Return the names in a subgraph, without those in its own subgraphs."""
    drawn = onnx.GraphProto()
    _outline_graph(body, drawn)
    return drawn


def _outline_graph(graph: onnx.GraphProto, drawn: onnx.GraphProto) -> None:
    for stored in graph.initializer:
        drawn.initializer.add(name=stored.name, data_type=onnx.TensorProto.FLOAT)
    for sparse in graph.sparse_initializer:
        drawn.initializer.add(name=sparse.values.name, data_type=onnx.TensorProto.FLOAT)
    for value in graph.input:
        drawn.input.add(name=value.name)
    for value in graph.output:
        drawn.output.add(name=value.name)
    _outline_nodes(graph.node, drawn)


def _require_one_each(node: onnx.NodeProto) -> None:
    """Refuse two attributes of one name: nobody can tell which of them counts."""
    names = [attribute.name for attribute in node.attribute]
    if len(names) > 1 and len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        label = node.name or next(iter(node.output), "")
        raise ModelError(f"node '{label}' has the attribute '{twice}' twice")


def _outline_nodes(nodes: Sequence[onnx.NodeProto], drawn: Container) -> None:
    for node in nodes:
        drawn.node.add(op_type=node.op_type, input=node.input, output=node.output)
        _require_one_each(node)
