"""Folding makes no model slower: ONNX Runtime executes no more after it than before."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import realmodels
import transformer
from executed import assert_no_more_is_executed
from halves import half_model
from transformer import Kind

import bnfold

if TYPE_CHECKING:
    from pathlib import Path


def check(model: onnx.ModelProto) -> bool:
    """Whether anything was folded; what was not folded is what it was."""
    folding = bnfold.fold(model)
    if folding.folds:
        assert_no_more_is_executed(model, folding.model)
    return bool(folding.folds)


@pytest.mark.parametrize("path", realmodels.all_committed(), ids=lambda path: path.stem)
def test_a_committed_network(path: Path) -> None:
    assert check(onnx.ModelProto.FromString(path.read_bytes()))


@pytest.mark.full
@pytest.mark.parametrize("name", realmodels.LIGHT)
def test_a_light_network(name: str) -> None:
    assert check(onnx.ModelProto.FromString(realmodels.light(name).read_bytes()))


EACH = list(itertools.product((11, 13, 17, 20), transformer.ACTIVATIONS))
each_kind = pytest.mark.parametrize(("opset", "activation"), EACH)
each_order = pytest.mark.parametrize("pre_norm", [True, False], ids=["pre", "post"])


@each_kind
@each_order
def test_transformer_blocks(opset: int, activation: str, *, pre_norm: bool) -> None:
    for batch in (1, "batch"):
        model = transformer.blocks(opset, Kind(activation, pre_norm, batch=batch), count=1)
        onnx.checker.check_model(model, full_check=True)
        assert not check(model), "there is nothing to fold in it"


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("scaled", ["query", "both"])
def test_attention_scaled_elsewhere(opset: int, scaled: transformer.Scaled) -> None:
    assert not check(transformer.blocks(opset, Kind(scaled=scaled), count=1))


@each_kind
@each_order
def test_what_lies_around_the_composites_goes(
    opset: int, activation: str, *, pre_norm: bool
) -> None:
    """The layer scales; and the composites are still what ONNX Runtime looks for."""
    kind = Kind(activation, pre_norm, layer_scales=True)
    assert check(transformer.blocks(opset, kind, count=1))


@pytest.mark.parametrize("batch", [2, "batch"])
@pytest.mark.parametrize("flattened", [True, False])
@pytest.mark.parametrize("restored", [True, False])
def test_a_normalization_behind_a_product_without_a_bias(
    batch: int | str, *, flattened: bool, restored: bool
) -> None:
    """As LeViT has them; ONNX Runtime itself folds some, and makes a Gemm of others."""
    w = transformer.Writer(17)
    y = w.op("MatMul", "x", w.random(8, 6))
    if flattened:
        y = w.op("Reshape", y, w.integers(-1, 6))
    if not flattened:
        y = w.op("Transpose", y, perm=[0, 2, 1])
    statistics = w.random(6, around=1), w.random(6), w.random(6), w.random(6, around=2)
    y = w.op("BatchNormalization", y, *statistics)
    if restored:
        y = w.op("Reshape", y, w.integers(-1, 5, 6))
    model = w.model({"x": (batch, 5, 8)}, w.op("Tanh", y))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert check(model)


def test_a_normalization_behind_a_product_whose_shape_is_computed() -> None:
    """ONNX Runtime computes it, and with it the shape of what is added to the product."""
    w = transformer.Writer(17, onnx.TensorProto.FLOAT16)
    ones = [w.op("Unsqueeze", w.integers(size), w.integers(0)) for size in (2, 5, 8)]
    sizes = w.op("Reshape", w.op("Concat", *ones, axis=0), w.integers(-1))
    y = w.op("MatMul", w.op("Reshape", w.op("Sigmoid", "x"), sizes), w.random(8, 6))
    statistics = w.random(6, around=1), w.random(6), w.random(6), w.random(6, around=2)
    y = w.op("BatchNormalization", w.op("Flatten", y, axis=2), *statistics)
    assert check(w.model({"x": (2, 40)}, w.op("Tanh", y)))


@pytest.mark.parametrize("batch", [2, "batch"])
def test_a_layer_scale_in_half_precision(batch: int | str) -> None:
    """A Gemm between Reshapes, as ONNX Runtime makes of a product and a vector, is cast around."""
    dice, node = np.random.default_rng(0), onnx.helper.make_node
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("MatMul", ["r", "W"], ["m"]),
        node("Add", ["m", "b"], ["a"]),
        node("Mul", ["a", "g"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["z", "K"], ["c"]),
        node("Add", ["c", "t"], ["y"]),
    ]
    shapes = {"W": (6, 5), "b": (5,), "g": (5,), "K": (5, 3, 1, 1)}
    stored = {name: dice.normal(size=shape) for name, shape in shapes.items()}
    takes = {"x": (batch, 4, 4, 6), "z": (batch, 3, 4, 4)}
    assert check(half_model(nodes, takes, {"y": (batch, 5, 4, 4)}, stored))
