"""Weights of half precision below its smallest normal number: those rounded, and those wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from halves import half_model
from onnx import helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, Verification, VerifyOptions, verify

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
    wide = [1, 7, _N]
    return half_model(nodes, {"x": [1, 7, _K], "x2": wide}, {"y": wide}, stored)


def _both_ways(
    folder: Path, original: onnx.ModelProto, folding: bnfold.Folding
) -> Iterator[Verification]:
    """Yield the verdicts of a folded model with its folds named, and of both files alone."""
    paths = [folder / name for name in ("original.onnx", "candidate.onnx")]
    for path, model in zip(paths, (original, folding.model), strict=True):
        path.write_bytes(model.SerializeToString())
    for regions in (folding.regions, ()):
        yield verify(*paths, regions=regions, options=VerifyOptions(("cpu",), time=0))


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
    for found in _both_ways(tmp_path, original, folding):
        assert (found.verdict is Verdict.PASSED) is passes, found
        assert found.ok is passes


def _pooled(seed: int = 1) -> onnx.ModelProto:
    """Return a Conv whose normalization stands behind a pool, with dead channels."""
    dice = np.random.default_rng(seed)
    stored = {
        "w": dice.standard_normal((8, 12, 1, 1)) / 4,
        "g": dice.uniform(0.5, 1.5, 8),
        "b": dice.standard_normal(8),
        "m": dice.standard_normal(8) / 8,
        "v": dice.uniform(0.5, 1.5, 8),
    }
    stored["g"][[2, 5]] = 3e-6, -2e-5
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("AveragePool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["p", *"gbmv"], ["y"]),
    ]
    return half_model(nodes, {"x": [1, 12, 6, 6]}, {"y": [1, 8, 3, 3]}, stored)


@pytest.mark.parametrize(
    ("channel", "times", "passes"), [(0, 1.0, True), (0, 1.01, False), (5, 1.2, False)]
)
def test_a_dead_channel_with_a_shift_shows_its_factor_where_it_has_most_digits(
    tmp_path: Path, channel: int, times: float, *, passes: bool
) -> None:
    original = _pooled()
    folding = bnfold.fold(original)
    assert [node.op_type for node in folding.model.graph.node] == ["Conv", "AveragePool"]
    (weight,) = (t for t in folding.model.graph.initializer if t.name == "w")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[channel, 3] *= np.float16(times)
    weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))
    for found in _both_ways(tmp_path, original, folding):
        assert found.ok is passes, found
