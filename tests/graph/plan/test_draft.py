"""Which nodes are the bias of a linear operator."""

from __future__ import annotations

import onnx
import pytest
from evaluation import assert_same

import bnfold

_BEHIND_MATMUL = """
<ir_version: 8, opset_import: ["" : 17]>
g (double[2,2] x) => (double[2,2] z)
<double[2,2] W = {1, 2, 3, 4}, double[2] c = {3, 5},
 double[2] g = {2, 3}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {4, 9}>
{
  p = MatMul (x, W)
  y = BIAS
  z = BatchNormalization (y, g, b, e, v)
}
"""


@pytest.mark.parametrize("bias", ["Add (p, c)", "Add (c, p)", "Sub (p, c)", "Sub (c, p)"])
def test_what_follows_a_matmul_is_its_bias_only_if_it_adds_its_constant(bias: str) -> None:
    model = onnx.parser.parse_model(_BEHIND_MATMUL.replace("BIAS", bias))
    folding = bnfold.fold(model)
    assert_same(model, folding.model)
    assert folding.after.batch_normalizations == 0


def test_a_normalization_with_scale_one_is_no_bias() -> None:
    text = _BEHIND_MATMUL.replace(
        "y = BIAS", "y = BatchNormalization <epsilon = 0.0> (p, one, c, e, one)"
    )
    model = onnx.parser.parse_model(
        text.replace("double[2] c", "double[2] one = {1, 1}, double[2] c")
    )
    folding = bnfold.fold(model)
    assert_same(model, folding.model)
    assert folding.after.batch_normalizations == 0
