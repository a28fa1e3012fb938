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
from proving import clone, proved
from test_deliberate import (
    FIXED,
    FREE,
    C,
    Nodes,
    Weights,
    accepted,
    folded,
    model,
    pair,
    weights,
    whole,
)

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
    "positions that are the same for the first elements": Kind(
        resized("more", mode="nearest"),
        resized("more", mode="nearest", coordinate_transformation_mode="asymmetric",
                nearest_mode="floor"),
        {"more": single(1, 1, 1.6, 1.6)},
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
    "a smoothed interpolation": Kind(
        resized("half", mode="linear"), resized("half", mode="linear", antialias=1),
        {"half": single(1, 1, 0.5, 0.5)},
    ),
    "an interpolation that ends otherwise": Kind(
        resized("twice", mode="cubic"), resized("twice", mode="cubic", exclude_outside=1),
        {"twice": single(1, 1, 2, 2)},
    ),
    "a swish of something more": Kind(
        [step("Sigmoid", "d", "s"), step("Mul", "d s")],
        [step("Mul", "d more", "q"), step("Sigmoid", "q", "s"), step("Mul", "d s")],
        {"more": single(1.0001)},
    ),
    "a step that is far away": Kind(
        [step("Add", "d far", "q"), step("Sigmoid", "q")],
        [step("Add", "d farther", "q"), step("Sigmoid", "q")],
        {"far": single(50.0), "farther": single(50.001)},
    ),
    "a bend that is none": Kind(
        [step("Mul", "d huge", "q"), step("Softplus", "q")],
        [step("Mul", "d huge", "q"), step("Relu", "q")], {"huge": single(1e6)},
    ),
    "a steeper hard sigmoid": Kind(
        [step("HardSigmoid", "d")], [step("HardSigmoid", "d", alpha=0.2000001)]
    ),
    "a swish that is shifted": Kind(
        [step("HardSwish", "d")],
        [step("Add", "d three", "q"), step("Clip", "q nil six", "r"), step("Mul", "d r", "p"),
         step("Div", "p six")],
        {"three": single(3.0001), "nil": single(0.0), "six": single(6.0)},
    ),
    "a product that is divided by another number": Kind(
        [step("HardSwish", "d")],
        [step("Add", "d three", "q"), step("Clip", "q nil six", "r"), step("Mul", "d r", "p"),
         step("Div", "p seven")],
        {"three": single(3.0), "nil": single(0.0), "six": single(6.0), "seven": single(6.00001)},
    ),
    "a bound of the larger one": Kind(
        [step("Relu", "d", "r"), step("Neg", "r", "q"), step("Neg", "d", "p"),
         step("Max", "q p least")],
        [step("Relu", "d", "r"), step("Neg", "r", "q"), step("Neg", "d", "p"), step("Max", "q p")],
        {"least": single(-1e9)},
    ),
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


def scaled_behind(
    between: Nodes, instead: Nodes, stored: Weights, dtype: int
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return Conv → between → Mul, and its fold with `instead`: one region, no tensor between."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    rng = np.random.default_rng(3)
    kernel, factor = rng.standard_normal((C, C, 3, 3)), rng.uniform(0.5, 1.5, (C, 1, 1, 1))
    kernel, factor = (array.astype(kind).astype(np.float64) for array in (kernel, factor))
    conv = step("Conv", "x W", "c", pads=[1] * 4)
    made = {**stored, "W": kernel * factor}
    return (
        model([conv, *between, step("Mul", "e k")],
              {**stored, "W": kernel, "k": factor.reshape(1, C, 1, 1)}, FIXED, dtype),
        model([conv, *instead, step("Identity", "e")], made, FIXED, dtype),
    )  # fmt: skip


def enlarged(coefficient: float) -> Nodes:
    return [step("Resize", "c  twice", "e", mode="cubic", cubic_coeff_a=coefficient)]


HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
KEPT: Mapping[str, tuple[Nodes, Nodes, Weights, int]] = {
    "a slope": (
        [step("LeakyRelu", "c", "e", alpha=0.1)], [step("LeakyRelu", "c", "e", alpha=0.10015)],
        {}, HALF,
    ),
    "slopes": (
        [step("PRelu", "c s", "e")], [step("PRelu", "c p", "e")],
        {"s": np.array(0.25), "p": np.array(0.2505)}, HALF,
    ),
    "a way to interpolate": (
        enlarged(-0.75), enlarged(-0.7505), {"twice": single(1, 1, 2, 2)}, HALF
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", KEPT)
def test_what_a_fold_passes_is_kept_as_it_is(tmp_path: Path, how: str) -> None:
    between, instead, stored, dtype = KEPT[how]
    assert accepted(proved(tmp_path, *scaled_behind(between, between, stored, dtype)))
    assert not accepted(proved(tmp_path, *scaled_behind(between, instead, stored, dtype)))


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("times", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("op_type", ["Sigmoid", "Erf", "HardSigmoid"])
def test_what_is_flat_hides_no_wrong_weight(
    tmp_path: Path, op_type: str, times: float, dtype: int
) -> None:
    """Most numbers that enter are so large that it makes 0 or 1 of them; no name is kept."""

    def behind(read: str, called: str) -> Nodes:
        return [
            step("Mul", f"{read} t", f"{called}p"),
            step(op_type, f"{called}p", f"{called}s"),
            step("Mul", f"{called}s h"),
        ]

    given, more = weights(), {"t": np.array(times), "h": np.array(3.0)}
    conv, norm = (
        step("Conv", "x W b", "c", pads=[1] * 4), step("BatchNormalization", "c g be m v", "d")
    )  # fmt: skip
    original = model([conv, norm, *behind("d", "o")], {**given, **more}, FIXED, dtype)
    for wrong in (1.0, 1.1):
        kept = folded(given)
        kept["W"][2] *= wrong
        other = model([conv, *behind("c", "k")], {**kept, **more}, FIXED, dtype)
        assert accepted(proved(tmp_path, original, other)) == (wrong == 1)


@pytest.mark.parametrize(("roundings", "right"), [(0.0, True), (1.0, False), (3.9, False)])
def test_a_bound_that_is_an_attribute_is_a_single(
    tmp_path: Path,
    roundings: float,
    right: bool,  # noqa: FBT001
) -> None:
    """Of half precision are the tensors, and not the bounds of a Clip before opset 11."""
    kernel = np.random.default_rng(3).standard_normal((C, C, 3, 3)).astype(np.float16)
    conv, factor = step("Conv", "x W", "c", pads=[1] * 4), np.float16(0.7)
    bounded = [step("Clip", "c", "e", min=0.0, max=6.0), step("Mul", "e k")]
    bound = 6 * float(factor) * (1 + roundings * 2.0**-11)
    made = {"W": (kernel * factor).astype(np.float64)}
    models = (
        model([conv, *bounded], {"W": kernel, "k": np.array(factor)}, FIXED, HALF),
        model([conv, step("Clip", "c", min=0.0, max=bound)], made, FIXED, HALF),
    )
    for each in models:
        each.opset_import[0].version = 9
    assert accepted(proved(tmp_path, *models)) == right


def test_a_normalization_keeps_the_type_that_it_computes_in(tmp_path: Path) -> None:
    scale = DICE.uniform(0.5, 1.5, 16)
    original, right, wrong = (
        model([step("LayerNormalization", "x s", stash_type=kind)], {"s": scale}, (1, 4, 16))
        for kind in (SINGLE, SINGLE, HALF)
    )
    assert accepted(proved(tmp_path, original, right))
    assert not accepted(proved(tmp_path, original, wrong))


def test_a_normalization_keeps_its_epsilon(tmp_path: Path) -> None:
    """Its scale takes up what is behind, and no input that is made up is so small that it shows."""
    scale, factor = (DICE.uniform(0.5, 1.5, 16).astype(np.float32) for _ in range(2))
    before = [step("LayerNormalization", "x s", "e"), step("Mul", "e k")]
    original = model(before, {"s": scale, "k": factor}, (1, 4, 16))
    right, wrong = (
        model([step("LayerNormalization", "x s", epsilon=e)], {"s": scale * factor}, (1, 4, 16))
        for e in (1e-5, 1.001e-5)
    )
    assert accepted(proved(tmp_path, original, right))
    assert not accepted(proved(tmp_path, original, wrong))


FAR: Mapping[str, tuple[Nodes, Nodes, Weights]] = {
    "to far away": (AS_IT_IS, [step("Slice", "d nil far a")],
                    {"nil": whole(0), "far": whole(5000), "a": whole(2)}),
    "from the end": (
        [step("Slice", "d far e a")], [step("Slice", "d other e a")],
        {"far": whole(-700), "other": whole(-701), "e": whole(2**62), "a": whole(3)},
    ),
    "in steps": (
        [step("Slice", "d nil e a far")], [step("Slice", "d nil e a other")],
        {"nil": whole(0), "far": whole(700), "other": whole(701), "e": whole(2**62), "a": whole(3)},
    ),
    "to so many samples": (AS_IT_IS, [step("Slice", "d nil far nil")],
                           {"nil": whole(0), "far": whole(64)}),
}  # fmt: skip


@pytest.mark.parametrize("how", FAR)
def test_what_is_farther_than_any_probe_is_told(tmp_path: Path, how: str) -> None:
    behind, instead, stored = FAR[how]
    assert accepted(proved(tmp_path, *pair(behind, behind, FREE, stored)))
    proof = proved(tmp_path, *pair(behind, instead, FREE, stored))
    assert "the lengths that were tried" in proof.structure.narrowed[0]


def test_another_way_to_say_the_end_of_an_axis_is_none(tmp_path: Path) -> None:
    behind, instead = ([step("Slice", f"d nil {end} a")] for end in ("far", "farther"))
    ends = {"nil": whole(0), "a": whole(2), "far": whole(2**31 - 1), "farther": whole(2**63 - 1)}
    assert accepted(proved(tmp_path, *pair(behind, instead, FREE, ends)))


LONG: Mapping[str, tuple[Nodes, Weights]] = {
    "bounded": ([step("Clip", "x low high", "i")], {"low": whole(-1000), "high": whole(1000)}),
    "without a sign": ([step("Abs", "x", "i")], {}),
    "with fewer bits": ([step("Cast", "x", "n", to=TensorProto.INT32),
                         step("Cast", "n", "i", to=TensorProto.INT64)], {}),
}  # fmt: skip


@pytest.mark.parametrize("how", LONG)
def test_long_integers_are_tried_that_are_no_indices(tmp_path: Path, how: str) -> None:
    before, stored = LONG[how]
    stored = {name: array.reshape(()) for name, array in stored.items()}
    behind = [step("Cast", "i", "f", to=SINGLE), step("Mul", "f k")]
    more = {**stored, "k": single(1.5)}
    right = model([step("Identity", "x", "i"), *behind], more, FIXED, x=TensorProto.INT64)
    wrong = model([*before, *behind], more, FIXED, x=TensorProto.INT64)
    assert accepted(proved(tmp_path, right, clone(right)))
    assert not accepted(proved(tmp_path, right, wrong))


SAME: Mapping[str, Kind] = {
    "an index from the end": Kind(
        [step("Gather", "d i", axis=1)], [step("Gather", "d j", axis=1)],
        {"i": whole(-1), "j": whole(7)},
    ),
    "a default that is stated": Kind(
        [step("HardSigmoid", "d")], [step("HardSigmoid", "d", alpha=0.2, beta=0.5)]
    ),
    "an axis that is the default": Kind([step("Softmax", "d")], [step("Softmax", "d", axis=-1)]),
    "a hard swish written out": Kind(
        [step("HardSwish", "d")],
        [step("Add", "d three", "q"), step("Clip", "q nil six", "r"), step("Mul", "d r", "p"),
         step("Div", "p six")],
        {"three": single(3.0), "nil": single(0.0), "six": single(6.0)},
    ),
    "a hard swish as a hard sigmoid": Kind(
        [step("HardSwish", "d")],
        [step("HardSigmoid", "d", "s", alpha=1 / 6, beta=0.5), step("Mul", "s d")],
    ),
    "a copy beside": Kind(
        [step("Tile", "d across")], [step("Concat", "d d", axis=3)], {"across": whole(1, 1, 1, 2)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_what_is_the_same_is_accepted(tmp_path: Path, how: str) -> None:
    kind = SAME[how]
    proof = proved(tmp_path, *pair(kind.behind, kind.instead, kind.shape, kind.stored))
    assert accepted(proof), proof.structure.reason


@pytest.mark.parametrize("length", [16, 17])
def test_a_length_that_is_measured_may_be_stored(tmp_path: Path, length: int) -> None:
    """Free lengths stand before a known one, which no probe cuts down."""
    measured = [
        step("Shape", "x", "s"), step("Gather", "s two", "c"), step("Gather", "s nil", "n"),
        step("Concat", "n many c", "t", axis=0), step("Reshape", "x t"),
    ]  # fmt: skip
    stored = [
        step("Shape", "x", "s"), step("Gather", "s nil", "n"),
        step("Concat", "n many of", "t", axis=0), step("Reshape", "x t"),
    ]  # fmt: skip
    numbers = {"two": whole(2), "nil": whole(0), "many": whole(-1), "of": whole(length)}
    models = (model(nodes, numbers, ("N", "L", 16)) for nodes in (measured, stored))
    assert accepted(proved(tmp_path, *models)) == (length == 16)


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
