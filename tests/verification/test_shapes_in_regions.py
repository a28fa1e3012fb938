"""Folds in whose regions shapes are computed, or of whose tensors no file tells the shape.

All go the way that users go: a file is folded and verified, and what was written is compared with
the original on ONNX Runtime.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from commandline import load, normalizations, write
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, VerifyOptions

Node = onnx.NodeProto
node = helper.make_node
DICE = np.random.default_rng(3)
WEIGHTS = {
    "W": DICE.normal(size=(4, 3, 3, 3)),
    "G": DICE.normal(size=(5, 4)),
    "H": DICE.normal(size=(4, 6)),
    "h": DICE.normal(size=6),
    "gamma": DICE.uniform(0.5, 1.5, 4),
    "beta": DICE.normal(size=4),
    "mean": DICE.normal(size=4),
    "variance": DICE.uniform(0.3, 2.0, 4),
    "gamma6": DICE.uniform(0.5, 1.5, 6),
    "beta6": DICE.normal(size=6),
    "mean6": DICE.normal(size=6),
    "variance6": DICE.uniform(0.3, 2.0, 6),
}


def float32(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


def int64(values: object) -> np.ndarray:
    return np.asarray(values, np.int64)


def bn(read: str, made: str, suffix: str = "") -> Node:
    parameters = [f"{name}{suffix}" for name in ("gamma", "beta", "mean", "variance")]
    return node("BatchNormalization", [read, *parameters], [made])


def constant(name: str, values: np.ndarray) -> Node:
    value = numpy_helper.from_array(values)
    return node("Constant", [], [name], value=value)


def made(
    nodes: list[Node],
    shape: Sequence[int | str] | None,
    *,
    opset: int = 17,
    scalars: tuple[str, ...] = (),
    big: int = 0,
) -> onnx.ModelProto:
    """Return a model from x to y; some inputs besides are scalars, a weight may be `big`."""
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", floats, shape)]
    inputs += [helper.make_tensor_value_info(name, floats, []) for name in scalars]
    weights = dict(WEIGHTS)
    if big:
        weights["B"] = DICE.normal(size=(4, big, 1, 1))
    read = {name for each in nodes for name in names_read(each)}
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [helper.make_tensor_value_info("y", floats, None)],
        [
            numpy_helper.from_array(float32(values), name)
            for name, values in weights.items()
            if name in read
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def names_read(each: Node) -> set[str]:
    inner = {n for a in each.attribute for i in a.g.node for n in names_read(i)}
    return {*each.input, *inner}


def outputs(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, feed)[0])


def fold_and_check(folder: Path, model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> None:
    """Fold and verify a file; check that it is proved, and right."""
    source = write(model, folder / "model.onnx")
    target = folder / "folded.onnx"
    report = bnfold.fold_file(source, target)
    assert report.verification is not None
    assert report.verification.ok, report.verification
    assert report.verification.structure.proved
    folded = load(target)
    assert normalizations(folded) == 0
    before, after = outputs(model, feed), outputs(folded, feed)
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * np.abs(before).max())


def test_a_bias_expanded_to_the_shape_of_a_large_weight(tmp_path: Path) -> None:
    # As PyTorch's exporter writes it, unoptimized; the weight has 80,000 elements.
    nodes = [
        node("Shape", ["B"], ["all"], start=0, end=1),
        constant("zero", float32([0.0])),
        node("CastLike", ["zero", "B"], ["like"]),
        node("Expand", ["like", "all"], ["b"]),
        node("Conv", ["x", "B", "b"], ["c"]),
        bn("c", "n"),
        constant("six", float32(6.0)),
        node("CastLike", ["six", "n"], ["most"]),
        node("Clip", ["n", "", "most"], ["y"]),
    ]
    x = DICE.normal(size=(1, 20_000, 1, 2)).astype(np.float32)
    fold_and_check(tmp_path, made(nodes, [1, 20_000, 1, 2], opset=18, big=20_000), {"x": x})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("linear", "shape"),
    [
        (node("Gemm", ["x", "G"], ["c"]), (900_000, 5)),
        (node("MatMul", ["x", "G"], ["c"]), (900_000, 5)),
        (node("Conv", ["x", "W"], ["c"]), (60_000, 3, 5, 5)),
    ],
    ids=["nodes of a graph, Gemm", "nodes of a graph, MatMul", "patches"],
)
def test_so_many_samples_that_no_probe_holds_all(
    linear: Node, shape: tuple[int, ...], tmp_path: Path
) -> None:
    x = DICE.normal(size=shape).astype(np.float32)
    fold_and_check(
        tmp_path, made([linear, bn("c", "n"), node("Relu", ["n"], ["y"])], shape), {"x": x}
    )


def test_numbers_that_differ_between_samples_are_compared_for_all(tmp_path: Path) -> None:
    each = np.asarray(DICE.uniform(0.5, 1.5, (7, 1)), np.float32)
    wrong = each.copy()
    wrong[5] *= 1.001

    def scaled(product: list[Node], numbers: np.ndarray) -> Path:
        nodes = [*product, constant("each", numbers), node("Mul", ["n", "each"], ["y"])]
        return write(made(nodes, [7, 5]), tmp_path / f"{len(product)}{numbers[5]}.onnx")

    original = [node("Gemm", ["x", "G"], ["c"]), bn("c", "n")]
    source, target = scaled(original, each), tmp_path / "folded.onnx"
    assert bnfold.fold_file(source, target).written
    folded = load(target)
    assert bnfold.verify(source, target)
    for tensor in (a.t for n in folded.graph.node for a in n.attribute if a.name == "value"):
        tensor.CopyFrom(numpy_helper.from_array(wrong))
    found = bnfold.verify(source, write(folded, tmp_path / "wrong.onnx"))
    assert found.verdict is Verdict.FAILED


def test_what_only_a_shape_is_taken_of_may_be_any_operator(tmp_path: Path) -> None:
    # Erf lets nothing pass, but its shape tells the Reshape what it tells it.
    nodes = [
        constant("none", int64([0, 0])),
        constant("cut", int64([-2, -2])),
        constant("axes", int64([2, 3])),
        constant("nc", int64([0, 4])),
        node("Erf", ["x"], ["e"]),
        node("Slice", ["e", "none", "cut", "axes"], ["e2"]),
        node("Shape", ["e2"], ["hw"], start=2),
        node("Concat", ["nc", "hw"], ["s"], axis=0),
        node("Conv", ["x", "W"], ["c"]),
        node("Reshape", ["c", "s"], ["r"]),
        bn("r", "n"),
        node("Relu", ["n"], ["y"]),
    ]
    x = DICE.normal(size=(1, 3, 8, 8)).astype(np.float32)
    shapes: list[list[int | str]] = [[1, 3, 8, 8], [1, 3, "H", "W"], ["N", 3, "H", "W"]]
    for shape in shapes:
        fold_and_check(tmp_path, made(nodes, shape), {"x": x})


def test_a_scale_computed_from_a_shape_is_rounded_as_the_model_says(tmp_path: Path) -> None:
    # Attention as TorchScript writes it: q times √(1 / √d), with d a Shape's and all in float32.
    nodes = [
        node("Gemm", ["x", "G"], ["q"]),
        node("Shape", ["q"], ["s"], start=1),
        node("Cast", ["s"], ["d"], to=TensorProto.FLOAT),
        node("Sqrt", ["d"], ["root"]),
        constant("one", float32([1.0])),
        node("Div", ["one", "root"], ["inverse"]),
        constant("third", float32([1 / 3])),
        node("Pow", ["inverse", "third"], ["scale"]),
        node("Mul", ["q", "scale"], ["m"]),
        node("Tanh", ["m"], ["y"]),
    ]
    x = DICE.normal(size=(2, 5)).astype(np.float32)
    fold_and_check(tmp_path, made(nodes, [2, 5]), {"x": x})


def test_a_variance_times_what_only_a_shape_decides(tmp_path: Path) -> None:
    # As PyTorch's exporter writes a variance, unoptimized: its factor has the type of x, whose
    # elements do not matter, and meets a number of a type that is stated.
    nodes = [
        constant("along", int64([2])),
        constant("one", float32(1.0)),
        node("ReduceMean", ["x", "along"], ["m"]),
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "along"], ["length"]),
        node("CastLike", ["length", "x"], ["count"]),
        node("Mul", ["m", "count"], ["all"]),
        node("Sub", ["count", "one"], ["fewer"]),
        node("Div", ["all", "fewer"], ["v"]),
        node("Tanh", ["v"], ["y"]),
        node("Shape", ["v"], ["first"]),
        node("Shape", ["v"], ["second"]),
    ]
    model = made(nodes, [2, 3, 64], opset=18)
    for name in ("first", "second"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, [3]))
    fold_and_check(tmp_path, model, {"x": DICE.normal(size=(2, 3, 64)).astype(np.float32)})


def test_what_only_a_shape_decides_in_half_precision(tmp_path: Path) -> None:
    # No weight says so: numbers are cast to float16, and one that is made of two is rounded there.
    nodes = [
        constant("along", int64([2])),
        constant("one", float32(1.0)),
        node("ReduceMean", ["x"], ["m"], axes=[2]),
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "along"], ["length"]),
        node("Cast", ["length"], ["count"], to=TensorProto.FLOAT),
        node("Cast", ["count"], ["times"], to=TensorProto.FLOAT16),
        node("Mul", ["m", "times"], ["all"]),
        node("Sub", ["count", "one"], ["fewer"]),
        node("Cast", ["fewer"], ["by"], to=TensorProto.FLOAT16),
        node("Div", ["all", "by"], ["v"]),
        node("Tanh", ["v"], ["y"]),
    ]
    model = made(nodes, [2, 3, 64])
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    source = write(model, tmp_path / "model.onnx")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx")
    assert report.folds
    assert report.verification is not None
    assert report.verification.verdict is Verdict.PASSED, report.verification


@pytest.mark.parametrize("scalar", [0.3, -2.0, 0.0])
def test_a_scalar_given_at_run_time(tmp_path: Path, scalar: float) -> None:
    nodes = [
        node("Conv", ["x", "W"], ["c"]),
        node("Mul", ["c", "t"], ["m"]),
        node("Mul", ["m", "s"], ["y"]),
        constant("s", float32(DICE.uniform(0.5, 2, (1, 4, 1, 1)))),
    ]
    x = DICE.normal(size=(2, 3, 8, 8)).astype(np.float32)
    model = made([nodes[3], *nodes[:3]], ["N", 3, "H", "W"], scalars=("t",))
    fold_and_check(tmp_path, model, {"x": x, "t": np.asarray(scalar, np.float32)})
    assert len(load(tmp_path / "folded.onnx").graph.node) == 2


def test_a_scalar_computed_at_run_time(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMax", ["x"], ["t"], keepdims=0),
        node("Conv", ["x", "W"], ["c"]),
        constant("s", float32(DICE.uniform(0.5, 2, (4, 1, 1)))),
        node("Div", ["c", "s"], ["d"]),
        node("Mul", ["t", "d"], ["y"]),
    ]
    x = DICE.normal(size=(2, 3, 8, 8)).astype(np.float32)
    fold_and_check(tmp_path, made(nodes, ["N", 3, "H", "W"]), {"x": x})
    assert len(load(tmp_path / "folded.onnx").graph.node) == 3


def in_if(body: list[Node]) -> list[Node]:
    """Return a body from x to z as one branch of an If; the other negates."""
    floats = TensorProto.FLOAT
    other = [node("ReduceMax", ["x"], ["o"])]
    branches = [
        helper.make_graph(nodes, f"{name}_{made}", [], [
            helper.make_tensor_value_info(made, floats, None)])
        for nodes, made, name in ((body, "z", "then"), (other, "o", "else"))
    ]  # fmt: skip
    return [
        node("Abs", ["x"], ["positive"]),
        node("ReduceMax", ["positive"], ["peak"], keepdims=0),
        constant("nothing", float32(-1.0)),
        node("Greater", ["peak", "nothing"], ["condition"]),
        node("If", ["condition"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]


def in_loop(body: list[Node]) -> list[Node]:
    """Return a body from x to z as that of a Loop that turns twice."""
    values = helper.make_tensor_value_info
    inner = helper.make_graph(
        [*body, node("Identity", ["c0"], ["c1"])],
        "body",
        [values("i", TensorProto.INT64, []), values("c0", TensorProto.BOOL, [])],
        [values("c1", TensorProto.BOOL, []), values("z", TensorProto.FLOAT, None)],
    )
    return [constant("turns", int64(2)), node("Loop", ["turns", ""], ["y"], body=inner)]


def in_scan(body: list[Node]) -> list[Node]:
    """Return a body from x to z as that of a Scan over three slices."""
    values = helper.make_tensor_value_info
    inner = helper.make_graph(
        body,
        "body",
        [values("part", TensorProto.FLOAT, None)],
        [values("z", TensorProto.FLOAT, None)],
    )
    for each in inner.node:
        each.input[:] = ["part" if name == "x" else name for name in each.input]
    return [
        constant("three", int64([1, 1, 1])),
        node("Unsqueeze", ["x", "axis"], ["deep"]),
        node("Concat", ["deep", "deep", "deep"], ["xs"], axis=0),
        node("Scan", ["xs"], ["y"], body=inner, num_scan_inputs=1),
    ]


GEMMS = [node("Gemm", ["x", "G"], ["a"]), bn("a", "b"), node("Relu", ["b"], ["c"]),
         node("Gemm", ["c", "H", "h"], ["d"]), bn("d", "z", "6")]  # fmt: skip
MATMULS = [node("MatMul", ["x", "G"], ["a"]), bn("a", "b"), node("Relu", ["b"], ["c"]),
           node("MatMul", ["c", "H"], ["d"]), bn("d", "z", "6")]  # fmt: skip
TRANSPOSED = [node("Transpose", ["x"], ["t"], perm=[1, 0]),
              node("Gemm", ["t", "G"], ["a"], transA=1), bn("a", "z")]  # fmt: skip


@pytest.mark.parametrize("around", [in_if, in_loop, in_scan])
@pytest.mark.parametrize("body", [GEMMS, MATMULS, TRANSPOSED])
@pytest.mark.parametrize("shape", [[2, 5], ["N", 5]])
def test_matrices_inside_other_graphs(
    tmp_path: Path,
    around: Callable[[list[Node]], list[Node]],
    body: list[Node],
    shape: list[int | str],
) -> None:
    nodes = [constant("axis", int64([0])), *around(body)]
    x = DICE.normal(size=(2, 5)).astype(np.float32)
    fold_and_check(tmp_path, made(nodes, shape), {"x": x})


@pytest.mark.parametrize("shape", [["K", "M"], [5, "M"], ["K", 3], [5, 3], None])
def test_a_transposed_first_factor_of_free_shape(
    tmp_path: Path, shape: list[int | str] | None
) -> None:
    nodes = [node("Gemm", ["x", "G"], ["a"], transA=1), bn("a", "y")]
    x = DICE.normal(size=(5, 3)).astype(np.float32)
    fold_and_check(tmp_path, made(nodes, shape), {"x": x})


@pytest.mark.parametrize("scale", [float32(1.7), float32([1.7])])
@pytest.mark.parametrize("axis", [{}, {"axis": 1}, {"axis": -3}])
def test_legacy_broadcasting_of_a_scalar(
    tmp_path: Path, scale: np.ndarray, axis: dict[str, Any]
) -> None:
    nodes = [
        constant("s", scale),
        node("Conv", ["x", "W"], ["c"]),
        node("Mul", ["c", "s"], ["m"], broadcast=1, **axis),
        node("Tanh", ["m"], ["y"]),
    ]
    source = write(made(nodes, [2, 3, 8, 8], opset=6), tmp_path / "model.onnx")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx")
    assert report.verification is not None
    assert report.verification.structure.proved, report.verification
    assert report.verification.ok, report.verification
    folded = load(tmp_path / "folded.onnx")  # ONNX Runtime has no such Mul
    [weight] = [t for t in folded.graph.initializer if len(t.dims) == 4]
    wanted = np.float32(WEIGHTS["W"]).astype(np.float64) * float32(1.7)
    np.testing.assert_array_equal(numpy_helper.to_array(weight), wanted.astype(np.float32))


HOISTED = [node("MatMul", ["x", "G"], ["a"]), node("Relu", ["a"], ["r"]), bn("r", "b"),
           node("MatMul", ["b", "H"], ["d"]), node("Add", ["d", "h"], ["z"])]  # fmt: skip


@pytest.mark.parametrize(
    ("around", "body"), [(in_if, GEMMS), (in_if, HOISTED), (in_loop, HOISTED), (in_scan, HOISTED)]
)
def test_a_pair_is_told_as_a_fold_is(
    tmp_path: Path, around: Callable[[list[Node]], list[Node]], body: list[Node]
) -> None:
    nodes = [constant("axis", int64([0])), *around(body)]
    source = write(made(nodes, ["N", 5]), tmp_path / "model.onnx")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx")
    found = bnfold.verify(source, tmp_path / "folded.onnx", options=VerifyOptions(("cpu",)))
    assert report.verification is not None
    assert report.verification.verdict is found.verdict is Verdict.PASSED, found
