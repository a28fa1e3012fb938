"""Transformer blocks, written out the way PyTorch's exporters write them at each opset.

The operators that an opset does not have are spelled out: layer normalization before opset 17,
and every activation. `blocks` makes a whole model; the functions that spell something out take and
return names of tensors, so that a test may put one of them somewhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


Scaled = Literal["scores", "query", "both"]
"""Where attention is scaled: its scores (BERT), its query (timm), or query and key (PyTorch)."""

_LAYER_NORMALIZATION_OPSET = 17
_AXES_INPUT_OPSET = 18  # of ReduceMean
_SPLIT_INPUT_OPSET = 13
_SQUEEZE_INPUT_OPSET = 13
_IR_VERSION = 8


class Writer:
    """Nodes and initializers of a graph under construction."""

    def __init__(self, opset: int, elem_type: int = TensorProto.FLOAT, seed: int = 0) -> None:
        self.opset = opset
        self.elem_type = elem_type
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, values: object, dtype: type | None = None) -> str:
        name = f"c{len(self.initializers)}"
        kind = dtype or helper.tensor_dtype_to_np_dtype(self.elem_type)
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def random(self, *shape: int, around: float = 0.0, spread: float = 0.3) -> str:
        return self.constant(around + spread * self._random.standard_normal(shape))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, inputs: Mapping[str, tuple[int | str, ...]], *outputs: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(n, self.elem_type, s) for n, s in inputs.items()]
        made = [helper.make_tensor_value_info(name, self.elem_type, [None] * 3) for name in outputs]
        graph = helper.make_graph(self.nodes, "blocks", given, made, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


# -- activations ------------------------------------------------------------------------------


def gelu(w: Writer, x: str) -> str:
    """x/√2 → Erf → + 1 → · x → · ½."""
    erf = w.op("Erf", w.op("Div", x, w.constant(2**0.5)))
    return w.op("Mul", w.op("Mul", x, w.op("Add", erf, w.constant(1))), w.constant(0.5))


def hard_swish(w: Writer, x: str) -> str:
    """Clip(x + 3, 0, 6) · x / 6."""
    shifted = w.op("Add", x, w.constant(3))
    clipped = w.op("Clip", shifted, w.constant(0), w.constant(6))
    return w.op("Div", w.op("Mul", x, clipped), w.constant(6))


def quick_gelu(w: Writer, x: str) -> str:
    """Return x σ(1.702 x)."""
    return w.op("Mul", x, w.op("Sigmoid", w.op("Mul", x, w.constant(1.702))))


def tanh_gelu(w: Writer, x: str) -> str:
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    cubic = w.op("Mul", w.op("Pow", x, w.constant(3)), w.constant(0.044715))
    inner = w.op("Mul", w.op("Add", x, cubic), w.constant((2 / np.pi) ** 0.5))
    grown = w.op("Add", w.op("Tanh", inner), w.constant(1))
    return w.op("Mul", w.op("Mul", x, w.constant(0.5)), grown)


ACTIVATIONS: Final[Mapping[str, Callable[[Writer, str], str]]] = {
    "gelu": gelu,
    "hard-swish": hard_swish,
    "quick-gelu": quick_gelu,
    "tanh-gelu": tanh_gelu,
}


# -- layers -----------------------------------------------------------------------------------


def mean(w: Writer, x: str, op_type: str = "ReduceMean", axis: int = -1) -> str:
    if w.opset >= _AXES_INPUT_OPSET:
        return w.op(op_type, x, w.integers(axis), keepdims=1)
    return w.op(op_type, x, axes=[axis], keepdims=1)


def layer_norm(w: Writer, x: str, width: int) -> str:
    scale, shift = w.random(width, around=1), w.random(width)
    if w.opset >= _LAYER_NORMALIZATION_OPSET:
        return w.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)
    centred = w.op("Sub", x, mean(w, x))
    variance = mean(w, w.op("Pow", centred, w.constant(2)))
    deviation = w.op("Sqrt", w.op("Add", variance, w.constant(1e-5)))
    return w.op("Add", w.op("Mul", w.op("Div", centred, deviation), scale), shift)


def linear(w: Writer, x: str, inner: int, outer: int) -> str:
    weight = w.random(inner, outer, spread=inner**-0.5)
    return w.op("Add", w.random(outer), w.op("MatMul", x, weight))


def attention(w: Writer, x: str, width: int, heads: int, tokens: int, scaled: Scaled) -> str:
    size = width // heads
    parts = []
    for _ in range(3):
        split = w.op("Reshape", linear(w, x, width, width), w.integers(0, tokens, heads, size))
        parts.append(split)
    query = w.op("Transpose", parts[0], perm=[0, 2, 1, 3])
    key = w.op("Transpose", parts[1], perm=[0, 2, 3, 1])
    value = w.op("Transpose", parts[2], perm=[0, 2, 1, 3])
    if scaled == "query":
        query = w.op("Mul", query, w.constant(size**-0.5))
    if scaled == "both":
        query = w.op("Mul", query, w.constant(size**-0.25))
        key = w.op("Mul", key, w.constant(size**-0.25))
    scores = w.op("MatMul", query, key)
    if scaled == "scores":
        scores = w.op("Div", scores, w.constant(size**0.5))
    mixed = w.op("MatMul", w.op("Softmax", scores, axis=-1), value)
    joined = w.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return linear(w, w.op("Reshape", joined, w.integers(0, tokens, width)), width, width)


def block(w: Writer, x: str, kind: Kind) -> str:
    width = kind.width

    def scaled(x: str) -> str:
        return w.op("Mul", x, w.random(width, spread=0.1)) if kind.layer_scales else x

    def attend(x: str) -> str:
        return scaled(attention(w, x, width, 2, kind.tokens, kind.scaled))

    def feed_forward(x: str) -> str:
        hidden = ACTIVATIONS[kind.activation](w, linear(w, x, width, 4 * width))
        return scaled(linear(w, hidden, 4 * width, width))

    if kind.pre_norm:
        x = w.op("Add", x, attend(layer_norm(w, x, width)))
        return w.op("Add", x, feed_forward(layer_norm(w, x, width)))
    x = layer_norm(w, w.op("Add", x, attend(x)), width)
    return layer_norm(w, w.op("Add", x, feed_forward(x)), width)


@dataclass(frozen=True)
class Kind:
    """What blocks are like.

    Attributes:
        activation: One of `ACTIVATIONS`.
        pre_norm: Whether what a branch reads is normalized, or the sum.
        scaled: Where attention is scaled.
        layer_scales: Whether what a branch makes is scaled per channel.
        batch: The first dimension of the input.
        width: Of a token.
        tokens: How many.
    """

    activation: str = "gelu"
    pre_norm: bool = True
    scaled: Scaled = "scores"
    layer_scales: bool = False
    batch: int | str = "batch"
    width: int = 16
    tokens: int = 6


def blocks(opset: int, kind: Kind = Kind(), count: int = 2) -> onnx.ModelProto:
    """Several blocks behind one another."""
    w = Writer(opset)
    x = "x"
    for _ in range(count):
        x = block(w, x, kind)
    return w.model({"x": (kind.batch, kind.tokens, kind.width)}, x)
