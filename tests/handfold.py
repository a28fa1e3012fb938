"""Small networks with batch normalizations, and a folder of twenty lines to verify.

The folder here shares nothing with bnfold's: what verifies must not be tested with what it
verifies only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnfold.region import Region

Array = NDArray[Any]
Parameters = dict[str, Any]
Fault = Callable[[str, Parameters], Parameters]
"""Given a BN's name and its parameters, returns those that the faulty folder takes."""

DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


@dataclass
class Builder:
    """Grows a network layer by layer."""

    rng: np.random.Generator
    elem_type: int = TensorProto.FLOAT
    epsilon: float = 1e-3
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, values: Array) -> str:
        self.initializers.append(
            numpy_helper.from_array(values.astype(DTYPES[self.elem_type]), name)
        )
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(
            helper.make_node(op_type, inputs, [output], name=f"{output}_node", **attributes)
        )
        return output

    def conv(
        self, x: str, name: str, c_in: int, c_out: int, *, group: int = 1, k: int = 3, step: int = 1
    ) -> str:
        scale = np.sqrt(2.0 / (c_in // group * k * k))
        W = self.rng.standard_normal((c_out, c_in // group, k, k)) * scale
        b = self.rng.standard_normal(c_out) * 0.1
        inputs = [x, self.weight(f"{name}.W", W), self.weight(f"{name}.b", b)]
        pads = [k // 2 * step] * 4
        return self.node("Conv", inputs, name, group=group, pads=pads, dilations=[step] * 2)

    def bn(self, x: str, name: str, channels: int) -> str:
        """Add a batch normalization with statistics as training leaves them."""
        rng = self.rng
        gamma = rng.uniform(0.5, 1.5, channels)
        gamma[rng.random(channels) < 0.1] *= 1e-4  # dead channels
        variance = rng.uniform(0.3, 3.0, channels)
        variance[rng.random(channels) < 0.1] *= 1e-3
        parameters = {
            "gamma": gamma,
            "beta": rng.standard_normal(channels) * 0.2,
            "mean": rng.standard_normal(channels) * 0.3,
            "var": variance,
        }
        inputs = [x, *(self.weight(f"{name}.{key}", v) for key, v in parameters.items())]
        return self.node("BatchNormalization", inputs, name, epsilon=self.epsilon)

    def model(self, x: list[Any], output: str, *, opset: int = 15, ir: int = 8) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", self.elem_type, x)],
            [helper.make_tensor_value_info(output, self.elem_type, None)],
            self.initializers,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir
        )


def network(
    seed: int,
    *,
    depth: int = 4,
    kind: str = "plain",
    elem_type: int = TensorProto.FLOAT,
    channels: int = 8,
    size: int = 12,
) -> onnx.ModelProto:
    """Return a network of `depth` blocks: Conv, BN, Relu; residual or depthwise on demand."""
    net = Builder(np.random.default_rng(seed), elem_type)
    x = net.node("Relu", [net.bn(net.conv("x", "stem", 3, channels), "stem_bn", channels)], "r")
    for i in range(depth):
        y = x
        if kind == "depthwise":
            y = net.conv(y, f"d{i}", channels, channels, group=channels)
            y = net.node("Relu", [net.bn(y, f"d{i}_bn", channels)], f"d{i}_r")
        k = 1 if kind == "depthwise" else 3
        y = net.bn(net.conv(y, f"c{i}", channels, channels, k=k), f"c{i}_bn", channels)
        if kind == "residual":
            y = net.node("Add", [x, y], f"s{i}")
        x = net.node("Relu", [y], f"r{i}")
    x = net.node("GlobalAveragePool", [x], "pooled")
    x = net.node("Flatten", [x], "flat")
    W = net.weight("head.W", net.rng.standard_normal((10, channels)))
    x = net.node("Gemm", [x, W], "y", transB=1)
    return net.model([1, 3, size, size], x)


def fold(
    model: onnx.ModelProto, fault: Fault | None = None
) -> tuple[onnx.ModelProto, list[Region]]:
    """Fold every Conv→BN pair, with `fault` where one is wanted; return the regions too."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    values = {t.name: t for t in graph.initializer}
    convs = {n.output[0]: n for n in graph.node if n.op_type == "Conv"}
    regions = []
    for bn in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = convs[bn.input[0]]
        W, b = (numpy_helper.to_array(values[name]) for name in conv.input[1:3])
        keys = ("gamma", "beta", "mean", "var")
        p: Parameters = {
            key: numpy_helper.to_array(values[name]).astype(np.float64)
            for key, name in zip(keys, bn.input[1:], strict=True)
        }
        p |= {"eps": np.float64(np.float32(bn.attribute[0].f)), "W": W.astype(np.float64)}
        p["b"] = b.astype(np.float64)
        p = fault(bn.name, p) if fault else p
        s = p["gamma"] / np.sqrt(p["var"] + p["eps"])
        W_new, b_new = p["W"] * s.reshape(-1, 1, 1, 1), s * (p["b"] - p["mean"]) + p["beta"]
        for name, old, new in ((conv.input[1], W, W_new), (conv.input[2], b, b_new)):
            values[name].CopyFrom(numpy_helper.from_array(new.astype(old.dtype), name))
        regions.append(Region((), (conv.input[0],), (bn.output[0],)))
        conv.output[0] = bn.output[0]
        graph.node.remove(bn)
        for name in bn.input[1:]:
            graph.initializer.remove(values[name])
    return folded, regions
