"""What a model declares and says of tensors stays true when it is edited, or goes."""

from __future__ import annotations

import onnx
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


CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,2,2] x) => (float[1,1,2,2] z)
<float[2,1,1,1] W = {1, 2}, float[2,1,1] s = {2, 4}, float[1,2,1,1] V = {3, 4}>
{ c = Conv (x, W) r = Relu (c) d = Mul (r, s) z = Conv (d, V) }"""


def test_what_is_told_of_the_training_of_folded_tensors_goes() -> None:
    for name, stays in (("V", True), ("W", False), ("s", False)):
        model = onnx.parser.parse_model(CHAIN)
        training = model.training_info.add()
        training.update_binding.add(key=name, value="new")
        folding = bnfold.fold(model)
        assert bool(folding.model.training_info) is stays
        assert [f"told of {name}" in note for note in folding.notes] == [] if stays else [True]


def test_what_is_annotated_of_tensors_that_change_goes() -> None:
    model = onnx.parser.parse_model(CHAIN)
    for name in ("W", "V", "x", "c", "r", "d", "z"):
        annotation = model.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="q")
    folding = bnfold.fold(model)
    left = [note.tensor_name for note in folding.model.graph.quantization_annotation]
    assert left == ["V", "x", "d", "z"]  # d is what it was; what Conv and Relu make is not
    assert folding.notes == ("no longer annotated with a quantization, for they changed: W, c, r",)
