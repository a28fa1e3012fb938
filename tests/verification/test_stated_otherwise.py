"""Nodes that state something else, which inputs that are made up do not show, beside right ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from proving import proved
from test_deliberate import C, Nodes, Weights, node, pair, whole
from test_wrong_pairs import chosen, single, step

SHAPE = (1, C, 16, 16)


def opened(op_type: str, bound: str, otherwise: str, names: str = "much y") -> Nodes:
    """Return a Where that chooses a number for what is very large."""
    much, made = names.split()
    picked = step("Where", f"{much} {otherwise} d", made)
    return [
        step(op_type, f"d {bound}", much),
        picked,
        *([] if made == "y" else [step("Relu", made)]),
    ]


def bent(op_type: str, alpha: float, made: str = "bent") -> Nodes:
    return [
        step("Exp", "d", "s"),
        step("Sub", "s tiny", "r"),
        step(op_type, "r", made, alpha=alpha),
        step("Abs", made),
    ]


def suppressed(overlap: str, score: str) -> Nodes:
    return [
        step("Reshape", "d listed", "rows"),
        step("Slice", "rows nil four two", "boxes"),
        step("Reshape", "d apart", "scores"),
        step("NonMaxSuppression", f"boxes scores ten {overlap} {score}", "kept"),
        step("Cast", "kept", to=TensorProto.FLOAT),
    ]


def recurrent(weight: str, **attributes: Any) -> Nodes:
    return [
        step("Reshape", "d row", "s"),
        step("LSTM", f"s {weight} R", hidden_size=4, **attributes),
    ]


def one_branch(op_type: str) -> Nodes:
    """Return the branch that random inputs take, without its If."""
    return [step(op_type, "d k3.0")]


DICE = np.random.default_rng(7)
W = DICE.standard_normal((1, 16, 16))
STORED: Weights = {
    "high": single(1e6), "higher": single(1.1e6), "five": single(5.0), "six": single(6.0),
    "listed": whole(1, 256, C), "nil": whole(0), "four": whole(4), "two": whole(2),
    "apart": whole(1, C, 256), "ten": whole(10), "half": single(0.5).reshape(1),
    "more": single(0.6).reshape(1), "least": single(-1e9).reshape(1),
    "less": single(-1e8).reshape(1), "row": whole(C * 16, 1, 16), "L": W, "V": W * 1.0001,
    "R": DICE.standard_normal((1, 16, 4)), "three": whole(3), "three64": np.array([3], np.int64),
    "nought": np.array(0), "minus": np.array(-3), "one": np.array(1),
    "tiny": single(1e-7), "k2.0": np.full((1, C, 1, 1), 2.0), "k3.0": np.full((1, C, 1, 1), 3.0),
}  # fmt: skip
OTHERWISE: Mapping[str, tuple[Nodes, Nodes, str]] = {
    "a number that is never chosen": (
        opened("Greater", "high", "five"), opened("Greater", "high", "six"), "6 instead of 5"
    ),
    "a bound": (
        opened("Greater", "high", "five"), opened("Greater", "higher", "five"), "1.1e+06"
    ),
    "another comparison": (
        opened("Greater", "high", "five"), opened("GreaterOrEqual", "high", "five"),
        "the original has a Greater",
    ),
    "under other names": (
        opened("Greater", "high", "five", "much w"), opened("Greater", "high", "six", "m v"),
        "6 instead of 5",
    ),
    "another comparison under other names": (
        opened("Less", "high", "five", "much w"), opened("LessOrEqual", "high", "five", "m v"),
        "the original has a Less",
    ),
    "another comparison the other way round": (
        opened("Greater", "high", "five"),
        [step("LessOrEqual", "high d", "m"), step("Where", "m five d")],
        "the original has a Greater",
    ),
    "a bound the other way round": (
        opened("Greater", "high", "five"),
        [step("Less", "higher d", "m"), step("Where", "m five d")], "1.1e+06",
    ),
    "another axis": (
        [step("CumSum", "d nought")], [step("CumSum", "d minus")], "axis"
    ),
    "an alpha of what is hardly ever negative": (
        bent("Elu", 1.0), bent("Elu", 1.2), "alpha is 1.2"
    ),
    "an alpha under another name": (
        bent("Elu", 1.0), bent("Elu", 1.2, "other"), "alpha is 1.2"
    ),
    "a threshold that nothing exceeds": (
        bent("ThresholdedRelu", -1e6), bent("ThresholdedRelu", -1e5), "alpha is -100000"
    ),
    "an overlap of boxes": (suppressed("half", "least"), suppressed("more", "least"), "0.6"),
    "a least score": (suppressed("half", "least"), suppressed("half", "less"), "-1e+08"),
    "the last of equals": (
        node("ArgMax", "d", axis=1), node("ArgMax", "d", axis=1, select_last_index=1),
        "select_last_index is 1",
    ),
    "a weight of a recurrent cell": (recurrent("L"), recurrent("V"), "'V'"),
    "a clip of a recurrent cell": (
        recurrent("L", clip=1e4), recurrent("L", clip=1e3), "clip is 1000"
    ),
    "a Cast to fewer bits": (
        [step("Cast", "d", "i", to=TensorProto.INT32), step("Cast", "i", to=TensorProto.FLOAT)],
        [step("Cast", "d", "i", to=TensorProto.INT8), step("Cast", "i", to=TensorProto.FLOAT)],
        "to is int8 instead of int32",
    ),
    "a branch that is not taken": (chosen("k2.0", "k3.0"), one_branch("Mul"), "an If there"),
}  # fmt: skip


@pytest.mark.parametrize("how", OTHERWISE)
def test_what_is_stated_otherwise_is_told(tmp_path: Path, how: str) -> None:
    behind, instead, told = OTHERWISE[how]
    proof = proved(tmp_path, *pair(behind, instead, SHAPE, STORED))
    assert not proof.structure.proved
    assert told in proof.broken


ALIKE: Mapping[str, tuple[Nodes, Nodes]] = {
    "a constant of one axis more": (
        [step("TopK", "d three64", "y i")], [step("TopK", "d three", "y i")]
    ),
    "a default that is stated": (node("Elu", "d"), node("Elu", "d", alpha=1.0)),
    "a comparison the other way round": (
        opened("Greater", "high", "five"),
        [step("Less", "high d", "m"), step("Where", "m five d")],
    ),
    "a comparison that is not so": (
        opened("Greater", "high", "five"),
        [step("LessOrEqual", "d high", "m"), step("Where", "m d five")],
    ),
    "an axis in a constant": ([step("CumSum", "d one")], [step("CumSum", "d minus")]),
    "axes that are kept and taken away": (
        [step("ArgMax", "d", "i", axis=1, keepdims=0), step("Cast", "i", to=TensorProto.FLOAT)],
        [step("ArgMax", "d", "i", axis=1), step("Cast", "i", to=TensorProto.FLOAT)],
    ),
    "an operator in other words": (
        [step("HardSwish", "d")],
        [step("Add", "d add", "a"), step("Clip", "a zero sixth", "c"),
         step("Mul", "c d", "m"), step("Div", "m sixth")],
    ),
    "a score that is zero anyway": (suppressed("half", "none"), suppressed("half", "")),
}  # fmt: skip


@pytest.mark.parametrize("how", ALIKE)
def test_what_is_said_in_another_way_is_not_accused(tmp_path: Path, how: str) -> None:
    behind, instead = ALIKE[how]
    more = {"add": single(3.0), "zero": single(0.0), "sixth": single(6.0),
            "none": single(0.0).reshape(1)}  # fmt: skip
    assert not proved(tmp_path, *pair(behind, instead, SHAPE, {**STORED, **more})).broken


SAME: Mapping[str, tuple[Nodes, int, Nodes, int]] = {
    "the last axis": (node("Softmax", "d", axis=-1), 19, node("Softmax", "d", axis=3), 19),
    "an axis": (node("ArgMax", "d", axis=1), 19, node("ArgMax", "d", axis=-3), 19),
    "a default axis": (node("LogSoftmax", "d", axis=3), 19, node("LogSoftmax", "d"), 19),
    "an older Softmax": (node("Softmax", "d", axis=3), 11, node("Softmax", "d", axis=-1), 13),
    "an older default": (
        [step("Flatten", "d", "f"), step("Softmax", "f")], 11,
        [step("Flatten", "d", "f"), step("Softmax", "f")], 13,
    ),
    "an older Hardmax": (node("Hardmax", "d", axis=-1), 11, node("Hardmax", "d"), 13),
    "axes in another order": (
        node("ReduceLogSumExp", "d", axes=[2, -3]), 13,
        node("ReduceLogSumExp", "d", axes=[1, 2]), 13,
    ),
    "all axes": (
        node("ReduceLogSumExp", "d", axes=[0, 1, 2, 3]), 13, node("ReduceLogSumExp", "d"), 13
    ),
    "an older ArgMax": (node("ArgMax", "d", axis=1), 11, node("ArgMax", "d", axis=1), 18),
    "an older GridSample": (
        [step("GridSample", "d grid", mode="bilinear")], 16,
        [step("GridSample", "d grid", mode="linear")], 20,
    ),
    "an older RoiAlign": (
        [step("RoiAlign", "d roi first")], 10,
        [step("RoiAlign", "d roi first",
              coordinate_transformation_mode="output_half_pixel")], 16,
    ),
}  # fmt: skip
OTHER: Mapping[str, tuple[Nodes, int, Nodes, int]] = {
    "another axis": (node("Softmax", "d", axis=-1), 19, node("Softmax", "d", axis=2), 19),
    "an older Softmax": (node("Softmax", "d", axis=1), 11, node("Softmax", "d", axis=1), 13),
    "an older default": (node("Softmax", "d"), 11, node("Softmax", "d"), 13),
    "an older RoiAlign": (
        [step("RoiAlign", "d roi first")], 10, [step("RoiAlign", "d roi first")], 16
    ),
    "an older k": (
        [step("TopK", "d", "y i", k=3, axis=1)], 8, [step("TopK", "d two", "y i", axis=1)], 11
    ),
    "older axes": (
        node("ReduceLogSumExp", "d", axes=[2]), 13, [step("ReduceLogSumExp", "d two2")], 18
    ),
}  # fmt: skip
FED = {
    "grid": DICE.uniform(-0.9, 0.9, (1, 4, 4, 2)), "roi": np.array([[0.0, 0.0, 5.0, 5.0]]),
    "first": whole(0), "two2": whole(2, 3),
}  # fmt: skip


def of_versions(
    behind: Nodes, before: int, instead: Nodes, after: int
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    made = pair(behind, instead, SHAPE, {**STORED, **FED})
    for model, version in zip(made, (before, after), strict=True):
        model.opset_import[0].version = version
    return made


@pytest.mark.parametrize("how", SAME)
def test_what_means_the_same_is_proved(tmp_path: Path, how: str) -> None:
    assert proved(tmp_path, *of_versions(*SAME[how])).structure.proved


@pytest.mark.parametrize("how", OTHER)
def test_what_means_something_else_is_told(tmp_path: Path, how: str) -> None:
    proof = proved(tmp_path, *of_versions(*OTHER[how]))
    assert not proof.structure.proved
    assert proof.broken


def test_what_was_an_attribute_is_not_accused(tmp_path: Path) -> None:
    """A newer version takes the same number as an input."""
    chosen = [step("TopK", "d", "y i", k=2, axis=1)], 8, [step("TopK", "d two", "y i", axis=-3)], 11
    assert not proved(tmp_path, *of_versions(*chosen)).broken
    summed = (
        node("ReduceLogSumExp", "d", axes=[3, -2]), 13, [step("ReduceLogSumExp", "d two2")], 18
    )  # fmt: skip
    assert not proved(tmp_path, *of_versions(*summed)).broken


def test_a_function_of_its_own_in_place_of_an_operator_is_told(tmp_path: Path) -> None:
    original, candidate = pair(node("Relu", "d"), node("Relu", "d"), SHAPE)
    body = [step("Abs", "a", "r")]
    own = helper.make_function("", "Relu", ["a"], ["r"], body, [helper.make_opsetid("", 19)])
    candidate.functions.append(own)
    assert "a function of its own for Relu" in proved(tmp_path, original, candidate).interface
