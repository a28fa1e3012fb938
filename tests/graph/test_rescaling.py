"""DequantizeLinear → Conv → BatchNormalization: only the scales change, and the signs of integers.

`tests/verification/test_quantized.py` shows that the verifier agrees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from invariants import check_invariants
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from bnfold.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_UPRIGHT, _TURNED = (2.0, 6.0), (2.0, -6.0)
_TYPES = ("INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16", "FLOAT8E4M3FN", "FLOAT8E5M2")
_UNSIGNED = ("UINT4", "UINT8", "UINT16")


def _model(
    weight: Sequence[int],
    elem_type: int = TensorProto.INT8,
    *,
    gamma: Sequence[float] = _TURNED,
    scale: Any = 0.125,
    zero: Any = None,
    axis: int | None = None,
    opset: int = 21,
    storage: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A Conv with a weight [2, len / 2, 1, 1] of a quantized type, and a normalization."""
    inputs = ["q", "s"] if zero is None else ["q", "s", "z"]
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", inputs, ["W"], **attributes),
        helper.make_node("Conv", ["x", "W"], ["y"]),
        helper.make_node("BatchNormalization", ["y", "g", "b", "e", "v"], ["o"]),
    ]
    dtype = helper.tensor_dtype_to_np_dtype(storage)
    channels = len(weight) // 2
    stored = {"s": scale, "g": gamma, "b": [1, 2], "e": [1, 1], "v": [1, 4]}
    store = [helper.make_tensor("q", elem_type, [2, channels, 1, 1], weight)]
    store += [numpy_helper.from_array(np.asarray(v, dtype), name) for name, v in stored.items()]
    if zero is not None:
        store.append(helper.make_tensor("z", elem_type, np.shape(zero), np.ravel(zero)))
    ends = [
        helper.make_tensor_value_info("x", storage, [1, channels, 2, 2]),
        helper.make_tensor_value_info("o", storage, [1, 2, 2, 2]),
    ]
    graph = helper.make_graph(nodes, "quantized", ends[:1], ends[1:], store)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _check(
    model: onnx.ModelProto, *, tolerance: float = 2.0**-20, between: Sequence[str] = ()
) -> bnfold.Folding:
    """Fold; the weight must still be quantized and the result the same."""
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    operators = [n.op_type for n in folding.model.graph.node]
    assert operators == ["DequantizeLinear", *between, "Conv"]
    (old,), (new,) = (
        {t.data_type for t in m.graph.initializer if t.name == "q"} for m in (model, folding.model)
    )
    assert old == new
    typed = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value for dim in typed.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(typed.elem_type)
    x = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape).astype(dtype)
    y, z = (_evaluate(m, x) for m in (model, folding.model))
    largest = float(np.abs(y.astype(np.float64)).max())
    np.testing.assert_allclose(z.astype(np.float64), y.astype(np.float64), atol=tolerance * largest)
    return folding


def _evaluate(model: onnx.ModelProto, x: NDArray[Any]) -> NDArray[Any]:
    """Before opset 19 the reference has no DequantizeLinear, but it meant the same."""
    newer = onnx.ModelProto()
    newer.CopyFrom(model)
    newer.opset_import[0].version = 21
    (y,) = ReferenceEvaluator(newer).run(None, {"x": x})
    return np.asarray(y)


def _refusal(model: onnx.ModelProto) -> str:
    folding = bnfold.fold(model)
    assert not folding.folds
    (kept,) = folding.kept
    reasons = (Reason.QUANTIZED_RANGE.value, Reason.QUANTIZED_FORM.value)
    assert kept.above.reason in reasons
    return kept.above.text


@pytest.mark.parametrize("name", _TYPES)
def test_a_positive_scale_goes_into_the_scales_of_any_type(name: str) -> None:
    elem_type = getattr(TensorProto, name)
    folding = _check(_model([1, 2, 3, 1, 0, 2], elem_type, gamma=_UPRIGHT))
    stored = {t.name: t for t in folding.model.graph.initializer}
    assert list(stored["s"].dims) == [2]
    old = next(t for t in _model([1, 2, 3, 1, 0, 2], elem_type).graph.initializer if t.name == "q")
    before, after = numpy_helper.to_array(old), numpy_helper.to_array(stored["q"])
    np.testing.assert_array_equal(after.astype(np.float64), before.astype(np.float64))


@pytest.mark.parametrize("name", [name for name in _TYPES if name not in _UNSIGNED])
def test_a_negative_scale_turns_the_numbers_of_any_signed_type(name: str) -> None:
    _check(_model([1, -2, 3, 1, 0, -2], getattr(TensorProto, name)))


@pytest.mark.parametrize("name", _UNSIGNED)
def test_a_negative_scale_has_no_room_in_unsigned_numbers_without_a_zero_point(name: str) -> None:
    text = _refusal(_model([1, 2, 3, 1], getattr(TensorProto, name)))
    assert "negative scale meets 3" in text


