"""Numbers of every type are made in float64 and rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from evaluation import Array, assert_same
from invariants import check_invariants
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
}
_EXACT = 5


def _model(elem_type: int, parameter_type: int, weight: Array, gamma: float) -> onnx.ModelProto:
    """A Conv of one channel, its normalization with parameters of another type."""
    count = weight.size
    numbers = {"g": gamma, "b": 0.5, "e": 0.25, "v": 3.0}
    stored = [numpy_helper.from_array(weight.astype(_DTYPES[elem_type]), "W")]
    stored += [
        numpy_helper.from_array(np.full(count, value).astype(_DTYPES[parameter_type]), name)
        for name, value in numbers.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["y"]),
        helper.make_node("BatchNormalization", ["y", "g", "b", "e", "v"], ["z"]),
    ]
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "typed",
        [values("x", elem_type, [1, 1, 2, 2])],
        [values("z", elem_type, [1, count, 2, 2])],
        stored,
    )
    imports = [helper.make_opsetid("", 22)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


@pytest.mark.parametrize("parameter_type", _DTYPES)
@pytest.mark.parametrize("elem_type", _DTYPES)
def test_a_weight_is_rounded_once_and_keeps_its_type(elem_type: int, parameter_type: int) -> None:
    weight = np.linspace(-1, 1, 7).reshape(7, 1, 1, 1)
    model = _model(elem_type, parameter_type, weight, 1.7)
    folding = bnfold.fold(model)
    stored = {t.name: numpy_helper.to_array(t) for t in folding.model.graph.initializer}
    assert {value.dtype for value in stored.values()} == {_DTYPES[elem_type]}
    gamma = np.asarray(1.7).astype(_DTYPES[parameter_type]).astype(np.float64)
    scale = gamma / np.sqrt(3.0 + np.float64(np.float32(1e-5)))
    exact = weight.astype(_DTYPES[elem_type]).astype(np.float64) * scale
    np.testing.assert_array_equal(stored["W"], exact.astype(_DTYPES[elem_type]))
    np.testing.assert_array_equal(
        stored["W_bias"], np.full(7, 0.5 - 0.25 * scale).astype(_DTYPES[elem_type])
    )
    check_invariants(model, folding)
    assert_same(model, folding.model, elem_type=elem_type)


@pytest.mark.parametrize(
    ("elem_type", "weight", "gamma"),
    [
        (TensorProto.FLOAT16, 6e4, 4.0),
        (TensorProto.BFLOAT16, 3e38, 4.0),
        (TensorProto.FLOAT, 3e38, 4.0),
        (TensorProto.DOUBLE, 1.5e308, 4.0),
    ],
)
def test_what_overflows_its_type_is_kept(
    tmp_path: Path, elem_type: int, weight: float, gamma: float
) -> None:
    model = _model(elem_type, elem_type, np.full((1, 1, 1, 1), weight), gamma)
    _assert_kept(model, Reason.OVERFLOW, tmp_path)


def _assert_kept(model: onnx.ModelProto, reason: Reason, folder: Path) -> None:
    folding = bnfold.fold(model)
    assert not folding.folds
    assert [kept.above.reason for kept in folding.kept] == [reason.value]
    assert folding.model == model
    source, target = folder / "m.onnx", folder / "m.folded.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source)
    assert [kept.above.reason for kept in report.kept] == [reason.value]
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_kept(tmp_path: Path, elem_type: int, bad: float) -> None:
    model = _model(elem_type, elem_type, np.full((1, 1, 1, 1), bad), 4.0)
    _assert_kept(model, Reason.NOT_FINITE, tmp_path)


@pytest.mark.parametrize("factors", ["{2, 2}", "{1, 1}"])
def test_a_shift_in_front_of_what_is_no_number_is_kept(factors: str) -> None:
    # ∞ (x + t) is infinite; ∞ x + ∞ t is no number where the signs differ.
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,3,3] x) => (float[1,1,3,3] z)
        <float[1,2,1,1] W = {{1, 2}}, float[2] g = {factors}, float[2] b = {{1, 2}},
         float[2] e = {{1, 1}}, float[2] v = {{1, 1}}>
        {{
          y = BatchNormalization <epsilon = 0.0> (x, g, b, e, v)
          z = Conv (y, W)
        }}""")
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "W"]
    weight.CopyFrom(numpy_helper.from_array(np.full((1, 2, 1, 1), np.inf, np.float32), "W"))
    folding = bnfold.fold(model)
    assert [kept.below and kept.below.reason for kept in folding.kept] == ["not-finite"]
    assert folding.model == model


def test_an_overflow_in_an_inlined_function_keeps_that_fold_only() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[1,2,3,3] x) => (float[1,2,3,3] z, float[1,2,3,3] y)
        <float[2,2,1,1] W = {3e38, 2, 3, 4}, float[2,2,1,1] U = {1, 2, 3, 4},
         float[2] g = {20, 6}, float[2] b = {1, 2}, float[2] e = {1, 1}, float[2] v = {1, 4}>
        {
          a = Tanh (x)
          z = local.block (a, W, g, b, e, v)
          y = local.block (x, U, g, b, e, v)
        }
        <domain: "local", opset_import: ["" : 17]>
        block (x, W, g, b, e, v) => (z)
        {
          y = Conv (x, W)
          z = BatchNormalization (y, g, b, e, v)
        }""")
    folding = bnfold.fold(model)
    assert folding.inlined == ("local::block",)
    assert [kept.above.reason for kept in folding.kept] == [Reason.OVERFLOW.value]
    (fold,) = folding.folds
    assert [node.name or node.op_type for node in fold.into] == ["Conv"]
    assert_same(model, folding.model, elem_type=TensorProto.FLOAT)


def test_one_overflow_does_not_keep_the_others() -> None:
    model = _model(TensorProto.FLOAT16, TensorProto.FLOAT16, np.full((1, 1, 1, 1), 6e4), 4.0)
    small = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float16), "V")
    model.graph.initializer.append(small)
    model.graph.node.append(helper.make_node("Conv", ["x", "V"], ["p"]))
    model.graph.node.append(helper.make_node("BatchNormalization", ["p", *"gbev"], ["q"]))
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.FLOAT16, None))
    folding = bnfold.fold(model)
    assert folding.after.batch_normalizations == 1
    assert len(folding.folds) == 1


def test_a_normalization_that_holds_a_chain_keeps_epsilon() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2,2,2] x) => (double[1,2,2,2] z)
        <double[2] g = {2, 6}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {1, 4},
         double k = {3}, double h = {4}>
        {
          n = BatchNormalization <epsilon = 0.001> (x, g, b, e, v)
          p = Mul (n, k)
          z = Add (p, h)
        }""")
    folding = bnfold.fold(model)
    (node,) = folding.model.graph.node
    assert [round(a.f, _EXACT) for a in node.attribute] == [0.001]
    assert_same(model, folding.model)
    check_invariants(model, folding)
