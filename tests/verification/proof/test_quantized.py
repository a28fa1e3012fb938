"""Quantized weights, folded into their scales, are proved like others."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, VerifyOptions


def quantized(*, per_axis: bool, negative: bool, bias: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.1, 6) if per_axis else np.asarray(0.05)
    gamma = rng.uniform(0.5, 2, 6) * (np.where(np.arange(6) % 2, -1, 1) if negative else 1)
    floats: dict[str, np.ndarray] = {
        "scale": scale,
        "gamma": gamma,
        "beta": rng.standard_normal(6),
        "mean": rng.standard_normal(6),
        "var": rng.uniform(0.5, 2, 6),
        "bias_scale": np.full(6, 0.001),
    }
    stored = {name: values.astype(np.float32) for name, values in floats.items()}
    integers: dict[str, np.ndarray] = {
        "q": rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "bias_q": rng.integers(-1000, 1000, 6).astype(np.int32),
    }
    arrays: dict[str, np.ndarray] = {**stored, **integers}
    nodes = [helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=0)]
    inputs = ["x", "w"]
    if bias:
        inputs.append("b")
        nodes.append(helper.make_node("DequantizeLinear", ["bias_q", "bias_scale"], ["b"], axis=0))
    nodes.append(helper.make_node("Conv", inputs, ["c"]))
    parameters = ["gamma", "beta", "mean", "var"]
    nodes.append(helper.make_node("BatchNormalization", ["c", *parameters], ["y"]))
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6, 6, 6])],
        [*map(numpy_helper.from_array, arrays.values(), arrays)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("per_axis", [False, True])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_quantized_fold_is_proved(*, per_axis: bool, negative: bool, bias: bool) -> None:
    model = quantized(per_axis=per_axis, negative=negative, bias=bias)
    folding = bnfold.fold(model)
    assert folding.after.batch_normalizations == 0
    weight = next(t for t in folding.model.graph.initializer if t.name == "q")
    assert weight.data_type == TensorProto.INT8
    regions, options = folding.regions, VerifyOptions(("cpu",))
    found = bnfold.verify(model, folding.model, regions=regions, options=options)
    assert found.verdict is Verdict.PASSED
    scales = next(t for t in folding.model.graph.initializer if t.name == "scale")
    values = numpy_helper.to_array(scales) * np.float32(1.0001)
    scales.CopyFrom(numpy_helper.from_array(values, "scale"))
    found = bnfold.verify(model, folding.model, regions=regions, options=options)
    assert found.verdict is Verdict.FAILED


def test_the_lowest_integer_has_no_negative() -> None:
    model = quantized(per_axis=True, negative=True, bias=False)
    weight = next(t for t in model.graph.initializer if t.name == "q")
    values = numpy_helper.to_array(weight).copy()
    values[1, 0, 0, 0] = -128
    weight.CopyFrom(numpy_helper.from_array(values, "q"))
    folding = bnfold.fold(model)
    assert [kept.above.reason for kept in folding.kept] == ["quantized-range"]


def shared(*, shown: bool, equal: bool, negative: bool) -> onnx.ModelProto:
    """The weight of `quantized` read by another convolution too, or by nobody but the caller."""
    model = quantized(per_axis=True, negative=negative, bias=False)
    graph = model.graph
    if shown:
        graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4, 3, 3]))
        return model
    parameters = ["gamma", "beta", "mean", "var"]
    if not equal:
        other = numpy_helper.from_array(np.linspace(0.5, 3, 6, dtype=np.float32), "gamma_2")
        graph.initializer.append(other)
        parameters[0] = "gamma_2"
    graph.node.extend([
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["d"]),
        helper.make_node("BatchNormalization", ["d", *parameters], ["z"]),
    ])  # fmt: skip
    graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 6, 6, 6]))
    return model


@pytest.mark.parametrize(
    ("shown", "equal", "dequantized"), [(True, False, 2), (False, True, 1), (False, False, 2)]
)
@pytest.mark.parametrize("negative", [False, True])
def test_a_dequantized_weight_that_others_read_is_made_once_for_each_need(
    *, shown: bool, equal: bool, dequantized: int, negative: bool
) -> None:
    model = shared(shown=shown, equal=equal, negative=negative)
    onnx.checker.check_model(model, full_check=True)
    folding = bnfold.fold(model)
    onnx.checker.check_model(folding.model, full_check=True)
    assert folding.after.batch_normalizations == 0
    made = [node for node in folding.model.graph.node if node.op_type == "DequantizeLinear"]
    assert len(made) == dequantized
    regions, options = folding.regions, VerifyOptions(("cpu",))
    found = bnfold.verify(model, folding.model, regions=regions, options=options)
    assert found.verdict is Verdict.PASSED
    again = bnfold.fold(folding.model)
    assert again.model.SerializeToString() == folding.model.SerializeToString()
