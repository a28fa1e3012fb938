"""Small networks around one linear operator, for each way in which a weight can lie."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

# By name: the linear operator, the shapes of its input and output and of its weight, the axis of
# the weight's output channels, and the shape of a constant along the output's channels.
LAYOUTS = {
    "conv": ("c = Conv(x, W)", [1, 16, 5, 5], [1, 4, 3, 3], [4, 16, 3, 3], 0, [4, 1, 1]),
    "grouped": (
        "c = Conv <group=2> (x, W)",
        [1, 32, 5, 5],
        [1, 6, 3, 3],
        [6, 16, 3, 3],
        0,
        [6, 1, 1],
    ),
    "depthwise": (
        "c = Conv <group=4> (x, W)",
        [1, 4, 5, 5],
        [1, 4, 3, 3],
        [4, 1, 3, 3],
        0,
        [4, 1, 1],
    ),
    "transposed": (
        "c = ConvTranspose(x, W)",
        [1, 16, 5, 5],
        [1, 4, 6, 6],
        [16, 4, 2, 2],
        1,
        [4, 1, 1],
    ),
    "transposed, grouped": (
        "c = ConvTranspose <group=8> (x, W)",
        [1, 16, 5, 5],
        [1, 24, 6, 6],
        [16, 3, 2, 2],
        1,
        [24, 1, 1],
    ),
    "Gemm": ("c = Gemm(x, W)", [2, 16], [2, 5], [16, 5], 1, [5]),
    "Gemm, transB": ("c = Gemm <transB=1> (x, W)", [2, 16], [2, 5], [5, 16], 0, [5]),
    "x W": ("c = MatMul(x, W)", [2, 7, 16], [2, 7, 5], [16, 5], 1, [5]),
    "x W, stacked": ("c = MatMul(x, W)", [1, 7, 16], [1, 7, 5], [1, 16, 5], 2, [5]),
    "W x": ("c = MatMul(W, x)", [2, 16, 7], [2, 5, 7], [5, 16], 0, [5, 1]),
    "Einsum": (
        'c = Einsum <equation="bic,oc->bio"> (x, W)',
        [2, 7, 16],
        [2, 7, 5],
        [5, 16],
        0,
        [5],
    ),
}


def tensor(name: str, shape: list[int], draw: np.random.Generator) -> TensorProto:
    numbers = draw.normal(size=shape) * draw.lognormal(sigma=1, size=shape)
    return numpy_helper.from_array(numbers.astype(np.float32), name)


def network(nodes: str, entering: list[int], leaving: list[int]) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]>\n'
        f"g (float{entering} x) => (float{leaving} y) {{ {nodes} }}"
    )
