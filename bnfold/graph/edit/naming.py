"""Names that are free again.

While a model is edited, what is new may have no name that the model has. When all is done, some of
these names belong to nobody any more: `weight`, which a Conv and a node that went have read, and of
which the Conv reads `weight_2` now. The constant that wished for such a name gets it.
"""

from collections.abc import Mapping, Sequence

import onnx

from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.names import Names, listed
from bnfold.graph.index.outline import Container


def give_names_back(
    graph: Graph, containers: Sequence[Container], names: Names, gone: Mapping[int, set[str]]
) -> None:
    """Let new constants have the names that they wished for, where those have become free.

    A name stands for one tensor in both models, whoever compares them. So only the name of a
    constant is given away.

    Args:
        graph: What is known of the model as it was.
        containers: Its graphs and functions as they are now; they are edited.
        names: The new names.
        gone: The names of tensors that do not exist any more, by scope.
    """
    if all(name == wish for name, wish in names.wishes.items()):
        return
    view = graph.view
    free: set[str] = set()
    in_use = set(names.wishes)
    for tensor in view.tensors:
        is_free = tensor.number in graph.constants and tensor.name in gone.get(tensor.scope, ())
        (free if is_free else in_use).add(tensor.name)
    for scope in view.scopes:
        in_use.update(
            name for name in listed(scope.proto) if name not in gone.get(scope.number, ())
        )
    new: dict[str, str] = {}
    for name, wish in names.wishes.items():
        if wish in free and wish not in in_use:
            new[name] = wish
            in_use.add(wish)
    if new:
        for container in containers:
            _rename(container, new)


def _rename(container: Container, new: Mapping[str, str]) -> None:
    """Rename tensors whose names each stand for one tensor only."""
    if isinstance(container, onnx.GraphProto):
        for stored in container.initializer:
            if stored.name in new:
                stored.name = new[stored.name]
    for node in container.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in new:
                    names[index] = new[name]
