"""The blocks of published re-parameterizable networks as they are exported: branches still apart.

Each function builds one block of a tensor and returns its output, from what its authors' code says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_CHANNELS = 6
_SIZE = 9


@dataclass
class Net:
    """A model under construction.

    Attributes:
        seed: Of its numbers.
        size: The spatial size of its inputs; None to leave it open.
        elem_type: Of all its numbers.
        opset: The version of ONNX's operators.
    """

    seed: int = 0
    size: int | None = None
    elem_type: int = TensorProto.FLOAT
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def number(self, values: Any, stem: str = "c") -> str:
        name = self.name(stem)
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(helper.tensor_dtype_to_np_dtype(self.elem_type))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = self.name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, [*inputs], [name], name=name, **attributes))
        return name

    def feed(self, channels: int = _CHANNELS) -> str:
        name = self.name("x")
        shape: list[str | int | None] = ["n", channels, self.size or "h", self.size or "w"]
        self.inputs.append(helper.make_tensor_value_info(name, self.elem_type, shape))
        return name

    def conv(
        self,
        x: str,
        k: int | tuple[int, int] = 3,
        *,
        depthwise: bool = False,
        bias: bool = False,
        pads: Any = None,
        dilation: int = 1,
        **attributes: Any,
    ) -> str:
        kernel = (k, k) if isinstance(k, int) else k
        groups = _CHANNELS if depthwise else 1
        weight = self.rng.standard_normal((_CHANNELS, _CHANNELS // groups, *kernel))
        inputs = [x, self.number(weight * np.sqrt(groups / weight.size), "conv.weight")]
        if bias:
            inputs.append(self.number(self.rng.standard_normal(_CHANNELS), "conv.bias"))
        half = [dilation * (n - 1) // 2 for n in kernel]
        return self.op(
            "Conv", *inputs, group=groups, pads=pads or [*half, *half], kernel_shape=[*kernel],
            dilations=[dilation] * 2, **attributes,
        )  # fmt: skip

    def bn(self, x: str) -> str:
        c = _CHANNELS
        parts = [
            self.rng.uniform(0.5, 1.5, c) * self.rng.choice([-1.0, 1.0], c),
            self.rng.standard_normal(c),
            self.rng.standard_normal(c),
            self.rng.uniform(0.5, 2.0, c),
        ]
        names = ("bn.weight", "bn.bias", "bn.mean", "bn.var")
        params = (self.number(p, n) for p, n in zip(parts, names, strict=True))
        return self.op("BatchNormalization", x, *params)

    def add(self, first: str, *more: str) -> str:
        for one in more:
            first = self.op("Add", first, one)
        return first

    def turn(self, x: str) -> str:
        """Let height and width change places."""
        return self.op("Transpose", x, perm=[0, 1, 3, 2])

    def output(self, tensor: str, rank: int = 4) -> None:
        self.outputs.append(helper.make_tensor_value_info(tensor, self.elem_type, [None] * rank))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.initializers)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9
        )


def repvgg(net: Net, x: str) -> str:
    dense, point = net.bn(net.conv(x)), net.bn(net.conv(x, 1))
    return net.op("Relu", net.add(dense, point, net.bn(x)))


def mobileone(net: Net, x: str) -> str:
    total = net.add(net.bn(x), net.bn(net.conv(x, 1, depthwise=True)))
    for _ in range(4):
        total = net.op("Add", net.bn(net.conv(x, depthwise=True)), total)
    x = net.op("Relu", total)
    total = net.bn(x)
    for _ in range(4):
        total = net.op("Add", total, net.bn(net.conv(x, 1)))
    return net.op("Relu", total)


def repghost(net: Net, x: str) -> str:
    residual = net.op("Relu", x)
    inner = net.op("Relu", net.bn(net.conv(residual, 1)))
    branch = net.add(net.bn(net.conv(inner, depthwise=True)), net.bn(inner))
    return net.op("Add", branch, residual)


def ghostnet_v3(net: Net, x: str) -> str:
    point = net.op("Relu", net.add(*(net.bn(net.conv(x, 1)) for _ in range(3))))
    branches = [net.bn(net.conv(point, depthwise=True)) for _ in range(3)]
    return net.add(*branches, net.bn(net.conv(point, 1, depthwise=True)), net.bn(point))


def fastvit_mixer(net: Net, x: str) -> str:
    conv = net.bn(net.conv(x, depthwise=True))
    point = net.bn(net.conv(x, 1, depthwise=True))
    mixed = net.op("Sub", net.add(net.bn(x), point, conv), net.bn(x))
    scale = net.number(net.rng.standard_normal((_CHANNELS, 1, 1)), "layer_scale.gamma")
    return net.op("Add", x, net.op("Mul", scale, mixed))


def fastvit_patches(net: Net, x: str) -> str:
    large = net.bn(net.conv(x, 7, depthwise=True, strides=[2, 2]))
    small = net.bn(net.conv(x, 3, depthwise=True, strides=[2, 2]))
    return net.op("Relu", net.add(large, small))


def repvit(net: Net, x: str) -> str:
    conv = net.bn(net.conv(x, depthwise=True))
    return net.bn(net.add(conv, net.conv(x, 1, depthwise=True, bias=True), x))


def pp_lcnet_v3(net: Net, x: str) -> str:
    branches = [net.bn(net.conv(x, 5, depthwise=True)) for _ in range(4)]
    total = net.add(net.bn(x), net.bn(net.conv(x, 1, depthwise=True)), *branches)
    scaled = net.op("Mul", total, net.number([1.5], "lab.scale"))
    return net.op("HardSwish", net.op("Add", scaled, net.number([0.25], "lab.bias")))


def lcnet_v2(net: Net, x: str) -> str:
    total = net.add(*(net.conv(x, k, depthwise=True, bias=True) for k in (5, 3, 1)))
    return net.op("Relu", total)


def qarepvgg(net: Net, x: str) -> str:
    alpha = net.number(0.7, "alpha")
    point = net.op("Mul", alpha, net.conv(x, 1, bias=True))
    return net.op("Relu", net.bn(net.add(net.bn(net.conv(x)), point, x)))


def qarepvgg_pooled(net: Net, x: str) -> str:
    pool = net.op(
        "AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], count_include_pad=1
    )
    return net.op("Relu", net.bn(net.add(net.bn(net.conv(x)), net.conv(x, 1, bias=True), pool)))


def repopt(net: Net, x: str) -> str:
    scales = [net.number(net.rng.standard_normal((1, _CHANNELS, 1, 1)), "scale") for _ in range(3)]
    dense, point, bare = net.conv(x), net.conv(x, 1), x
    scaled = [net.op("Mul", t, s) for t, s in zip((dense, point, bare), scales, strict=True)]
    return net.op("Relu", net.bn(net.add(*scaled)))


def unireplknet(net: Net, x: str) -> str:
    total = net.bn(net.conv(x, 13, depthwise=True))
    for k, dilation in ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)):
        total = net.op("Add", total, net.bn(net.conv(x, k, depthwise=True, dilation=dilation)))
    return total


def replknet(net: Net, x: str) -> str:
    return net.add(*(net.bn(net.conv(x, k, depthwise=True)) for k in (31, 5)))


def acnet(net: Net, x: str) -> str:
    square = net.bn(net.conv(x, 3))
    return net.op("Relu", net.add(square, net.bn(net.conv(x, (3, 1))), net.bn(net.conv(x, (1, 3)))))


def acnet_cropped(net: Net, x: str) -> str:
    square = net.bn(net.conv(x, 3, pads=[0, 0, 0, 0]))
    bounds = [net.number(np.asarray(v), "crop") for v in ([1], [-1])]
    rows = net.op("Slice", x, *bounds, net.number(np.asarray([2]), "axis"))
    columns = net.op("Slice", x, *bounds, net.number(np.asarray([3]), "axis"))
    vertical = net.bn(net.conv(columns, (3, 1), pads=[0, 0, 0, 0]))
    horizontal = net.bn(net.conv(rows, (1, 3), pads=[0, 0, 0, 0]))
    return net.op("Relu", net.add(square, net.add(vertical, horizontal)))


def yolo_v6(net: Net, x: str) -> str:
    for _ in range(2):
        x = repvgg(net, x)
    return x


def yolo_v7(net: Net, x: str) -> str:
    total = net.add(net.bn(net.conv(x)), net.bn(net.conv(x, 1)), net.bn(x))
    return net.op("Mul", total, net.op("Sigmoid", total))


def yolo_v9(net: Net, x: str) -> str:
    total = net.add(net.bn(net.conv(x)), net.bn(net.conv(x, 1)))
    return net.op("Mul", total, net.op("Sigmoid", total))


def yolo_v10(net: Net, x: str) -> str:
    total = net.add(*(net.bn(net.conv(x, k, depthwise=True)) for k in (7, 3)))
    return net.op("Mul", total, net.op("Sigmoid", total))


def levit_heads(net: Net, x: str) -> str:
    flat = net.op("Flatten", net.op("GlobalAveragePool", x))
    made = []
    for _ in range(2):
        weight = net.number(net.rng.standard_normal((4, _CHANNELS)), "head.weight")
        bias = net.number(net.rng.standard_normal(4), "head.bias")
        made.append(net.op("Gemm", net.bn(flat), weight, bias, transB=1))
    return net.op("Div", net.add(*made), net.number(2.0, "two"))


class ChannelsLast(Net):
    """A model whose channels are the last axis, but for what knows them on the second one only.

    Around each such operator there are Transposes.
    """

    def __init__(self, *, shared: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.shared = shared
        self.turned: dict[str, str] = {}

    def number(self, values: Any, stem: str = "c") -> str:
        array = np.asarray(values)
        if stem == "axis":
            array -= 1
        elif array.ndim in (3, 4) and stem != "conv.weight":
            array = array.reshape(-1)
        return super().number(array, stem)

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        if op_type not in ("AveragePool", "BatchNormalization", "Conv", "GlobalAveragePool"):
            return super().op(op_type, *inputs, **attributes)
        made = super().op(op_type, self.channels_second(inputs[0]), *inputs[1:], **attributes)
        return super().op("Transpose", made, perm=[0, 2, 3, 1])

    def channels_second(self, x: str) -> str:
        """Turn a tensor; all readers share what that makes, or each has its own."""
        if x not in self.turned or not self.shared:
            self.turned[x] = super().op("Transpose", x, perm=[0, 3, 1, 2])
        return self.turned[x]

    def feed(self, channels: int = _CHANNELS) -> str:
        name = self.name("x")
        shape: list[str | int | None] = ["n", self.size or "h", self.size or "w", channels]
        self.inputs.append(helper.make_tensor_value_info(name, self.elem_type, shape))
        return name


Block = Callable[[Net, str], str]

BLOCKS: Mapping[str, tuple[Block, int]] = {
    "RepVGG": (repvgg, 1),
    "MobileOne": (mobileone, 2),
    "RepGhost": (repghost, 2),
    "GhostNetV3": (ghostnet_v3, 2),
    "FastViT mixer": (fastvit_mixer, 1),
    "FastViT patches": (fastvit_patches, 1),
    "RepViT": (repvit, 1),
    "PP-LCNetV3": (pp_lcnet_v3, 1),
    "PP-LCNetV2": (lcnet_v2, 1),
    "QARepVGG": (qarepvgg, 1),
    "QARepVGG with a pool": (qarepvgg_pooled, 1),
    "RepOpt": (repopt, 1),
    "UniRepLKNet": (unireplknet, 1),
    "RepLKNet": (replknet, 1),
    "ACNet": (acnet, 1),
    "ACNet with crops": (acnet_cropped, 1),
    "YOLOv6": (yolo_v6, 2),
    "YOLOv7": (yolo_v7, 1),
    "YOLOv9": (yolo_v9, 1),
    "YOLOv10": (yolo_v10, 1),
    "LeViT heads": (levit_heads, 1),
}
"""The blocks, and how many linear operators each is once its branches are one."""


CHANNELS_LAST = [name for name in BLOCKS if name not in ("ACNet with crops", "LeViT heads")]
"""Those that become one operator also where the channels are the last axis; heads have none."""


def block_model(name: str, kind: type[Net] = Net, **options: Any) -> onnx.ModelProto:
    """One block as a model."""
    return all_blocks(kind, [name], **options)


def all_blocks(
    kind: type[Net] = Net, names: Iterable[str] = BLOCKS, **options: Any
) -> onnx.ModelProto:
    """Some of them side by side, each with an input and an output."""
    net = kind(**options)
    for name in names:
        net.output(BLOCKS[name][0](net, net.feed()), 2 if name == "LeViT heads" else 4)
    return net.model()
