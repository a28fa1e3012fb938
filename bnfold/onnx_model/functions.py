"""Which local functions call which, and how much they come to."""

from collections import Counter
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from bnfold.limits import INLINED, NESTED

FunctionId = tuple[str, str]
"""The domain and the name of a local function."""


def expansion(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many nodes a model has once all functions are inlined, and how deep calls nest.

    A function that calls itself counts as more than any limit; no runtime takes it.
    """
    if not model.functions:
        return 0, 0
    bodies = {(f.domain, f.name): Counter(calls(f.node)) for f in model.functions}
    sizes: dict[FunctionId, int] = {}
    depths: dict[FunctionId, int] = {}
    try:
        for name in TopologicalSorter(bodies).static_order():
            body = bodies.get(name, Counter())
            sizes[name] = sum(n * sizes[call] for call, n in body.items()) if name in bodies else 1
            depths[name] = max((depths[call] for call in body), default=0) + (name in bodies)
    except CycleError:
        return INLINED + 1, NESTED + 1
    called = list(calls(model.graph.node))
    return sum(sizes.get(call, 1) for call in called), max(depths.values(), default=0)


def calls(nodes: Collection[onnx.NodeProto]) -> Iterator[FunctionId]:
    """Yield the operators of all nodes, in subgraphs too."""
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from calls(attribute.g.node)
