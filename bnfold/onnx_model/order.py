"""The order of a graph's nodes, which need not be that in which they are listed."""

from collections.abc import Iterator, Sequence
from itertools import chain

import onnx

from bnfold.errors import ModelError


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """Return the nodes' indices so that each comes after what it reads, in its subgraphs too.

    ONNX asks for nodes to be listed so, but some converters do not, and runtimes sort them.

    Raises:
        ModelError: The nodes read one another in a circle.
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    before = [{maker[name] for name in names_read(node) if name in maker} for node in nodes]
    if all(max(needed, default=-1) < i for i, needed in enumerate(before)):
        return list(range(len(nodes)))
    from graphlib import CycleError, TopologicalSorter

    try:
        return list(TopologicalSorter(dict(enumerate(before))).static_order())
    except CycleError as error:
        circle = nodes[error.args[1][0]]
        name = circle.name or next(iter(circle.output), "")
        raise ModelError(f"the graph has a circle through node '{name}'") from error


def put_in_order(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Put the nodes of a graph or a function, and of its subgraphs, in that order.

    Raises:
        ModelError: The nodes read one another in a circle.
    """
    order = in_order(graph.node)
    places = dict(zip(order, range(len(order)), strict=True))
    ranks = iter([places[index] for index in range(len(order))])
    graph.node.sort(key=lambda _: next(ranks))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                put_in_order(attribute.g)


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield every name that a node reads, and what its subgraphs read from outside."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from names_from_outside(attribute.g)


def names_from_outside(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield every name that a subgraph takes from around it."""
    own = {value.name for value in graph.input}
    own.update(tensor.name for tensor in graph.initializer)
    own.update(sparse.values.name for sparse in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    read = chain.from_iterable(map(names_read, graph.node))
    yield from (name for name in read if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)
