"""DeformConv in float64 against ONNX Runtime and onnx's reference, and in whole networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from commandline import load, run, write
from onnx import helper
from onnx.reference import ReferenceEvaluator
from test_kernels import assert_as_onnxruntime

import bnfold
from bnfold.verification.operators.evaluate import run_node
from bnfold.verification.operators.node import EvaluationError

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation import Array

CASES: list[tuple[list[tuple[int, ...]], dict[str, Any]]] = [
    ([(2, 4, 6, 5), (6, 4, 3, 2), (2, 12, 4, 4)], {}),
    ([(2, 4, 6, 5), (6, 2, 3, 3), (2, 36, 3, 3), (6,), (2, 18, 3, 3)],
     {"group": 2, "offset_group": 2, "strides": [2, 2], "pads": [1, 2, 1, 0]}),
    ([(1, 4, 7, 9), (2, 4, 2, 3), (1, 12, 5, 5), (2,)], {"dilations": [2, 2]}),
    ([(1, 4, 5, 5), (4, 1, 3, 3), (1, 72, 5, 5)],
     {"group": 4, "offset_group": 4, "pads": [1, 1, 1, 1]}),
]  # fmt: skip


def drawn(shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> tuple[Any, list[Array]]:
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    inputs[2] *= 3  # far beyond the border, too
    names = [f"i{index}" for index in range(len(inputs))]
    return helper.make_node("DeformConv", names, ["y"], **attributes), inputs


@pytest.mark.parametrize(("shapes", "attributes"), CASES)
def test_as_onnxruntime(shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> None:
    assert_as_onnxruntime(*drawn(shapes, attributes), opset=19)


def test_as_the_reference() -> None:
    node, inputs = drawn([(1, 2, 4, 3), (2, 2, 2, 2), (1, 8, 3, 2)], {})
    infos = [onnx.ValueInfoProto(name=name) for name in node.input]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    wide = [value.astype(np.float64) for value in inputs]
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(node.input, wide, strict=True)))
    (found,) = run_node(node, {"": 19}, wide)
    # Its places are those of a GridSample, which it computes in between in float32.
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 3])
def test_any_number_of_axes(length: int) -> None:
    """Without offsets and with a mask of ones it is the convolution."""
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((1, 2, *[4] * length)), rng.standard_normal((3, 2, *[2] * length))
    offset = np.zeros((1, 2**length * length, *[3] * length))
    mask = np.ones((1, 2**length, *[3] * length))
    inputs = ["x", "W", "o", "", "m"]
    deformed = helper.make_node("DeformConv", inputs, ["y"])
    (found,) = run_node(deformed, {"": 19}, [X, W, offset, None, mask])
    (expected,) = run_node(helper.make_node("Conv", ["x", "W"], ["y"]), {"": 19}, [X, W])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("huge", [2.0**126, -(2.0**126), np.inf])
def test_what_is_far_beyond_the_border_is_zero(huge: float) -> None:
    X, W = np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1))
    node = helper.make_node("DeformConv", ["x", "W", "o"], ["y"])
    (found,) = run_node(node, {"": 19}, [X, W, np.full((1, 2, 3, 3), huge)])
    assert not found.any()


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 3, 6, 5), (6, 4, 3, 2), (1, 12, 4, 4)],
        [(1, 4, 6, 5), (6, 4, 3, 2), (1, 10, 4, 4)],
        [(1, 4, 2, 5), (6, 4, 3, 2), (1, 12, 1, 4)],
    ],
)
def test_what_does_not_fit_is_not_computed(shapes: list[tuple[int, ...]]) -> None:
    node, inputs = drawn(shapes, {})
    with pytest.raises(EvaluationError):
        run_node(node, {"": 19}, [value.astype(np.float64) for value in inputs])


def network(kind: str, *, sizes: str = "h,w") -> onnx.ModelProto:
    """A deformable block as it is exported: offsets and mask are computed from what it reads."""
    before, after = {
        "output": ("n = Relu (x)", "z = BatchNormalization <epsilon = 0.5> (d, s, t, e, v)"),
        "scale": ("n = Mul (x, k)", "z = Relu (d)"),
    }[kind]
    weights = ", ".join(_numbers(name, first) for name, first in (("W", 2), ("O", 8), ("M", 4)))
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 19]>
        g (float[n,2,{sizes}] x) => (float[n,2,p,q] z)
        <{weights}, float[2] s = {{2, 3}}, float[2] t = {{1, 2}}, float[2] e = {{1, -1}},
         float[2] v = {{1, 4}}, float[2,1,1] k = {{2, 3}}>
        {{
          {before}
          o = Conv <strides = [2, 2], pads = [1, 0, 0, 1]> (n, O)
          p = Conv <strides = [2, 2], pads = [1, 0, 0, 1]> (n, M)
          m = Sigmoid (p)
          d = DeformConv <strides = [2, 2], pads = [1, 0, 0, 1]> (n, W, o, , m)
          {after}
        }}""")