@pytest.mark.parametrize(
    "given",
    [
        {"weight": [1, 200, 30, 10], "elem_type": TensorProto.UINT8, "zero": 100},
        {
            "weight": [1, 200, 30, 10],
            "elem_type": TensorProto.UINT8,
            "zero": [100, 110],
            "scale": [0.125, 0.5],
            "axis": 0,
        },
        {"weight": [1, 2, -12, 4], "scale": [0.125, 0.5], "axis": -4},
        {"weight": [1, 2, -12, 4], "scale": [0.125, 0.5], "axis": 0, "opset": 13},
        {"weight": [1, 2, -12, 4], "gamma": [-2.0, -4.0], "opset": 12},
        {"weight": [1, 2, -12, 4], "elem_type": TensorProto.INT32},
    ],
)
def test_scales_per_tensor_and_per_channel(given: dict[str, Any]) -> None:
    if given.get("opset") == 12:  # no scales per channel: the scale must be one for all of them
        model = _model(**given)
        for tensor in model.graph.initializer:
            if tensor.name in "bev":
                tensor.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), tensor.name))
            if tensor.name == "g":
                tensor.CopyFrom(numpy_helper.from_array(np.full(2, -2, np.float32), "g"))
        _check(model)
        return
    _check(_model(**given))


def test_scales_of_another_type() -> None:
    _check(_model([1, 2, -12, 4], storage=TensorProto.FLOAT16), tolerance=2.0**-8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight": [1, 2, -128, 4]}, "negative scale meets -128"),
        ({"weight": [1, 2, -12, -8], "elem_type": TensorProto.INT4}, "negative scale meets -"),
        ({"weight": [1, 2, 3, 4], "gamma": [2.0, 0.0]}, "a scale would be zero"),
        ({"weight": [1, 2, 3, 4], "gamma": [2.0, 1e-38]}, "a scale would be zero"),
        ({"weight": [1, 2, 3, 4], "scale": [0.1, 0.2], "axis": 1}, "along another axis"),
        ({"weight": [1, 2, 3, 4], "opset": 12}, "one scale for all channels"),
    ],
)
def test_what_cannot_be_rescaled(given: dict[str, Any], words: str) -> None:
    assert words in _refusal(_model(**given))


def test_before_opset_13_there_are_no_scales_per_input_channel_either() -> None:
    model = _model([1, 2, 3, 4], opset=12)
    normalization = model.graph.node.pop()
    normalization.input[0], normalization.output[0] = "x", "n"
    model.graph.node.insert(1, normalization)
    model.graph.node[2].input[0], model.graph.node[2].output[0] = "n", "o"
    folding = bnfold.fold(model)
    assert not folding.folds
    (kept,) = folding.kept
    assert kept.below is not None
    assert kept.below.reason == Reason.QUANTIZED_FORM.value


def test_one_scale_for_all_outputs_goes_beside_one_for_each_input() -> None:
    model = _model([1, 2, -12, 4], gamma=[2.0, 2.0])
    parameters = {"b": [1, 1], "e": [1, 1], "v": [4, 4], "G": [2, 3], "z": [0, 0]}
    for name, values in parameters.items():
        stored = [t for t in model.graph.initializer if t.name == name]
        tensor = numpy_helper.from_array(np.asarray(values, np.float32), name)
        (stored[0] if stored else model.graph.initializer.add()).CopyFrom(tensor)
    before = helper.make_node("BatchNormalization", ["x", "G", "b", "z", "v"], ["n"])
    model.graph.node.insert(1, before)
    model.graph.node[2].input[0] = "n"
    _check(model)


def test_what_is_computed_from_a_quantized_weight_stays_computed_from_it() -> None:
    model = _model([1, 2, 3, 4])
    model.graph.node[0].output[0] = "V"
    model.graph.node.insert(1, helper.make_node("Neg", ["V"], ["W"]))
    assert "would become floats" in _refusal(model)


def _transposed(**given: Any) -> onnx.ModelProto:
    """Return a model whose weight [2, 3, 1, 1] is stored as [1, 3, 1, 2] and turned twice."""
    model = _model([1, -2, 3, 4, -5, 6], **given)
    model.graph.initializer[0].dims[:] = [1, 3, 1, 2]
    model.graph.node[0].output[0] = "V"
    turns = (
        helper.make_node("Transpose", ["V"], ["U"]),
        helper.make_node("Transpose", ["U"], ["W"], perm=[0, 2, 3, 1]),
    )  # [1, 3, 1, 2] → [2, 1, 3, 1] → [2, 3, 1, 1]
    for place, node in enumerate(turns):
        model.graph.node.insert(1 + place, node)
    return model


