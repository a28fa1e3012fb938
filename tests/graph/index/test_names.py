from __future__ import annotations

import onnx

from bnfold.graph.index.names import Names
from bnfold.graph.index.view import View

_TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool k) => (float[2] z) <float[2] stored = {1, 2}, float[2] unread = {1, 2}>
{
  y = Add (x, stored)
  z = If (k) <
    then_branch = g1 () => (float[2] t) { inner = Relu (y) t = Neg (inner) },
    else_branch = g2 () => (float[2] s) { s = Neg (y) }
  >
}
"""


def test_a_fresh_name_is_in_use_nowhere() -> None:
    names = Names(View(onnx.parser.parse_model(_TEXT)))
    for taken in ("x", "y", "z", "stored", "unread", "inner", "t", "k"):
        assert names.fresh(taken) != taken
    assert names.fresh("new") == "new"
    assert names.fresh("new") == "new_2"
    assert names.fresh("new") == "new_3"
