"""Single decisions of the search; the tables are searched in test_rows and test_random_graphs."""

from __future__ import annotations

import onnx
import pytest
from evaluation import assert_same

import bnfold
from bnfold.reasons import Reason

_PADDED = """
<ir_version: 8, opset_import: ["" : 9]>
g (TYPE[1,1,4,4] x) => (TYPE[1,1,5,5] z)
<TYPE[1,1,1,1] W = {2}, TYPE c = {0.3}>
{
  y = Conv (x, W)
  p = Pad <mode = "constant", pads = [0, 0, 1, 1, 0, 0, 0, 0], value = 0.5> (y)
  z = Mul (p, c)
}
"""


@pytest.mark.parametrize(("elem_type", "folds"), [("float", True), ("double", False)])
def test_a_pad_value_that_is_an_attribute_must_fit_a_float32(elem_type: str, folds: bool) -> None:  # noqa: FBT001
    model = onnx.parser.parse_model(_PADDED.replace("TYPE", elem_type))
    folding = bnfold.fold(model)
    assert bool(folding.folds) == folds
    if folds:
        assert_same(model, folding.model, elem_type=onnx.TensorProto.FLOAT)
    else:
        assert folding.kept[0].above.reason == Reason.PAD_VALUE.value