def _numbers(name: str, first: int) -> str:
    numbers = np.random.default_rng(first).normal(size=first * 8).round(3)
    return f"float[{first},2,2,2] {name} = {{{', '.join(map(str, numbers))}}}"


@pytest.mark.parametrize("sizes", ["h,w", "9,12", "64,48"])
def test_a_normalization_behind_it_is_folded_and_verified(tmp_path: Path, sizes: str) -> None:
    source = write(network("output", sizes=sizes), tmp_path / "net.onnx")
    result = run(source.name, cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "1 of 1 batch normalization folded into the operator before" in result.text
    assert "verification passed\n" in result.text
    assert "float64 probe: 1 region within" in result.text
    folded = load(tmp_path / "net.folded.onnx")
    (deformed,) = [node for node in folded.graph.node if node.op_type == "DeformConv"]
    assert deformed.input[3]
    assert deformed.input[4] == "m"


def test_a_scale_before_it_goes_into_all_that_read_it(tmp_path: Path) -> None:
    source = write(network("scale"), tmp_path / "net.onnx")
    report = bnfold.fold_file(source)
    assert [(fold.how, len(fold.into)) for fold in report.folds] == [("input", 3)]
    assert report.verification is not None
    assert report.verification.verdict == "passed"


def test_a_shift_before_it_is_refused_with_a_reason(tmp_path: Path) -> None:
    """There is no border that a Pad could take the place of, also without pads."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 19]>
        g (float[1,2,3,3] x, float[1,2,3,3] o) => (float[1,1,3,3] z)
        <float[1,2,1,1] W = {1, 2}, float[2] s = {2, 3}, float[2] t = {1, 2},
         float[2] e = {1, -1}, float[2] v = {1, 4}>
        { n = BatchNormalization (x, s, t, e, v)  z = DeformConv (n, W, o) }""")
    report = bnfold.fold_file(write(model, tmp_path / "net.onnx"), check=True)
    assert report.folds == ()
    (kept,) = report.kept
    assert kept.below is not None
    assert (kept.below.reason, kept.below.at) == ("zero-padding", "DeformConv 'z'")


def test_an_offset_is_no_data(tmp_path: Path) -> None:
    """A scale does not go through the offsets: it would move what is read."""
    text = """
        <ir_version: 8, opset_import: ["" : 19]>
        g (float[1,2,3,3] x, float[1,4,3,3] o) => (float[1,1,3,3] z)
        <float[1,2,1,1] W = {1, 2}, float k = {2}>
        { p = Slice (o, b, l, a)  q = Mul (p, k)  z = DeformConv (x, W, q) }"""
    text = text.replace("float k", "int64[1] b = {0}, int64[1] l = {2}, int64[1] a = {1}, float k")
    source = write(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    report = bnfold.fold_file(source, check=True)
    assert report.folds == ()
    (kept,) = report.kept
    assert kept.below is not None
    assert (kept.below.reason, kept.below.at) == ("not-linear", "DeformConv 'z'")


@pytest.mark.parametrize("index", [1, 3])
def test_a_wrong_fold_is_found(tmp_path: Path, index: int) -> None:
    source = write(network("output"), tmp_path / "net.onnx")
    bnfold.fold_file(source, tmp_path / "right.onnx")
    model = load(tmp_path / "right.onnx")
    (deformed,) = [node for node in model.graph.node if node.op_type == "DeformConv"]
    stored = next(t for t in model.graph.initializer if t.name == deformed.input[index])
    numbers = onnx.numpy_helper.to_array(stored).copy()
    numbers.reshape(-1)[1] *= np.float32(1 + 1e-5)
    stored.CopyFrom(onnx.numpy_helper.from_array(numbers, stored.name))
    wrong = write(model, tmp_path / "wrong.onnx")
    assert bnfold.verify(source, tmp_path / "right.onnx").ok
    assert bnfold.verify(source, wrong).verdict == "failed"
