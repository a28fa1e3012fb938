"""What an edit must take care of besides the numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants

import bnfold

_LISTED = """
<ir_version: 3, opset_import: ["" : 8]>
g (float[3,2] x, float[2,2] W, float c, float[2] g, float[2] b, float[2] e, float[2] v)
  => (float[3,2] z)
<float[2,2] W = {1, 2, 3, 4}, float c = {10},
 float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1}, float[2] v = {1, 4}>
{
  y = Gemm (x, W, c)
  z = BatchNormalization <epsilon = 0.0> (y, g, b, e, v)
}
"""


def test_a_bias_that_grows_is_listed_with_its_new_shape() -> None:
    model = onnx.parser.parse_model(_LISTED)
    folding = bnfold.fold(model)
    (listed,) = [value for value in folding.model.graph.input if value.name == "c"]
    assert [dim.dim_value for dim in listed.type.tensor_type.shape.dim] == [2]
    check_invariants(model, folding)
    assert_same(model, folding.model, elem_type=onnx.TensorProto.FLOAT)


def test_the_shape_of_a_bias_in_value_info_follows() -> None:
    model = onnx.parser.parse_model(_LISTED.replace(": 3,", ": 8,").replace(": 8]", ": 17]"))
    del model.graph.input[1:]
    value = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [])
    model.graph.value_info.append(value)
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    (info,) = [value for value in folding.model.graph.value_info if value.name == "c"]
    assert [dim.dim_value for dim in info.type.tensor_type.shape.dim] == [2]


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


_CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,2,2] x) => (float[1,1,2,2] z)
<float[2,1,1,1] W = {1, 2}, float[2,1,1] s = {2, 4}, float[1,2,1,1] V = {3, 4}>
{ c = Conv (x, W) r = Relu (c) d = Mul (r, s) z = Conv (d, V) }"""


def test_what_is_told_of_the_training_of_folded_tensors_goes() -> None:
    for name, stays in (("V", True), ("W", False), ("s", False)):
        model = onnx.parser.parse_model(_CHAIN)
        training = model.training_info.add()
        training.update_binding.add(key=name, value="new")
        folding = bnfold.fold(model)
        assert bool(folding.model.training_info) is stays
        assert [f"told of {name}" in note for note in folding.notes] == [] if stays else [True]


def test_what_is_annotated_of_tensors_that_change_goes() -> None:
    model = onnx.parser.parse_model(_CHAIN)
    for name in ("W", "V", "x", "c", "r", "d", "z"):
        annotation = model.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="q")
    folding = bnfold.fold(model)
    left = [note.tensor_name for note in folding.model.graph.quantization_annotation]
    assert left == ["V", "x", "d", "z"]  # d is what it was; what Conv and Relu make is not
    assert folding.notes == ("no longer annotated with a quantization, for they changed: W, c, r",)


def test_adds_that_are_left_of_normalizations_are_counted() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,2] x) => (float[1,2,2] z)
        <float[2,2] W = {1, 2, 3, 4}, float[2] g = {2, 6}, float[2] b = {1, 2},
         float[2] e = {1, 1}, float[2] v = {1, 4}>
        { p = MatMul (x, W) t = Transpose <perm = [0, 2, 1]> (p)
          z = BatchNormalization (t, g, b, e, v) }"""
    assert bnfold.fold(onnx.parser.parse_model(text)).adds == 1
    assert bnfold.fold(onnx.parser.parse_model(_CHAIN)).adds == 0
