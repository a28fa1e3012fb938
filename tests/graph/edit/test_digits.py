"""A weight whose digits underflow takes nothing up, and no others are kept by that."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import write
from evaluation import assert_same
from halves import half_model
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.reasons import Reason

_K, _N = 64, 8
_TINY = 1e-6


def _product(scale: np.ndarray, bias: float = 0.1, weight: float = 0.04) -> onnx.ModelProto:
    """Return (x W + b) s in float16, as a layer scale stands behind a linear layer."""
    dice = np.random.default_rng(1)
    stored = {
        "w": dice.uniform(-weight, weight, (_K, _N)),
        "b": dice.uniform(-bias, bias, _N),
        "s": scale,
    }
    return _model("MatMul", stored, [2, 3, _K], [2, 3, _N])


def _convolution(scale: np.ndarray) -> onnx.ModelProto:
    stored = {
        "w": np.random.default_rng(1).uniform(-0.04, 0.04, (_N, 16, 3, 3)),
        "b": np.zeros((1, _N, 1, 1)),
        "s": scale.reshape(1, _N, 1, 1),
    }
    return _model("Conv", stored, [1, 16, 8, 8], [1, _N, 6, 6])


def _model(
    op_type: str, stored: dict[str, np.ndarray], takes: list[int], makes: list[int]
) -> onnx.ModelProto:
    nodes = [
        helper.make_node(op_type, ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["a"]),
        helper.make_node("Mul", ["a", "s"], ["y"]),
    ]
    return half_model(nodes, {"x": takes}, {"y": makes}, stored)


@pytest.mark.parametrize("model", [_product, _convolution])
@pytest.mark.parametrize("largest", [_TINY, 1e-5])
def test_channels_that_would_lose_their_digits_keep_their_scale(
    model: Callable[[np.ndarray], onnx.ModelProto], largest: float
) -> None:
    folding = bnfold.fold(model(np.linspace(_TINY, largest, _N)))
    assert "Mul" in {node.op_type for node in folding.model.graph.node}
    assert [kept.above.reason for kept in folding.kept] == [Reason.UNDERFLOW.value]


@pytest.mark.parametrize(("scale", "goes"), [(1e-41, False), (1e-36, True)])
@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_other_types_lose_digits_at_far_smaller_numbers(
    tmp_path: Path, scale: float, elem_type: int, *, goes: bool
) -> None:
    # The scale is made of normal numbers, and what it multiplies may be large.
    dice, kind = np.random.default_rng(1), helper.tensor_dtype_to_np_dtype(elem_type)
    stored = {
        "w": dice.uniform(-0.04, 0.04, (_K, _N)), "g": np.full(_N, scale * 1e15),
        "b": np.zeros(_N), "m": np.zeros(_N), "v": np.full(_N, 1e30),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("BatchNormalization", ["p", "g", "b", "m", "v"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, elem_type, [2, n]) for name, n in (("x", _K), ("y", _N))
    ]
    tensors = [numpy_helper.from_array(array.astype(kind), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folding = bnfold.fold(model)
    folds = goes or elem_type == TensorProto.DOUBLE
    assert bool(folding.folds) is folds
    if not folds:
        assert [kept.above.reason for kept in folding.kept] == [Reason.UNDERFLOW.value]
    report = bnfold.fold_file(write(model, tmp_path / "net.onnx"), tmp_path / "out.onnx")
    assert report.exit_code == 0


@pytest.mark.parametrize("smallest", [0.5, 1e-2, 1e-3])
def test_single_numbers_that_underflow_beside_large_ones_do_not_matter(smallest: float) -> None:
    model = _product(np.linspace(smallest, 1, _N))
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[::5] *= np.float16(1e-4)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    folding = bnfold.fold(model)
    made = numpy_helper.to_array(folding.model.graph.initializer[0])
    assert (np.abs(made[made != weight]) < np.finfo(np.float16).smallest_normal).any()
    assert [node.op_type for node in folding.model.graph.node] == ["MatMul", "Add"]
    assert_same(model, folding.model, elem_type=TensorProto.FLOAT16)


@pytest.mark.parametrize(
    ("bias", "weight", "beside"),
    [(6e4, 0.04, _TINY), (1e-4, 1e-4, _TINY), (1e-4, 0.04, 0.5)],
    ids=["a large bias", "nothing of weight", "a dead channel beside others"],
)
def test_what_is_rounded_by_as_much_anyway_folds(bias: float, weight: float, beside: float) -> None:
    scale = np.full(_N, beside)
    scale[2] = _TINY
    model = _product(scale, bias, weight)
    large = np.full(_N, bias) if bias > 1 else np.zeros(_N)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(large.astype(np.float16), "b"))
    folding = bnfold.fold(model)
    assert not folding.kept
    assert "Mul" not in {node.op_type for node in folding.model.graph.node}


def test_many_that_underflow_keep_no_others() -> None:
    """More layers than a model is planned anew for, each followed by one that folds."""
    count, dice = 24, np.random.default_rng(2)
    nodes, stored, last = [], {}, "x"
    for i in range(2 * count):
        stored[f"w{i}"] = dice.uniform(-0.1, 0.1, (_K, _K))
        stored[f"s{i}"] = np.full(_K, 0.5 if i % 2 else _TINY)
        nodes += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]),
            helper.make_node("Mul", [f"p{i}", f"s{i}"], [f"m{i}"]),
            helper.make_node("Tanh", [f"m{i}"], [f"t{i}"]),
        ]
        last = f"t{i}"
    model = half_model(nodes, {"x": [2, _K]}, {last: [2, _K]}, stored)
    folding = bnfold.fold(model)
    assert sum(node.op_type == "Mul" for node in folding.model.graph.node) == count
    assert {kept.above.reason for kept in folding.kept} == {Reason.UNDERFLOW.value}
    assert len(folding.folds) == count
