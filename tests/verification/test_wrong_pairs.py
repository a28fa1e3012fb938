"""Wrong candidates of many kinds beside right ones, told from the files alone.

Each is Conv → BatchNormalization → something, folded, with something else behind it; and behind
all stands an operator that nobody can run or look into.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from proving import proved
from test_deliberate import FIXED, FREE, C, Nodes, Weights, accepted, model, pair, whole

Shape = Sequence[int | str]


def step(op_type: str, reads: str, makes: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, reads.split(" "), makes.split(), **attributes)


@dataclass(frozen=True)
class Kind:
    """What stands behind, what stands there instead, and the constants of both."""

    behind: Nodes
    instead: Nodes
    stored: Weights = field(default_factory=dict)
    other: Weights = field(default_factory=dict)
    shape: Shape = FIXED


def single(*numbers: float) -> np.ndarray:
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)


def resized(scales: str, **attributes: Any) -> Nodes:
    return [step("Resize", f"d  {scales}", **attributes)]


def quantized(scale: str, zero: str) -> Nodes:
    return [step("QuantizeLinear", "d s nil", "q"), step("DequantizeLinear", f"q {scale} {zero}")]


def shuffled(groups: str) -> Nodes:
    return [
        step("Reshape", f"d {groups}", "apart"),
        step("Transpose", "apart", "turned", perm=[0, 2, 1, 3, 4]),
        step("Reshape", "turned together"),
    ]


def value(name: str, elem_type: int, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def product(factor: str, makes: str) -> onnx.GraphProto:
    nodes = [step("Mul", f"d {factor}", makes)]
    return helper.make_graph(nodes, makes, [], [value(makes, TensorProto.FLOAT)])


def chosen(then: str, otherwise: str, above: str = "high") -> Nodes:
    """Return an If that random inputs decide one way alone."""
    then_branch, else_branch = product(then, "t"), product(otherwise, "e")
    return [
        step("ReduceMax", "d", "top", keepdims=0),
        step("Greater", f"top {above}", "much"),
        step("If", "much", then_branch=then_branch, else_branch=else_branch),
    ]


def repeated(times: str, factor: str, begins: str = "yes") -> Nodes:
    nodes = [step("Mul", f"v {factor}", "more"), step("Identity", "go", "still")]
    body = helper.make_graph(
        nodes, "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []),
         value("v", TensorProto.FLOAT)],
        [value("still", TensorProto.BOOL, []), value("more", TensorProto.FLOAT)],
    )  # fmt: skip
    return [step("Loop", f"{times} {begins} d", body=body)]


def scanned(direction: int) -> Nodes:
    nodes = [step("Add", "sum row", "next"), step("Identity", "next", "each")]
    body = helper.make_graph(
        nodes, "body",
        [value("sum", TensorProto.FLOAT), value("row", TensorProto.FLOAT)],
        [value("next", TensorProto.FLOAT), value("each", TensorProto.FLOAT)],
    )  # fmt: skip
    return [
        step("Scan", "start d", "end y", body=body, num_scan_inputs=1, scan_input_axes=[2],
             scan_output_axes=[2], scan_input_directions=[direction])
    ]  # fmt: skip


FACTORS = {f"k{n}": np.full((1, C, 1, 1), n) for n in (2.0, 3.0, 2.001)}
LOOP = {"three": np.array(3), "four": np.array(4),
        "yes": np.array(1, bool), "no": np.array(0, bool),
        **FACTORS}  # fmt: skip
IF = {"high": single(1e6), "higher": single(1.1e6), **FACTORS}
HALVES = {"halves": whole(4, 4)}
DICE = np.random.default_rng(5)
MASK, PLACES = np.ones((1, 1, 32, 32)), DICE.standard_normal((1, C, 32, 32))


def but_one(array: np.ndarray, *place: int, by: float) -> np.ndarray:
    made = array.copy()
    made[place] += by
    return made


def split_into(makes: str) -> Nodes:
    return [step("Split", "d halves", makes, axis=1), step("Concat", "p q", axis=1)]


AS_IT_IS = [step("Identity", "d")]
KINDS: Mapping[str, Kind] = {
    "a picture on its side": Kind([step("Transpose", "d", perm=[0, 1, 3, 2])], AS_IT_IS),
    "a picture from right to left": Kind(
        [step("Slice", "d last before three back")], AS_IT_IS,
        {"last": whole(-1), "before": whole(-(2**62)), "three": whole(3), "back": whole(-1)},
    ),
    "halves that change places": Kind(split_into("p q"), split_into("q p"), HALVES),
    "another channel": Kind(
        [step("Gather", "d i", axis=1)], [step("Gather", "d j", axis=1)],
        {"i": whole(-1), "j": whole(6)},
    ),
    "other groups": Kind(
        shuffled("two"), shuffled("four"),
        {"two": whole(1, 2, 4, 32, 32), "four": whole(1, 4, 2, 32, 32),
         "together": whole(1, C, 32, 32)},
    ),
    "other corners": Kind(
        resized("twice", mode="linear"),
        resized("twice", mode="linear", coordinate_transformation_mode="asymmetric"),
        {"twice": single(1, 1, 2, 2)},
    ),
    "a scale that shows on large pictures alone": Kind(
        resized("twice", mode="nearest"), resized("more", mode="nearest"),
        {"twice": single(1, 1, 2, 2), "more": single(1, 1, 2, 2.001)}, shape=FREE,
    ),
    "blocks in another order": Kind(
        [step("DepthToSpace", "d", blocksize=2)],
        [step("DepthToSpace", "d", blocksize=2, mode="CRD")],
    ),
    "one pixel of a mask": Kind(
        [step("Mul", "d k")], [step("Mul", "d k")], {"k": MASK},
        {"k": but_one(MASK, 0, 0, 30, 29, by=-1)},
    ),
    "one pixel of a bias": Kind(
        [step("Add", "d k")], [step("Add", "d k")], {"k": PLACES},
        {"k": but_one(PLACES, 0, 5, 17, 23, by=1e-3)},
    ),
    "a margin that is lost": Kind(
        AS_IT_IS, [step("Slice", "d ones minus axes", "inner"), step("Pad", "inner ring")],
        {"ones": whole(1, 1), "minus": whole(-1, -1), "axes": whole(2, 3),
         "ring": whole(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "a column that is left out of a mean": Kind(
        [step("GlobalAveragePool", "d")],
        [step("Slice", "d nil most three", "less"), step("GlobalAveragePool", "less")],
        {"nil": whole(0), "most": whole(31), "three": whole(3)},
    ),
    "a scale of integers": Kind(
        quantized("s", "nil"), quantized("t", "nil"),
        {"s": single(0.1), "t": single(0.1001), "nil": np.array(3, np.int8)},
    ),
    "a zero of integers": Kind(
        quantized("s", "nil"), quantized("s", "n"),
        {"s": single(0.1), "nil": np.array(3, np.int8), "n": np.array(4, np.int8)},
    ),
    "branches that change places": Kind(chosen("k2.0", "k3.0"), chosen("k3.0", "k2.0"), IF),
    "a branch that is never taken": Kind(chosen("k2.0", "k3.0"), chosen("k2.001", "k3.0"), IF),
    "another condition": Kind(chosen("k2.0", "k3.0"), chosen("k2.0", "k3.0", "higher"), IF),
    "one turn more": Kind(repeated("three", "k2.0"), repeated("four", "k2.0"), LOOP),
    "another factor each turn": Kind(repeated("three", "k2.0"), repeated("three", "k2.001"), LOOP),
    "no turn": Kind(repeated("three", "k2.0"), repeated("three", "k2.0", "no"), LOOP),
    "a sum from below": Kind(scanned(0), scanned(1), {"start": np.zeros((1, C, 32))}),
}  # fmt: skip


@pytest.mark.parametrize("how", KINDS)
def test_what_differs_is_not_accepted(tmp_path: Path, how: str) -> None:
    kind = KINDS[how]
    stored = kind.stored
    right = pair(kind.behind, kind.behind, kind.shape, stored)
    wrong = pair(kind.behind, kind.instead, kind.shape, stored, kind.other)
    assert accepted(proved(tmp_path, *right))
    assert not accepted(proved(tmp_path, *wrong))


SAME: Mapping[str, Kind] = {
    "an index from the end": Kind(
        [step("Gather", "d i", axis=1)], [step("Gather", "d j", axis=1)],
        {"i": whole(-1), "j": whole(7)},
    ),
    "a default that is stated": Kind(
        [step("HardSigmoid", "d")], [step("HardSigmoid", "d", alpha=0.2, beta=0.5)]
    ),
    "an axis that is the default": Kind([step("Softmax", "d")], [step("Softmax", "d", axis=-1)]),
    "a copy beside": Kind(
        [step("Tile", "d across")], [step("Concat", "d d", axis=3)], {"across": whole(1, 1, 1, 2)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_what_is_the_same_is_accepted(tmp_path: Path, how: str) -> None:
    kind = SAME[how]
    proof = proved(tmp_path, *pair(kind.behind, kind.instead, kind.shape, kind.stored))
    assert accepted(proof), proof.structure.reason


@pytest.mark.parametrize("row", [None, 3, 500, 999])
def test_every_row_of_a_table_is_looked_up(tmp_path: Path, row: int | None) -> None:
    table = DICE.standard_normal((1000, 8)).astype(np.float32)
    factors = DICE.uniform(0.5, 2, 8).astype(np.float32)
    made = table * factors
    if row is not None:
        made[row, 3] *= np.float32(1.01)
    looked_up = [step("Gather", "t x", "e"), step("Mul", "e k")]
    models = (
        model(looked_up, {"t": table, "k": factors}, ("N", 5), x=TensorProto.INT64),
        model([step("Gather", "t x")], {"t": made}, ("N", 5), x=TensorProto.INT64),
    )
    assert accepted(proved(tmp_path, *models)) == (row is None)
