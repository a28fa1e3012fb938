"""Weights of half precision below its smallest normal number: those rounded, and those wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, VerifyOptions, verify

_K, _N = 96, 24
_HALF = np.finfo(np.float16)


def _model() -> onnx.ModelProto:
    """Return (x Wᵀ + b) s with channels of little scale, in which some weights become zero."""
    dice = np.random.default_rng(5)
    scale = dice.uniform(0.05, 0.3, _N)
    scale[[3, 11]] = 2e-3, -5e-4
    stored = {
        "w": dice.uniform(-0.04, 0.04, (_N, _K)) * np.where(dice.random((_N, _K)) < 0.05, 1e-4, 1),
        "b": dice.uniform(-0.2, 0.2, _N),
        "s": scale,
    }
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["p"]),
        helper.make_node("Add", ["b", "p"], ["a"]),
        helper.make_node("Mul", ["s", "a"], ["m"]),
        helper.make_node("Add", ["m", "x2"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "half",
        [
            value("x", TensorProto.FLOAT16, [1, 7, _K]),
            value("x2", TensorProto.FLOAT16, [1, 7, _N]),
        ],
        [value("y", TensorProto.FLOAT16, [1, 7, _N])],
        [numpy_helper.from_array(v.astype(np.float16), k) for k, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _right(weight: np.ndarray) -> None:
    assert (weight == 0).any()
    assert ((np.abs(weight) < _HALF.smallest_normal) & (weight != 0)).any()


def _lost(weight: np.ndarray) -> None:
    weight[:, 11] = 0


def _doubled(weight: np.ndarray) -> None:
    weight[np.argmax(np.abs(weight[:, 3])), 3] *= 2


def _one_lost(weight: np.ndarray) -> None:
    weight[np.argmax(np.abs(weight[:, 5])), 5] = 0


@pytest.mark.parametrize(
    ("change", "passes"), [(_right, True), (_lost, False), (_doubled, False), (_one_lost, False)]
)
def test_a_fold_and_its_files_get_one_verdict(
    tmp_path: Path, change: Callable[[np.ndarray], None], *, passes: bool
) -> None:
    original = _model()
    folding = bnfold.fold(original)
    (weight,) = (t for t in folding.model.graph.initializer if t.dims == [_K, _N])
    numbers = numpy_helper.to_array(weight).copy()
    change(numbers)
    weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))
    paths = [tmp_path / name for name in ("original.onnx", "candidate.onnx")]
    for path, model in zip(paths, (original, folding.model), strict=True):
        path.write_bytes(model.SerializeToString())
    options = VerifyOptions(("cpu",), time=0)
    for regions in (folding.regions, ()):
        found = verify(*paths, regions=regions, options=options)
        assert (found.verdict is Verdict.PASSED) is passes, f"{bool(regions)}: {found}"
        assert found.ok is passes
