"""Wrong candidates that were made with care: by kinds, several of each, and right ones beside them.

All are told from the files alone: behind each stands an operator that nobody can run or look into.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved

import bnfold
from bnfold.verification.proof.prove import Proof

C = 8
Nodes = list[onnx.NodeProto]
Weights = dict[str, np.ndarray]


def weights(seed: int = 0, kernel: int = 3) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        "W": rng.standard_normal((C, C, kernel, kernel)), "b": rng.standard_normal(C),
        "g": rng.uniform(0.5, 1.5, C), "be": rng.standard_normal(C),
        "m": rng.standard_normal(C), "v": rng.uniform(0.3, 2, C),
    }  # fmt: skip


def folded(given: Weights) -> Weights:
    scale = given["g"] / np.sqrt(given["v"] + float(np.float32(1e-5)))
    bias = (given["b"] - given["m"]) * scale + given["be"]
    return {"W": given["W"] * scale[:, None, None, None], "b": bias}


def model(
    nodes: Nodes,
    stored: Weights,
    shape: Sequence[int | str],
    dtype: int = TensorProto.FLOAT,
    x: int | None = None,
) -> onnx.ModelProto:
    """Return a model of x that ends in y, behind which an unknown operator makes z."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [*nodes, helper.make_node("Detect", ["y"], ["z"], domain="my.ops")]
    arrays = {n: a.astype(kind) if a.dtype == np.float64 else a for n, a in stored.items()}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", x or dtype, shape)],
        [helper.make_tensor_value_info("z", dtype, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def pair(
    behind: Nodes,
    instead: Nodes,
    shape: Sequence[int | str],
    more: Weights | None = None,
    other: Weights | None = None,
    dtype: int = TensorProto.FLOAT,
    wrong: float = 1.0,
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return Conv → BN → `behind`, and its fold with `instead` behind it, weights times `wrong`."""
    given, more = weights(), more or {}
    kept = folded(given)
    kept["W"] = kept["W"] * wrong
    conv = helper.make_node("Conv", ["x", "W", "b"], ["c"], pads=[1] * 4)
    norm = helper.make_node("BatchNormalization", ["c", "g", "be", "m", "v"], ["d"])
    fused = helper.make_node("Conv", ["x", "W", "b"], ["d"], pads=[1] * 4)
    return (
        model([conv, norm, *behind], {**given, **more}, shape, dtype),
        model([fused, *instead], {**kept, **more, **(other or {})}, shape, dtype),
    )


def accepted(proof: Proof) -> bool:
    narrowed = bool(proof.structure.narrowed)
    return proof.structure.proved and not (proof.broken or narrowed or proof.interface)


def node(op_type: str, *inputs: str, **attributes: Any) -> Nodes:
    return [helper.make_node(op_type, inputs, ["y"], **attributes)]


FIXED, FREE = (1, C, 32, 32), ("N", C, "H", "W")


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def pool(op_type: str, k: int, **attributes: Any) -> Nodes:
    return node(op_type, "d", kernel_shape=[k, k], **{"pads": [k // 2] * 4, **attributes})


WINDOWS: dict[str, tuple[Nodes, Nodes, Sequence[int | str]]] = {
    "larger": (pool("MaxPool", 3), pool("MaxPool", 5), FIXED),
    "much larger": (pool("MaxPool", 3), pool("MaxPool", 7), FIXED),
    "larger mean": (pool("AveragePool", 3), pool("AveragePool", 5), FIXED),
    "padding counted": (
        pool("AveragePool", 3), pool("AveragePool", 3, count_include_pad=1), FIXED
    ),
    "rounded up": (
        pool("MaxPool", 2, strides=[2, 2], pads=[0] * 4),
        pool("MaxPool", 2, strides=[2, 2], pads=[0] * 4, ceil_mode=1), FREE,
    ),
    "rounded up, of an odd length": (
        pool("MaxPool", 2, strides=[2, 2], pads=[0] * 4),
        pool("MaxPool", 2, strides=[2, 2], pads=[0] * 4, ceil_mode=1), (1, C, 33, 33),
    ),
    "on the other side": (
        pool("MaxPool", 3, strides=[2, 2], auto_pad="SAME_UPPER", pads=None),
        pool("MaxPool", 3, strides=[2, 2], auto_pad="SAME_LOWER", pads=None), FIXED,
    ),
    "dilated": (pool("MaxPool", 3), pool("MaxPool", 3, dilations=[2, 2], pads=[2] * 4), FIXED),
    "one side less": (
        pool("MaxPool", 3, strides=[2, 2]), pool("MaxPool", 3, strides=[2, 2], pads=[1, 1, 0, 0]),
        FREE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WINDOWS)
def test_a_probe_is_as_large_as_what_both_models_reach(tmp_path: Path, how: str) -> None:
    behind, instead, shape = WINDOWS[how]
    assert accepted(proved(tmp_path, *pair(behind, behind, shape)))
    assert not accepted(proved(tmp_path, *pair(behind, instead, shape)))


def test_rounding_up_changes_nothing_where_nothing_is_left(tmp_path: Path) -> None:
    behind, instead, _ = WINDOWS["rounded up"]
    assert accepted(proved(tmp_path, *pair(behind, instead, FIXED)))


def cropped(start: int, end: int) -> tuple[Nodes, Weights]:
    ends = {"s": whole(start, start), "e": whole(end, end), "a": whole(2, 3)}
    return node("Slice", "d", "s", "e", "a"), ends


@pytest.mark.parametrize(("start", "end"), [(40, 60), (70, 72)])
def test_nothing_is_no_evidence(tmp_path: Path, start: int, end: int) -> None:
    """Cut down to a few pixels, the picture has none where the crop is."""
    crop, ends = cropped(start, end)
    assert not accepted(proved(tmp_path, *pair(crop, crop, FREE, ends, wrong=3.0)))
    assert accepted(proved(tmp_path, *pair(crop, crop, FREE, ends)))


def reshaped(*sizes: int) -> Nodes:
    return node("Reshape", "d", "t" + "_".join(map(str, sizes)))


def from_length(op_type: str, number: int) -> Nodes:
    """Return a crop that begins where a number and the height say."""
    return [
        helper.make_node("Shape", ["d"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["H"]),
        helper.make_node(op_type, ["H", f"n{number}"], ["first"]),
        helper.make_node("Slice", ["d", "first", "end", "a"], ["y"]),
    ]


def if_taller(number: int) -> Nodes:
    """Return a crop of pictures that are taller than a number."""
    return [
        helper.make_node("Shape", ["d"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["H"]),
        helper.make_node("Greater", ["H", f"n{number}"], ["taller"]),
        helper.make_node("Cast", ["taller"], ["first"], to=TensorProto.INT64),
        helper.make_node("Slice", ["d", "first", "end", "a"], ["y"]),
    ]


SHAPES = {"t0_-1": whole(0, -1), "t1_-1": whole(1, -1), "s": whole(0), "a": whole(3),
          "e64": whole(64), "end": whole(2**62), "two": whole(2),
          **{f"n{n}": whole(n) for n in (33, 64, 65, 700, 900)}}  # fmt: skip
NARROW: dict[str, tuple[Nodes, Nodes]] = {
    "over the batch, too": (
        node("GlobalAveragePool", "d"),
        [helper.make_node("ReduceMean", ["d"], ["y"], axes=[0, 2, 3])],
    ),
    "of one sample": (reshaped(0, -1), reshaped(1, -1)),
    "to the 64th": (node("Slice", "d", "s", "end", "a"), node("Slice", "d", "s", "e64", "a")),
    "divided by another number": (from_length("Div", 64), from_length("Div", 33)),
    "divided by the next number": (from_length("Div", 64), from_length("Div", 65)),
    "divided by numbers beyond all probes": (from_length("Div", 900), from_length("Div", 700)),
    "taller than another number": (if_taller(64), if_taller(33)),
}


@pytest.mark.parametrize("how", NARROW)
def test_what_is_right_for_some_shapes_is_not_accepted(tmp_path: Path, how: str) -> None:
    behind, instead = NARROW[how]
    assert accepted(proved(tmp_path, *pair(behind, behind, FREE, SHAPES)))
    assert not accepted(proved(tmp_path, *pair(behind, instead, FREE, SHAPES)))


@pytest.mark.parametrize("number", [33, 65])
def test_lengths_that_are_known_are_not_cut_below_what_they_are_divided_by(
    tmp_path: Path, number: int
) -> None:
    behind, instead, shape = from_length("Div", 64), from_length("Div", number), (1, C, 128, 66)
    assert accepted(proved(tmp_path, *pair(behind, behind, shape, SHAPES)))
    assert not accepted(proved(tmp_path, *pair(behind, instead, shape, SHAPES)))


HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
PARAMETERS: dict[str, tuple[Nodes, str, float, float, int]] = {
    "a bound": (node("Clip", "d", "lo", "p"), "p", 6.0, 6.39, HALF),
    "a bound, by one ulp": (node("Clip", "d", "lo", "p"), "p", 6.0, 6.004, HALF),
    "a bound in single precision": (node("Clip", "d", "lo", "p"), "p", 6.0, 6.000001, SINGLE),
    "the lower bound": (node("Clip", "d", "p", "hi"), "p", -1.0, -1.002, HALF),
    "a slope": (node("PRelu", "d", "p"), "p", 0.25, 0.2505, HALF),
    "a pad value": (node("Pad", "d", "ring", "p"), "p", -1e4, -1.002e4, HALF),
    "a maximum": (node("Max", "d", "p"), "p", 0.5, 0.501, HALF),
    "a minimum": (node("Min", "d", "p"), "p", 6.0, 6.004, HALF),
}
RING = {"ring": whole(0, 0, 1, 1, 0, 0, 1, 1), "lo": np.array(0.0), "hi": np.array(6.0)}


@pytest.mark.parametrize("how", PARAMETERS)
def test_parameters_are_no_rounding(tmp_path: Path, how: str) -> None:
    behind, name, right, wrong, dtype = PARAMETERS[how]
    more = {**RING, name: np.array(right)}
    assert accepted(proved(tmp_path, *pair(behind, behind, FIXED, more, dtype=dtype)))
    other = {name: np.array(wrong)}
    assert not accepted(proved(tmp_path, *pair(behind, behind, FIXED, more, other, dtype)))


@pytest.mark.parametrize("wrong", [0.1001, 0.119])
def test_a_slope_that_is_an_attribute_is_no_rounding(tmp_path: Path, wrong: float) -> None:
    behind, instead = (node("LeakyRelu", "d", alpha=alpha) for alpha in (0.1, wrong))
    assert accepted(proved(tmp_path, *pair(behind, behind, FIXED, dtype=HALF)))
    assert not accepted(proved(tmp_path, *pair(behind, instead, FIXED, dtype=HALF)))


def test_a_chain_of_products_buys_no_slack(tmp_path: Path) -> None:
    """Ten numbers of 1 and a little, each rounded, are no ten roundings of one fold."""
    names = [f"k{i}" for i in range(10)]
    off = np.array(1 + 2.0**-10)
    chain: Nodes = []
    for place, name in enumerate(names):
        read, made = ("d" if not place else f"t{place}"), f"t{place + 1}"
        chain += [helper.make_node("Mul", [read, name], [made if place < 9 else "y"])]
    more = dict.fromkeys(names, off)
    assert not accepted(proved(tmp_path, *pair(node("Identity", "d"), chain, FIXED, more,
                                                dtype=HALF)))  # fmt: skip


def cast(*targets: int, **attributes: Any) -> Nodes:
    nodes, read = [], "d"
    for place, target in enumerate(targets):
        made = "y" if place == len(targets) - 1 else f"q{place}"
        said = attributes if not place else {}
        nodes.append(helper.make_node("Cast", [read], [made], to=target, **said))
        read = made
    return nodes


EIGHT, BRAIN = TensorProto.FLOAT8E4M3FN, TensorProto.BFLOAT16
CASTS: dict[str, tuple[Nodes, Nodes]] = {
    "another way to saturate": (cast(EIGHT, SINGLE), cast(EIGHT, SINGLE, saturate=0)),
    "to eight bits left out": (cast(EIGHT, SINGLE), node("Identity", "d")),
    "to bfloat16 left out": (cast(BRAIN, SINGLE), node("Identity", "d")),
    "to half precision left out": (cast(HALF, SINGLE), node("Identity", "d")),
    "added": (node("Identity", "d"), cast(HALF, SINGLE)),
}


@pytest.mark.parametrize("how", CASTS)
def test_casts_are_the_same_casts(tmp_path: Path, how: str) -> None:
    behind, instead = CASTS[how]
    assert accepted(proved(tmp_path, *pair(behind, behind, FIXED)))
    assert not accepted(proved(tmp_path, *pair(behind, instead, FIXED)))


@pytest.mark.parametrize("wrong", [17.17, 25.0])
@pytest.mark.parametrize("to", ["Cast <to = 3> (q)", "CastLike (q, whole)"])
def test_a_cast_to_whole_numbers_hides_nothing(tmp_path: Path, to: str, wrong: float) -> None:
    """Few of the sums that samples give lie so near a step that a wrong bias is seen behind it."""
    original, other = (
        onnx.parser.parse_model(f"""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[2,1,8,8] x) => (float[] y)
            <float[2,1,2,2] W = {{1, -2, 3, -4, 5, -6, 7, -8}}, float[2] B = {{-49, {bias}}},
             float d = {{77}}, int8 whole = {{0}}>
            {{ f = Floor (x) c = Conv (f, W, B) q = Div (c, d) i = {to} y = Cast <to = 1> (i) }}""")
        for bias in (17.0, wrong)
    )
    assert accepted(proved(tmp_path, original, clone(original)))
    assert not accepted(proved(tmp_path, original, other))


def test_a_wrong_weight_in_front_of_a_mask_is_seen(tmp_path: Path) -> None:
    """A tensor is tried as others that are computed of the same, and one of them is a mask."""
    original = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[2,3,8,8] x) => (float[] y)
        { c = Conv (x, W) n = BatchNormalization (c, s, t, e, v) d, mask = Dropout (n)
          y = Where (mask, d, n) }""")
    dice = np.random.default_rng(7)
    stored = {"W": dice.normal(size=(4, 3, 3, 3)), "v": dice.uniform(0.3, 3, 4)}
    stored |= {name: dice.normal(size=4) for name in "ste"}
    for name, numbers in stored.items():
        original.graph.initializer.append(numpy_helper.from_array(numbers.astype("f"), name))
    right = bnfold.fold(original).model
    wrong = clone(right)
    (weight,) = (t for t in wrong.graph.initializer if t.name == "W")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[0, 0, 1, 2] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(numbers, "W"))
    assert accepted(proved(tmp_path, original, right))
    assert not accepted(proved(tmp_path, original, wrong))


