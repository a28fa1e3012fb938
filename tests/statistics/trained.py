"""Small networks with normalizations, and their statistics by ONNX's reference evaluator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, NDArray[Any]]


def normalization(
    x: str, y: str, stem: str, *, outputs: Sequence[str] = (), **attributes: Any
) -> onnx.NodeProto:
    parameters = [f"{stem}.{name}" for name in ("gamma", "beta", "mean", "var")]
    return helper.make_node(
        "BatchNormalization", [x, *parameters], [y, *outputs], name=stem, **attributes
    )


def parameters(stem: str, channels: int, rng: np.random.Generator) -> Arrays:
    return {
        f"{stem}.gamma": rng.lognormal(size=channels),
        f"{stem}.beta": rng.normal(size=channels),
        f"{stem}.mean": rng.normal(size=channels),
        f"{stem}.var": rng.lognormal(size=channels),
    }


def model(
    nodes: Sequence[onnx.NodeProto],
    stored: Arrays,
    x: Sequence[int | str] = ("N", 2, 6, 6),
    *,
    opset: int = 17,
    elem_type: int = TensorProto.FLOAT,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    initializers = [
        numpy_helper.from_array(v.astype(dtype) if v.dtype.kind == "f" else v, name)
        for name, v in stored.items()
    ]
    graph = helper.make_graph(
        list(nodes), "net",
        [helper.make_tensor_value_info("x", elem_type, list(x))],
        [helper.make_tensor_value_info("y", elem_type, [None] * len(x))],
        initializers,
    )  # fmt: skip
    imports = [
        helper.make_opsetid("", opset),
        *{
            helper.make_opsetid(f.domain, 1).domain: helper.make_opsetid(f.domain, 1)
            for f in functions
        }.values(),
    ]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)


def two_layers(
    opset: int = 17,
    elem_type: int = TensorProto.FLOAT,
    *,
    training: bool = False,
    dims: int = 2,
    size: int | str = 6,
) -> onnx.ModelProto:
    """Conv → BN → Relu → grouped Conv → BN, in the words of an opset."""
    rng = np.random.default_rng(opset)
    stored = parameters("one", 4, rng) | parameters("two", 4, rng)
    stored["w1"] = rng.normal(size=(4, 2, *(3,) * dims))
    stored["w2"] = rng.normal(size=(4, 2, *(1,) * dims))
    extra = [
        [f"{stem}.{i}" for i in range(1, 5 if opset < 14 else 3)] if training and opset > 6 else []
        for stem in ("one", "two")
    ]
    mode = {} if opset > 6 else {"is_test": int(not training)}
    if training and opset >= 14:
        mode = {"training_mode": 1}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        normalization("c1", "b1", "one", epsilon=1e-3, outputs=extra[0], **mode),
        helper.make_node("Relu", ["b1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=2),
        normalization("c2", "y", "two", outputs=extra[1], **mode),
    ]
    return model(nodes, stored, ("N", 2, *(size,) * dims), opset=opset, elem_type=elem_type)


def batches(
    count: int = 3, size: int = 8, shape: Sequence[int] = (2, 6, 6), dtype: Any = np.float32
) -> list[Arrays]:
    rng = np.random.default_rng(count)
    return [{"x": rng.normal(0.3, 1.5, (size + i, *shape)).astype(dtype)} for i in range(count)]


def truth(
    net: onnx.ModelProto, feeds: Sequence[Arrays]
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """E and Var of each normalization of the main graph, in float64.

    Each is put into training mode with a momentum of 0, in which its second and third outputs are
    the mean and the biased variance of the batch.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(net)
    for stored in wide.graph.initializer:
        if stored.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            stored.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(stored).astype(np.float64), stored.name
                )
            )
    norms = [node for node in wide.graph.node if node.op_type == "BatchNormalization"]
    for node in norms:
        epsilon = [a for a in node.attribute if a.name == "epsilon"]
        del node.attribute[:], node.output[1:]
        node.attribute.extend(
            [
                *epsilon,
                helper.make_attribute("momentum", 0.0),
                helper.make_attribute("training_mode", 1),
            ]
        )
        node.output.extend([f"{node.name}/E", f"{node.name}/V"])
    wide.opset_import[0].version = 15
    inner = {name for node in norms for name in (node.input[0], node.output[1], node.output[2])}
    del wide.graph.output[:]
    wide.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in sorted(inner)
    )
    wide.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    evaluator = ReferenceEvaluator(wide)
    names = [value.name for value in wide.graph.output]
    found: dict[str, tuple[list[Any], list[Any]]] = {node.name: ([], []) for node in norms}
    for feed in feeds:
        values = dict(
            zip(names, evaluator.run(None, {"x": feed["x"].astype(np.float64)}), strict=True)
        )
        for node in norms:
            x = values[node.input[0]]
            m = x.size // x.shape[1]
            found[node.name][0].append(values[f"{node.name}/E"])
            found[node.name][1].append(values[f"{node.name}/V"] * m / (m - 1))
    return {name: (np.mean(e, axis=0), np.mean(v, axis=0)) for name, (e, v) in found.items()}
