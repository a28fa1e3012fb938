"""What an edit must take care of besides the numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants
from test_remarks import CHAIN

import bnfold

_BOTH_BRANCHES = """
<ir_version: IR, opset_import: ["" : 11]>
g (double[1,2,3,3] x, bool k LISTED) => (double[1,2,3,3] z, double[1,2,3,3] other)
<double[2,2,1,1] W = {1, 2, 3, 4}, double[2] g = {2, 6}, double[2] b = {1, 2},
 double[2] e = {1, 1}, double[2] v = {1, 4}>
{
  V = SOURCE (W)
  z = If (k) <
    then_branch = g1 () => (double[1,2,3,3] t)
      { y = Conv (x, V) t = BatchNormalization (y, g, b, e, v) },
    else_branch = g2 () => (double[1,2,3,3] s)
      { u = Conv (x, V) s = BatchNormalization (u, g, b, e, v) }>
  other = Conv (x, V)
}
"""
_ALSO_LISTED = ", double[2,2,1,1] W, double[2] g, double[2] b, double[2] e, double[2] v"


@pytest.mark.parametrize(("version", "listed"), [("3", _ALSO_LISTED), ("8", "")])
@pytest.mark.parametrize("source", ["Identity", "Neg"])
@pytest.mark.parametrize("other", ["Conv (x, V)", "Relu (x)"])
def test_what_several_scopes_share_is_where_all_of_them_see_it(
    version: str, listed: str, source: str, other: str
) -> None:
    text = _BOTH_BRANCHES.replace("IR,", f"{version},").replace(" LISTED", listed)
    text = text.replace("SOURCE", source).replace("other = Conv (x, V)", f"other = {other}")
    model = onnx.parser.parse_model(text)
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    assert folding.after.batch_normalizations == 0
    for taken in (False, True):
        assert_same(model, folding.model, {"x": np.ones((1, 2, 3, 3)), "k": np.asarray(taken)})


def test_adds_that_are_left_of_normalizations_are_counted() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,2] x) => (float[1,2,2] z)
        <float[2,2] W = {1, 2, 3, 4}, float[2] g = {2, 6}, float[2] b = {1, 2},
         float[2] e = {1, 1}, float[2] v = {1, 4}>
        { p = MatMul (x, W) t = Transpose <perm = [0, 2, 1]> (p)
          z = BatchNormalization (t, g, b, e, v) }"""
    assert bnfold.fold(onnx.parser.parse_model(text)).adds == 1
    assert bnfold.fold(onnx.parser.parse_model(CHAIN)).adds == 0
