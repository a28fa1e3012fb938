"""Nodes on which nothing depends: whose outputs neither a graph output nor any other node needs.

Exporters leave them behind. They read what a fold would change, and need it as it is for nobody.
"""

import onnx

from bnfold.files.walk import OWN_DOMAINS, node_count, subgraphs
from bnfold.graph.edit.messages import arrange, remove
from bnfold.graph.index.outline import Container
from bnfold.onnx_model.order import in_order, names_read


def without_unread(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a copy of a model without the nodes on which nothing depends, and their number.

    What they alone read goes with them. Operators of other domains stay, since they may do more
    than compute, and so does everything in a model that says how to train it.

    Raises:
        ModelError: Nodes read one another in a circle.
    """
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    if not model.training_info:
        for container in (pruned.graph, *pruned.functions):
            _prune(container)
    return pruned, node_count(model) - node_count(pruned)


def _prune(container: Container) -> None:
    for node in container.node:
        for graph in subgraphs(node):
            _prune(graph)
    nodes = list(container.node)
    needed = _outputs(container)
    stays = [False] * len(nodes)
    for place in reversed(in_order(nodes)):
        node = nodes[place]
        if _may_do_more(node) or not needed.isdisjoint(filter(None, node.output)):
            needed.update(names_read(node))
            stays[place] = True
    gone = [node for node, stay in zip(nodes, stays, strict=True) if not stay]
    names = {name for node in gone for name in (*names_read(node), *node.output)} - needed
    arrange(container.node, [(0, 0) if stay else None for stay in stays])
    _forget(container, names)


def _outputs(container: Container) -> set[str]:
    if isinstance(container, onnx.GraphProto):
        return {value.name for value in container.output}
    return {*container.output}


def _may_do_more(node: onnx.NodeProto) -> bool:
    """Whether a node may have an effect besides what it computes."""
    within = (inner for graph in subgraphs(node) for inner in graph.node)
    return node.domain not in OWN_DOMAINS or any(map(_may_do_more, within))


def _forget(container: Container, names: set[str]) -> None:
    """Remove constants that nobody reads now, and what is said of tensors that are gone."""
    remove(container.value_info, lambda value: value.name, names)
    if isinstance(container, onnx.GraphProto):
        unlisted = names - {value.name for value in container.input}
        remove(container.initializer, lambda stored: stored.name, unlisted)
        remove(container.sparse_initializer, lambda stored: stored.values.name, unlisted)
        remove(container.quantization_annotation, lambda note: note.tensor_name, unlisted)
