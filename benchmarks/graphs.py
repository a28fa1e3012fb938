"""What planning and rewriting cost as graphs grow, with tiny weights.

    python benchmarks/graphs.py
    python benchmarks/graphs.py --nodes 1000 10000 --rounds 3

onnx-graphsurgeon's import is timed apart, and so is ONNX's shape inference, which is part of what
is judged. A cost that is linear in the graph stays the same per 1,000 nodes.
"""

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from statistics import median
from typing import Final

import numpy as np
import onnx
from measure import provenance, table
from onnx import TensorProto, helper, numpy_helper
from stages import Stopwatch, decide

from bnfold.files import from_proto

CHANNELS: Final = 8
_JUDGED: Final = ("view", "shape inference", "plan", "rewrite")
_TARGET_NODES: Final = 10_000
_TARGET_SECONDS: Final = 2.0


class Builder:
    """A graph in the making; every tensor has 1×C×8×8 numbers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, op_type: str, inputs: Sequence[str], axis: int | None = None) -> str:
        """Add a node and return the name of its output."""
        name = f"n{len(self.nodes)}"
        made = helper.make_node(op_type, inputs, [f"{name}.out"], name, axis=axis)
        self.nodes.append(made)
        return f"{name}.out"

    def constant(self, *shape: int) -> str:
        """Add random numbers above 1/2 and return their name."""
        name = f"c{len(self.initializers)}"
        values = self._random.uniform(0.5, 1.5, shape).astype(np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, source: str, channels: int = CHANNELS) -> str:
        """Add a convolution of 1×1 from so many channels."""
        return self.node("Conv", [source, self.constant(CHANNELS, channels, 1, 1)])

    def norm(self, source: str, channels: int = CHANNELS) -> str:
        """Add a BatchNormalization."""
        parameters = [self.constant(channels) for _ in range(4)]
        return self.node("BatchNormalization", [source, *parameters])

    def model(self, output: str) -> onnx.ModelProto:
        """Return the model that computes a tensor."""
        shape = [1, CHANNELS, 8, 8]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "graph", [x], [y], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def straight(nodes: int) -> onnx.ModelProto:
    """Return Conv → BN → Relu, again and again."""
    builder, tensor = Builder(), "x"
    while len(builder.nodes) < nodes:
        tensor = builder.node("Relu", [builder.norm(builder.conv(tensor))])
    return builder.model(tensor)


def branchy(nodes: int) -> onnx.ModelProto:
    """Return blocks of two branches, a Concat with a BN behind it, and a residual sum.

    Every block's input has three readers; the BN behind the Concat goes down, the others up.
    """
    builder, tensor = Builder(), "x"
    while len(builder.nodes) < nodes:
        left = builder.node("Relu", [builder.norm(builder.conv(tensor))])
        right = builder.norm(builder.conv(tensor))
        both = builder.node("Concat", [left, right], axis=1)
        inner = builder.conv(builder.norm(both, 2 * CHANNELS), 2 * CHANNELS)
        tensor = builder.node("Relu", [builder.node("Add", [builder.norm(inner), tensor])])
    return builder.model(tensor)


SHAPES: Final[dict[str, Callable[[int], onnx.ModelProto]]] = {
    "chain of Conv, BN, Relu": straight,
    "branches, Concat, Add, shared readers": branchy,
}


def measured(model: onnx.ModelProto, rounds: int) -> dict[str, float]:
    """Return the median seconds of each stage."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        watch = Stopwatch()
        gc.collect()
        gc.disable()  # as the tool does
        with watch.apart(), from_proto(model) as opened:
            decide(opened, watch)
        gc.enable()
        for name, value in watch.seconds.items():
            seconds.setdefault(name, []).append(value)
    return {name: median(values) for name, values in seconds.items()}


def rows(sizes: Sequence[int], rounds: int) -> Iterator[list[str]]:
    """Yield a table's row for each graph."""
    for title, build in SHAPES.items():
        for nodes in sizes:
            model = build(nodes)
            count = len(model.graph.node)
            seconds = measured(model, rounds)
            total = sum(seconds[name] for name in _JUDGED)
            verdict = ""
            if nodes == _TARGET_NODES:
                met = "met" if total < _TARGET_SECONDS else "missed"
                verdict = f"< {_TARGET_SECONDS:g} s: {met}"
            stages = (f"{seconds[name]:.3f} s" for name in ("graphsurgeon", *_JUDGED))
            per_thousand = f"{total / count * 1e6:.1f} ms"
            yield list(
                chain([title, f"{count}"], stages, [f"{total:.3f} s", per_thousand, verdict])
            )


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time of planning and rewriting graphs.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(words)
    print(provenance())
    print()
    head = ["graph", "nodes", "graphsurgeon", *_JUDGED, "beyond it", "per 1,000 nodes", "target"]
    print(table(head, rows(arguments.nodes, arguments.rounds)))


if __name__ == "__main__":
    main()