@pytest.mark.parametrize("kind", ["UINT8", "UINT16", "INT8"])
@pytest.mark.parametrize(("op_type", "number"), [("Sub", 100), ("Add", 100), ("Mul", 3)])
def test_integers_wrap_around(tmp_path: Path, kind: str, op_type: str, number: int) -> None:
    elem_type = TensorProto.DataType.Value(kind)
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    before = [helper.make_node(op_type, ["x", "k"], ["i"]),
              helper.make_node("Cast", ["i"], ["y"], to=SINGLE)]  # fmt: skip
    after = [helper.make_node("Cast", ["x"], ["i"], to=SINGLE),
             helper.make_node(op_type, ["i", "f"], ["y"])]  # fmt: skip
    stored = {"k": np.array(number, dtype), "f": np.array(float(number))}
    original, other = (model(nodes, stored, FIXED, x=elem_type) for nodes in (before, after))
    assert accepted(proved(tmp_path, original, clone(original)))
    assert not accepted(proved(tmp_path, original, other))


def test_a_tensor_without_axes_is_compared(tmp_path: Path) -> None:
    behind = [helper.make_node("ReduceMax", ["d"], ["r"], keepdims=0),
              helper.make_node("Clip", ["r", "lo", "hi"], ["y"])]  # fmt: skip
    other = {"hi": np.array(5.0)}
    assert accepted(proved(tmp_path, *pair(behind, behind, FIXED, RING)))
    assert not accepted(proved(tmp_path, *pair(behind, behind, FIXED, RING, other)))


