"""What hides a shape is named, where that is another node than the one that needs it."""

from __future__ import annotations

import onnx
import pytest

import bnfold

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17, "other" : 1]>
g (float[1,2,4,4] x, int64[n] s) => (float[?,?,?,?] z)
<float[2,2,1,1] W = {1, 2, 3, 4}, float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1},
 float[2] v = {1, 4}>
{
  y = Conv (x, W)
  BETWEEN
  z = BatchNormalization <epsilon = 0.0> (p, g, b, e, v)
}
"""


@pytest.mark.parametrize(
    ("between", "detail"),
    [
        (
            "t = other.Twist (y)  r = Relu (t)  p = Concat <axis = 1> (r)",
            "r rank, hidden by Twist 't' of other",
        ),
        (
            "t = Reshape (y, s)  r = Relu (t)  p = Concat <axis = 1> (r)",
            "r rank, hidden by Reshape 't'",
        ),
        ("p = Reshape (y, s)", "reshape"),
    ],
)
def test_the_operator_that_hides_a_shape_is_named(between: str, detail: str) -> None:
    folding = bnfold.fold(onnx.parser.parse_model(_NETWORK.replace("BETWEEN", between)))
    (kept,) = folding.kept
    assert kept.above.reason == "unknown-shape"
    assert detail in kept.above.text
    assert ("hidden by" in kept.above.text) == ("hidden by" in detail)
