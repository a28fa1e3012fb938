"""Small models that declare what no memory could hold, and a program that folds them all.

    python hungry.py

folds each and prints its name, how many nodes are left, and the peak memory so far in megabytes.
"""

import json
import resource
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bnfold.folding import fold
from bnfold.onnx_model import inference
from bnfold.processes.fork import own_process

HUGE = 2_000_000_000
PLANE = [1, 4, 2, 2]
CONV = helper.make_node("Conv", ["x", "w"], ["c"])
SCALE = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1)
KERNEL = np.ones((4, 4, 1, 1), np.float32)


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], **attributes)


def model(
    nodes: Iterable[NodeProto],
    shapes: dict[str, list[int]] | None = None,
    functions: Iterable[onnx.FunctionProto] = (),
    **constants: Any,
) -> onnx.ModelProto:
    """A model that ends in y, with inputs of these shapes and constants of these values."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (shapes or {"x": PLANE}).items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(list(nodes), "g", inputs, [output], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    made.functions.extend(functions)
    return made


def behind_a_scale(*nodes: NodeProto, **constants: Any) -> onnx.ModelProto:
    """A scale that wants down through some nodes, from s, into a Conv that reads r."""
    ends = node("Mul", "x k", "s"), node("Conv", "r w", "y")
    return model([ends[0], *nodes, ends[1]], k=SCALE, w=KERNEL[:1], **constants)


def before_a_scale(*nodes: NodeProto, **constants: Any) -> onnx.ModelProto:
    """A constant b, made by some nodes, that scales what a Conv gives."""
    return model([*nodes, CONV, node("Mul", "c b", "y")], w=KERNEL, **constants)


def called_twice(depth: int) -> list[onnx.FunctionProto]:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    made = [helper.make_function("d", "F0", ["a"], ["b"], [node("Relu", "a", "b")], opsets)]
    for i in range(1, depth):
        calls = [node(f"F{i - 1}", "a", "t", domain="d"), node(f"F{i - 1}", "t", "b", domain="d")]
        made.append(helper.make_function("d", f"F{i}", ["a"], ["b"], calls, opsets))
    return made


def models() -> dict[str, onnx.ModelProto]:
    one = numpy_helper.from_array(np.ones(1, np.float32))
    wide = {"x": PLANE} | {f"z{i}": [1, 1 << 22, 1, 1] for i in range(50)}
    joined = " ".join(wide).replace("x", "s", 1)
    plane = {"x": [1, 4, 1 << 16, 1 << 16]}
    doubled = [node("Concat", f"t{i} t{i}", f"t{i + 1}", axis=0) for i in range(60)]
    scales: dict[str, Any] = {f"k{i}": np.float32(i + 2) for i in range(60)}
    fold_me = [CONV, node("Mul", "c k", "y")]
    return {
        "concat": model(
            [
                node("Mul", "x k", "s"),
                node("Concat", joined, "r", axis=1),
                node("Conv", "r w", "y"),
            ],
            wide,
            k=SCALE,
            w=KERNEL[:1],
        ),
        "pad": behind_a_scale(node("Pad", "s p", "r"), p=[0, 0, 0, 0, 0, HUGE, 0, 0]),
        "space to depth": behind_a_scale(node("SpaceToDepth", "s", "r", blocksize=1 << 20)),
        "gather": behind_a_scale(
            node("Gather", "s i", "g", axis=1),
            node("Unsqueeze", "g o", "u"),
            node("Gather", "u i", "r", axis=1),
            i=np.zeros(1 << 12, np.int64),
            o=[1],
        ),
        "two axes": model(
            [node("Mul", "x k", "s"), node("Mul", "s l", "r"), node("Conv", "r w", "y")],
            plane,
            k=np.arange(1 << 16, dtype=np.float32).reshape(-1, 1),
            l=np.arange(1 << 16, dtype=np.float32),
            w=KERNEL,
        ),
        "constant of shape": before_a_scale(
            node("ConstantOfShape", "n", "b", value=one), n=[1 << 31]
        ),
        "its size is computed": before_a_scale(
            node("Exp", "e", "f"),
            node("Cast", "f", "n", to=TensorProto.INT64),
            node("ConstantOfShape", "n", "b", value=one),
            e=np.array([22], np.float32),
        ),
        "expand": before_a_scale(
            node("Expand", "o n", "b"), o=np.array([1], np.float32), n=[1 << 31]
        ),
        "tile": before_a_scale(node("Tile", "o n", "b"), o=np.array([1], np.float32), n=[1 << 31]),
        "range": before_a_scale(
            node("Range", "n0 n1 n2", "n"),
            node("Cast", "n", "b", to=TensorProto.FLOAT),
            n0=np.int64(0),
            n1=np.int64(1 << 40),
            n2=np.int64(1),
        ),
        "outer product": before_a_scale(
            node("Add", "p q", "r"),
            node("ReduceSum", "r", "b", keepdims=0),
            p=np.ones((40000, 1), np.float32),
            q=np.ones((1, 40000), np.float32),
        ),
        "einsum": before_a_scale(
            node("Einsum", "p p p p p", "b", equation="a,b,c,d,e->"), p=np.ones(500, np.float32)
        ),
        "pads of a computed conv": before_a_scale(
            node("Conv", "p w0", "b", pads=[1 << 20] * 4, strides=[1 << 21] * 2),
            p=np.ones((1, 1, 1, 1), np.float32),
            w0=np.ones((1, 1, 1, 1), np.float32),
        ),
        "many computed weights": model(
            [
                made
                for i in range(60)
                for made in (
                    node("ConstantOfShape", "n", f"w{i}", value=one),
                    node("Conv", f"x w{i}", f"c{i}"),
                    node("Mul", f"c{i} k", f"m{i}"),
                )
            ]
            + [node("Sum", " ".join(f"m{i}" for i in range(60)), "y")],
            {"x": [1, 1 << 20, 1, 1]},
            n=[4, 1 << 20, 1, 1],
            k=SCALE,
        ),
        "clones": model(
            [
                made
                for i in range(60)
                for made in (
                    node("Conv", "x w", f"c{i}"),
                    node("Mul", f"c{i} k{i}", f"m{i}"),
                )
            ]
            + [node("Sum", " ".join(f"m{i}" for i in range(60)), "y")],
            {"x": [1, 1, 1, 1]},
            w=np.ones((1 << 19, 1, 1, 1), np.float32),
            **scales,
        ),
        "followed numbers": model([*doubled, *fold_me], w=KERNEL, k=SCALE, t0=[1]),
        "followed shape": model([node("Shape", "x", "t0"), *doubled, *fold_me], w=KERNEL, k=SCALE),
        "a vector on the way": model(
            [node("ConstantOfShape", "n", "f"), node("Gather", "f f", "g"), *fold_me],
            w=KERNEL,
            k=SCALE,
            n=[1 << 24],
        ),
        "functions": model(
            [node("F39", "x", "f", domain="d"), *fold_me], None, called_twice(40), w=KERNEL, k=SCALE
        ),
    }


def main() -> None:
    own_process()
    inference.__dict__["_MEMORY"] = 1 << 27  # soon met
    for name, made in models().items():
        left = len(fold(made).model.graph.node) / len(made.graph.node)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        json.dump([name, left, peak], sys.stdout)
        print(flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
