"""New numbers have the name of the old ones wherever nobody reads these any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from commandline import load, model_in, run_here
from evaluation import assert_same
from invariants import check_invariants

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,2,3,3] x) => (float[N,2,3,3] z RESULTS)
<float[2,2,1,1] W = {1, 2, 3, 4}, float[2] g = {2, 6}, float[2] b = {1, 2},
 float[2] e = {1, 1}, float[2] v = {1, 4}, float[2] h = {3, 7}>
{ BODY }"""
_ZEROS = "s = Shape <start = 0, end = 1> (W) zero = Constant <value = float {0}> () "
_EXPORTED = (
    _ZEROS + "c = Expand (zero, s) y = Conv (x, W, c) z = BatchNormalization (y, g, b, e, v)"
)
_COMPUTED = (
    "V = Transpose <perm = [1, 0, 2, 3]> (W) y = Conv (x, V) z = BatchNormalization (y, g, b, e, v)"
)
_TWO = (
    "y = Conv (x, W) z = BatchNormalization (y, g, b, e, v) "
    "u = Conv (x, W) r = BatchNormalization (u, h, b, e, v)"
)


def _folded(body: str, results: str = "") -> onnx.ModelProto:
    model = onnx.parser.parse_model(_HEAD.replace("BODY", body).replace("RESULTS", results))
    folding = bnfold.fold(model, merge=False)
    check_invariants(model, folding)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 2, 3, 3))}
    assert_same(model, folding.model, feeds, elem_type=onnx.TensorProto.FLOAT)
    assert not folding.after.batch_normalizations
    return folding.model


def _read(model: onnx.ModelProto) -> list[list[str]]:
    return [list(node.input) for node in model.graph.node if node.op_type == "Conv"]


def test_a_weight_whose_other_reader_goes() -> None:
    """PyTorch's newer exporter reads a weight's shape to make a bias of zeros."""
    model = _folded(_EXPORTED)
    assert _read(model) == [["x", "W", "c"]]
    assert [tensor.name for tensor in model.graph.initializer] == ["W", "h", "c"]


def test_a_weight_that_is_computed() -> None:
    assert _read(_folded(_COMPUTED)) == [["x", "V", "V_bias"]]


def test_the_first_of_two_versions() -> None:
    first, second = _read(_folded(_TWO, ", float[N,2,3,3] r"))
    assert [first[1], second[1]] == ["W", "W_2"]


def test_a_weight_that_is_still_read_keeps_its_numbers() -> None:
    body = "y = Conv (x, W) z = BatchNormalization (y, g, b, e, v) r = Conv (x, W)"
    first, second = _read(_folded(body, ", float[N,2,3,3] r"))
    assert [first[1], second[1]] == ["W_2", "W"]


def test_a_weight_that_is_an_output_keeps_its_numbers() -> None:
    assert _read(_folded(_EXPORTED, ", float[2,2,1,1] W"))[0][1] == "W_2"


_QUANTIZED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] z, float[1,2,3,3] r)
<int8[2,2,1,1] Q = {1, 2, 3, 4}, float S = {0.5}, float[2] g = {2, 6}, float[2] b = {1, 2},
 float[2] e = {1, 1}, float[2] v = {1, 4}, float[2] h = {3, 7}>
{ W = DequantizeLinear (Q, S)
  y = Conv (x, W) z = BatchNormalization (y, g, b, e, v)
  u = Conv (x, W) r = BatchNormalization (u, h, b, e, v) }"""


def test_a_quantized_weight_of_two_readers() -> None:
    model = onnx.parser.parse_model(_QUANTIZED)
    folding = bnfold.fold(model, merge=False)
    check_invariants(model, folding)
    first, second = _read(folding.model)
    assert first[1] == "W" != second[1]
    assert "Q" in {tensor.name for tensor in folding.model.graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_raw", "levit"])
def test_the_verifying_command_line(tmp_path: Path, name: str) -> None:
    source = model_in(tmp_path, name)
    done = run_here(source, "-o", "folded.onnx", cwd=tmp_path)
    assert done.code == 0, done.err
    before, after = load(source).graph, load(tmp_path / "folded.onnx").graph
    stored = {tensor.name for tensor in before.initializer}
    left = {tensor.name for tensor in after.initializer}
    assert not [n for n in left if n.endswith("_2") and n[:-2] in stored]
    weights = {node.input[1] for node in after.node if node.op_type in ("Conv", "ConvTranspose")}
    assert weights <= stored