OVER_SAMPLES = {
    "summed up": ([helper.make_node("ReduceSum", ["d", "first"], ["y"])]),
    "the largest": ([helper.make_node("ReduceMax", ["d", "first"], ["y"])]),
    "the last": ([helper.make_node("Slice", ["d", "last", "end", "first"], ["y"])]),
    "chosen": ([helper.make_node("Gather", ["d", "last"], ["y"], axis=0)]),
    "a mean of all": ([helper.make_node("ReduceMean", ["d", "most"], ["y"])]),
}
ALONG = {"first": whole(0), "last": whole(-1), "end": whole(2**62), "most": whole(0, 2, 3)}


@pytest.mark.parametrize("shape", [FIXED, FREE])
@pytest.mark.parametrize("how", OVER_SAMPLES)
def test_large_samples_cover_no_others(
    tmp_path: Path, how: str, shape: Sequence[int | str]
) -> None:
    """A wrong bias behind which the batch is taken together, and every tensor has its name."""
    behind = OVER_SAMPLES[how]
    wrong = {"b": folded(weights())["b"] + np.eye(C)[3] * 0.05}
    assert accepted(proved(tmp_path, *pair(behind, behind, shape, ALONG)))
    assert not accepted(proved(tmp_path, *pair(behind, behind, shape, ALONG, wrong)))
