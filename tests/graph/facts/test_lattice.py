"""Networks of integers that are stored as floats compute the same to the last bit when folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_K = 32  # terms of a sum
_HEAD = f'<ir_version: 8, opset_import: ["" : 17]> g (float[64,{_K}] x) => (float[] y)'


def network(nodes: str, *, weights: str = "whole") -> onnx.ModelProto:
    """Return a graph in words, with those of the constants here that it names."""
    dice = np.random.default_rng(0)
    made: dict[str, NDArray[np.float64]] = {
        "W": dice.integers(-8, 8, (_K, _K)).astype(float),
        "V": dice.integers(-8, 8, (_K, _K)).astype(float),
        "K": dice.integers(-8, 8, (_K, _K, 1)).astype(float),
        "b": dice.integers(-50, 50, _K).astype(float),
        "whole": dice.integers(1, 30, _K).astype(float),
        "fractions": dice.integers(1, 9, _K) / 10.0,
        "tenth": np.array(0.1),
        "hundred": np.array(100.0),
        "quarter": np.array(0.25),
        "half": np.array(0.5),
        "lo": np.array(-128.0),
        "hi": np.array(127.0),
        "g": dice.uniform(0.5, 2, _K),
        "e": dice.normal(size=_K),
        "v": dice.uniform(0.5, 2, _K),
        "three": np.array([64, _K, 1]),
    }
    if weights == "sixteenths":
        made["W"], made["V"], made["K"] = (made[n] / 16 for n in "WVK")
    elif weights == "trained":
        made["W"], made["V"], made["K"] = (dice.normal(size=made[n].shape) for n in "WVK")
    model = onnx.parser.parse_model(f"{_HEAD} {{ {nodes} }}")
    model.graph.output[0].ClearField("type")
    read = {name for node in model.graph.node for name in node.input}
    for name in sorted(read & made.keys()):
        dtype = np.dtype(np.int64) if name == "three" else np.dtype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(made[name].astype(dtype), name))
    return model


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.generic]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


STEPS = {
    "Round": "y = Round (q)",
    "Floor": "y = Floor (q)",
    "Ceil": "y = Ceil (q)",
    "Cast": "y = Cast <to = 3> (q)",
    "clipped": "p = Clip (q, lo, hi) y = Round (p)",
    "after Relu": "p = Relu (q) y = Floor (p)",
    "Greater": "y = Greater (q, half)",
    "ArgMax": "y = ArgMax <axis = 1> (q)",
    "QuantizeLinear": "y = QuantizeLinear (q, half)",
    "Sign": "y = Sign (q)",
}

SUMS = {
    "MatMul": "m = MatMul (x, W)",
    "with a bias": "l = MatMul (x, W) m = Add (l, b)",
    "Gemm": "m = Gemm (x, W, b)",
    "two branches": "k = MatMul (x, W) l = MatMul (x, V) m = Add (k, l)",
    "a branch that was not summed": "k = MatMul (x, W) m = Add (k, x)",
    "Relu between": "k = MatMul (x, W) m = Relu (k)",
    "Conv": """k = Reshape (x, three) l = Conv (k, K) flat = Constant <value_ints = [64, -1]> ()
               m = Reshape (l, flat)""",
    "behind a step": "k = Floor (x) l = MatMul (k, W) m = Add (l, b)",
    "two in a row": "k = MatMul (x, W) m = MatMul (k, V)",
}

SCALES = {
    "Mul": "q = Mul (m, tenth)",
    "Div": "q = Div (m, hundred)",
    "by channel": "q = Mul (m, fractions)",
    "Mul, Add, Div": "n = Mul (m, whole) o = Add (n, b) q = Div (o, hundred)",
    "Mul, Mul": "n = Mul (m, tenth) q = Mul (n, fractions)",
    "BatchNormalization": "q = BatchNormalization (m, g, e, e, v)",
}


def check_same_to_the_last_bit(model: onnx.ModelProto) -> bnfold.Folding:
    folding = bnfold.fold(model)
    for seed in range(3):
        x = np.random.default_rng(seed).integers(-128, 128, (64, _K)).astype(np.float32)
        np.testing.assert_array_equal(run(folding.model, x), run(model, x))
    return folding


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("scale", SCALES)
def test_no_value_flips_at_a_step(step: str, scale: str) -> None:
    folding = check_same_to_the_last_bit(
        network(" ".join((SUMS["with a bias"], SCALES[scale], STEPS[step])))
    )
    reasons = {kept.above.reason for kept in folding.kept}
    assert Reason.EXACT_SUMS.value in reasons


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("weights", ["whole", "sixteenths"])
def test_whatever_makes_the_sums(sums: str, weights: str) -> None:
    folding = check_same_to_the_last_bit(
        network(" ".join((SUMS[sums], SCALES["Mul"], STEPS["Round"])), weights=weights)
    )
    assert [kept.above.reason for kept in folding.kept] == [Reason.EXACT_SUMS.value]


def test_a_scale_in_front_of_such_a_sum_stays_too() -> None:
    model = network("k = Mul (x, tenth) m = MatMul (k, W) y = Round (m)")
    folding = check_same_to_the_last_bit(model)
    assert not folding.folds


@pytest.mark.parametrize("factor", ["quarter", "half"])
@pytest.mark.parametrize("sums", SUMS)
def test_a_power_of_two_is_folded(sums: str, factor: str) -> None:
    nodes = f"{SUMS[sums]} n = Mul (m, {factor}) q = Add (n, half) y = Floor (q)"
    folding = check_same_to_the_last_bit(network(nodes))
    assert folding.folds or sums == "a branch that was not summed"
    assert all(kept.above.reason != Reason.EXACT_SUMS.value for kept in folding.kept)


@pytest.mark.parametrize("sums", ["MatMul", "Gemm", "Conv", "two branches"])
def test_trained_weights_are_folded_whatever_follows(sums: str) -> None:
    nodes = " ".join((SUMS[sums], SCALES["Mul"], STEPS["Round"]))
    assert not bnfold.fold(network(nodes, weights="trained")).kept


def test_without_a_step_whole_numbers_are_folded() -> None:
    nodes = " ".join((SUMS["Gemm"], SCALES["BatchNormalization"], "y = Sigmoid (q)"))
    assert not bnfold.fold(network(nodes)).kept


def test_a_step_on_another_branch_keeps_what_both_read() -> None:
    nodes = """m = MatMul (x, W) q = Mul (m, tenth) r = Round (q) p = Mul (m, tenth)
               s = Sigmoid (p) y = Add (r, s)"""
    folding = bnfold.fold(network(nodes))
    assert not folding.folds


@pytest.mark.slow
def test_the_verified_model_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    block = "{s} {c} p{i} = Round (q{i}) x{i} = Clip (p{i}, lo, hi)"
    nodes = "".join(
        block.format(
            s=f"l{i} = MatMul (x{i - 1 or ''}, {w}) m{i} = Add (l{i}, b)",
            c=f"q{i} = Mul (m{i}, {scale})",
            i=i,
        )
        for i, w, scale in ((1, "W", "tenth"), (2, "V", "quarter"))
    )
    model = network(nodes + " y = Identity (x2)")
    source, target = tmp_path / "m.onnx", tmp_path / "f.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source, target)
    assert report.verification is not None
    assert report.verification.ok
    assert [kept.above.reason for kept in report.kept] == [Reason.EXACT_SUMS.value]
    x = np.random.default_rng(5).integers(-128, 128, (64, _K)).astype(np.float32)
    np.testing.assert_array_equal(
        run(onnx.ModelProto.FromString(target.read_bytes()), x), run(model, x)
    )