@pytest.mark.parametrize(
    "given", [{}, {"scale": [0.125, 0.5], "axis": 3}, {"scale": [0.125, 0.5], "axis": -1}]
)
def test_a_weight_that_is_stored_transposed_is_rescaled_where_it_is_stored(
    given: dict[str, Any],
) -> None:
    folding = _check(_transposed(**given), between=["Transpose", "Transpose"])
    assert folding.model.graph.node[0].attribute[0].i % 4 == 3
    (stored,) = (t for t in folding.model.graph.initializer if t.name == "q")
    turned = np.array([1, -2, 3, 4, -5, 6]).reshape(3, 2) * [1, -1]
    np.testing.assert_array_equal(numpy_helper.to_array(stored).reshape(3, 2), turned)


def test_scales_of_a_transposed_weight_lie_along_another_axis() -> None:
    assert "along another axis" in _refusal(_transposed(scale=[0.125, 0.5, 0.25], axis=1))


def test_a_transposed_weight_that_others_read_stays() -> None:
    model = _transposed()
    model.graph.node.append(helper.make_node("Identity", ["U"], ["u"]))
    model.graph.output.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, None))
    assert "would become floats" in _refusal(model)


def test_a_shift_leaves_a_quantized_weight_alone_whoever_reads_it() -> None:
    model = _model([1, 2, 3, 4])
    graph = model.graph
    graph.node.pop()
    graph.initializer.append(numpy_helper.from_array(np.asarray([[[1]], [[2]]], np.float32), "k"))
    graph.node.append(helper.make_node("Add", ["y", "k"], ["a"]))
    graph.node.append(helper.make_node("Relu", ["a"], ["r"]))
    graph.node.append(helper.make_node("Conv", ["r", "W"], ["o"]))
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    operators = [node.op_type for node in folding.model.graph.node]
    assert operators == ["DequantizeLinear", "Conv", "Relu", "Conv"]


def test_a_scale_of_zero_is_refused() -> None:
    assert "a scale would be zero" in _refusal(_model([1, 2, 3, 4], scale=0.0))


@pytest.mark.parametrize("kind", ["int32", "shifted", "out of range", "float"])
def test_a_bias_is_rescaled_or_becomes_a_plain_one(kind: str) -> None:
    model = _model([1, 2, -12, 4])
    graph = model.graph
    graph.node[1].input.append("c")
    dequantized = kind != "float"
    smallest = np.iinfo(np.int32).min
    numbers = np.asarray([3, smallest if kind == "out of range" else 4], np.int32)
    if dequantized:
        graph.node.insert(1, helper.make_node("DequantizeLinear", ["qc", "sc"], ["c"]))
        graph.initializer.append(numpy_helper.from_array(numbers, "qc"))
        graph.initializer.append(numpy_helper.from_array(np.asarray(0.5, np.float32), "sc"))
    else:
        graph.initializer.append(numpy_helper.from_array(numbers.astype(np.float32), "c"))
    if kind != "shifted":
        for tensor in graph.initializer:
            if tensor.name in "be":
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32), tensor.name))
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    makers = {node.output[0]: node.op_type for node in folding.model.graph.node}
    convolution = next(node for node in folding.model.graph.node if node.op_type == "Conv")
    stays = kind == "int32"
    assert makers.get(convolution.input[2]) == ("DequantizeLinear" if stays else None)
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    y, z = (_evaluate(m, x) for m in (model, folding.model))
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-4)


def test_a_pair_between_the_convolution_and_the_normalization_keeps_it() -> None:
    model = _model([1, 2, 3, 4])
    graph = model.graph
    graph.node[1].output[0] = "p"
    graph.node.insert(2, helper.make_node("QuantizeLinear", ["p", "s"], ["i"]))
    graph.node.insert(3, helper.make_node("DequantizeLinear", ["i", "s"], ["y"]))
    folding = bnfold.fold(model)
    assert not folding.folds
    assert [kept.above.reason for kept in folding.kept] == [Reason.QUANTIZED_ACTIVATION.value]


def test_a_fake_quantized_weight_keeps_its_numbers() -> None:
    """A weight that the model itself quantizes: the new scales are those of the second node."""
    model = _model([1, 2, -12, 4])
    graph = model.graph
    graph.node.insert(0, helper.make_node("QuantizeLinear", ["w", "s", "zero"], ["q"]))
    weight = next(t for t in graph.initializer if t.name == "q")
    weight.CopyFrom(
        numpy_helper.from_array(np.reshape([0.1, 0.3, -1, 0.5], (2, 2, 1, 1)).astype("f"), "w")
    )
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.int8), "zero"))
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    assert "DequantizeLinear" in [node.op_type for node in folding.model.graph.node]
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    y, z = (_evaluate(m, x) for m in (model, folding.model))
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5)
