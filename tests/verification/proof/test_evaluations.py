"""A weight that the original computes, and that another program has computed beforehand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from proving import proved

DICE = np.random.default_rng(11)
RAW = DICE.normal(0.3, 1.0, (8, 40, 3, 3)).astype(np.float32)
AXES = (1, 2, 3)


def model(weight: np.ndarray, *, computed: bool) -> onnx.ModelProto:
    """Return a convolution by a weight, or by what it computes of it: of mean 0 and variance 1."""
    step = helper.make_node
    standardized = [
        step("ReduceMean", ["W"], ["m"], axes=AXES), step("Sub", ["W", "m"], ["c"]),
        step("Mul", ["c", "c"], ["q"]), step("ReduceMean", ["q"], ["v"], axes=AXES),
        step("Sqrt", ["v"], ["d"]), step("Div", ["c", "d"], ["w"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        [*(standardized if computed else []), step("Conv", ["x", "w"], ["y"]),
         step("Detect", ["y"], ["z"], domain="my.ops")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "W" if computed else "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def standardized() -> np.ndarray:
    """Return the weight as one rounding of what it is."""
    centred = RAW - RAW.mean(AXES, np.float64, keepdims=True)
    return np.asarray(centred / centred.std(AXES, keepdims=True), np.float32)


def off_by(relative: float, *, at: bool) -> np.ndarray:
    weight = standardized().astype(np.float64)
    place = np.unravel_index(np.argsort(np.abs(weight), axis=None)[weight.size // 2], weight.shape)
    factor = np.ones(weight.shape)
    factor[place if at else ...] += relative
    return (weight * factor).astype(np.float32)


def test_another_evaluation_of_a_weight_is_proved(tmp_path: Path) -> None:
    original = model(RAW, computed=True)
    proof = proved(tmp_path, original, model(standardized(), computed=False))
    assert proof.structure.proved
    assert not proof.broken


@pytest.mark.parametrize("at", [True, False])
@pytest.mark.parametrize("relative", [1e-3, 1e-5, 3e-6])
def test_more_than_that_is_told(tmp_path: Path, relative: float, *, at: bool) -> None:
    original = model(RAW, computed=True)
    proof = proved(tmp_path, original, model(off_by(relative, at=at), computed=False))
    assert not proof.structure.proved
    assert proof.broken


def test_what_is_stored_must_be_the_same(tmp_path: Path) -> None:
    original = model(standardized(), computed=False)
    nearly = np.nextafter(standardized(), np.float32(9))
    nearly[0, 0, 0, 0] *= np.float32(1 + 1e-6)
    assert not proved(tmp_path, original, model(nearly, computed=False)).structure.proved
