"""Networks of float16 whose sums overflow: rounding decides where, and accuses nobody."""

import numpy as np
import onnx
import pytest
from halves import half_model
from onnx import helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, VerifyOptions, verify

_CPU = VerifyOptions(("cpu",), time=0)
_C = 16


def _network(seed: int, times: float) -> onnx.ModelProto:
    """Return a Conv with a normalization, and a sine of so many times that.

    Infinity begins at a third of the sine's range, and where the sine is steep rounding decides
    whether there is one, and of which sign.
    """
    dice = np.random.default_rng(seed)
    stored = {
        "w": dice.standard_normal((_C, _C, 1, 1)) / 4,
        "g": dice.uniform(0.5, 1.5, _C) * dice.choice([-1, 1, 1], _C),
        "b": dice.standard_normal(_C),
        "m": dice.standard_normal(_C),
        "v": dice.uniform(0.5, 1.5, _C),
        "t": np.array(times),
        "large": np.array(6e4),
        "three": np.array(3.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"gbmv"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Mul", ["r", "t"], ["p"]),
        helper.make_node("Sin", ["p"], ["s"]),
        helper.make_node("Mul", ["s", "large"], ["l"]),
        helper.make_node("Mul", ["l", "three"], ["y"]),
    ]
    shape = [1, _C, 3, 3]
    return half_model(nodes, {"x": shape}, {"y": shape}, stored)


@pytest.mark.parametrize("times", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_right_fold_of_a_network_that_overflows_is_proved(seed: int, times: float) -> None:
    original = _network(seed, times)
    folding = bnfold.fold(original)
    assert folding.after.batch_normalizations == 0
    for regions in (folding.regions, ()):
        found = verify(original, folding.model, regions=regions, options=_CPU)
        assert found.ok, found.reason


@pytest.mark.parametrize("times", [1.0, 1000.0])
def test_a_wrong_fold_of_a_network_that_overflows_is_not(times: float) -> None:
    original = _network(0, times)
    folding = bnfold.fold(original)
    (weight,) = (t for t in folding.model.graph.initializer if t.name == "w")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[2] *= np.float16(1.1)
    weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))
    for regions in (folding.regions, ()):
        assert not verify(original, folding.model, regions=regions, options=_CPU).ok


def test_a_candidate_that_alone_overflows_fails_in_plain_words() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Neg", ["r"], ["y"])]
    original = half_model(nodes, {"x": [5]}, {"y": [5]}, {})
    candidate = onnx.ModelProto()
    candidate.CopyFrom(original)
    added = numpy_helper.from_array(np.array([0, 0, np.inf, 0, 0], np.float16), "more")
    candidate.graph.initializer.append(added)
    candidate.graph.node.append(helper.make_node("Add", ["s", "more"], ["y"]))
    candidate.graph.node[1].output[0] = "s"
    found = verify(original, candidate, options=_CPU)
    assert found.verdict is Verdict.FAILED
    said = "differs at ORT_DISABLE_ALL (1 element is NaN or infinite, and something else in"
    assert said in found.reason
