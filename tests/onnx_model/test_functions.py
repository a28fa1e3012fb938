"""The default that a function declares for an attribute is what is folded, and proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved

import bnfold
from bnfold.onnx_model.functions import inlined

if TYPE_CHECKING:
    from pathlib import Path

_DOMAIN = "own"
_OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid(_DOMAIN, 1)]
_PARAMETERS = ["g", "b", "e", "v"]


def referring(op_type: str, inputs: list[str], output: str, name: str, to: str) -> onnx.NodeProto:
    """Return a node of which one attribute is that of the function around it."""
    domain = "" if op_type == "BatchNormalization" else _DOMAIN
    node = helper.make_node(op_type, inputs, [output], domain=domain)
    node.attribute.add(name=name, ref_attr_name=to, type=onnx.AttributeProto.FLOAT)
    return node


def function(
    name: str, node: onnx.NodeProto, default: float | None, attribute: str = "eps"
) -> onnx.FunctionProto:
    """Return a function of a tensor and the parameters of its normalization."""
    stated = [] if default is None else [helper.make_attribute(attribute, default)]
    names = [attribute] if default is None else []
    return helper.make_function(
        _DOMAIN, name, ["X", *_PARAMETERS], ["Y"], [node], _OPSETS, names, stated
    )


def normalizing(default: float | None) -> onnx.FunctionProto:
    node = referring("BatchNormalization", ["X", *_PARAMETERS], "Y", "epsilon", "eps")
    return function("Norm", node, default)


def calling(default: float | None, callee: str = "Norm", name: str = "Outer") -> onnx.FunctionProto:
    """Return a function that hands its own `eps` on to another."""
    return function(name, referring(callee, ["X", *_PARAMETERS], "Y", "eps", "eps"), default)


def model_of(
    functions: list[onnx.FunctionProto],
    called: str,
    elem_type: int = TensorProto.FLOAT,
    **given: Any,
) -> onnx.ModelProto:
    """Return Conv → the function `called`, of random numbers."""
    dice = np.random.default_rng(3)
    values = {"W": dice.normal(size=(4, 3, 3, 3)), "v": dice.uniform(0.3, 2, 4)}
    values |= {name: dice.normal(size=4) for name in "gbe"}
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
            helper.make_node(called, ["c", *_PARAMETERS], ["y"], domain=_DOMAIN, **given),
        ],
        "net",
        [helper.make_tensor_value_info("x", elem_type, [2, 3, 6, 6])],
        [helper.make_tensor_value_info("y", elem_type, [2, 4, 4, 4])],
        [numpy_helper.from_array(v.astype(dtype), name) for name, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=_OPSETS, functions=functions, ir_version=8)


def folded_epsilon(model: onnx.ModelProto, folded: onnx.ModelProto) -> float:
    """Return the ε that went into the weight: W' = W γ / √(Var + ε)."""
    old, new = (
        {t.name: numpy_helper.to_array(t).astype(float) for t in m.graph.initializer}
        for m in (model, folded)
    )
    ratio = (new["W"] / old["W"]).mean(axis=(1, 2, 3))
    return float(np.mean((old["g"] / ratio) ** 2 - old["v"]))


CASES: dict[str, tuple[list[onnx.FunctionProto], str, dict[str, Any], float]] = {
    "left out": ([normalizing(0.5)], "Norm", {}, 0.5),
    "stated": ([normalizing(0.5)], "Norm", {"eps": 0.25}, 0.25),
    "none declared, none stated": ([normalizing(None)], "Norm", {}, 1e-5),
    "the caller's, handed on": ([normalizing(0.5), calling(0.125)], "Outer", {}, 0.125),
    "the callee's, for the caller has none": ([normalizing(0.5), calling(None)], "Outer", {}, 0.5),
    "stated, and handed on": ([normalizing(0.5), calling(None)], "Outer", {"eps": 0.25}, 0.25),
    "through three functions": (
        [calling(None, "Outer", "Outermost"), normalizing(0.5), calling(0.125)],
        "Outermost", {}, 0.125,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_declared_default_is_folded(case: str) -> None:
    functions, called, given, epsilon = CASES[case]
    model = model_of(functions, called, **given)
    before = model.SerializeToString(deterministic=True)
    folding = bnfold.fold(model)
    assert not folding.kept
    assert model.SerializeToString(deterministic=True) == before
    assert folded_epsilon(model, folding.model) == pytest.approx(epsilon, rel=1e-3, abs=1e-5)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    outputs = [
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0]
        for m in (model, folding.model)
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_proof_knows_the_default_too(tmp_path: Path, case: str) -> None:
    functions, called, given, _ = CASES[case]
    model = model_of(functions, called, TensorProto.DOUBLE, **given)
    right = bnfold.fold(model).model
    assert proved(tmp_path, model, right).structure.proved
    other = bnfold.fold(model_of([normalizing(0.375)], "Norm", TensorProto.DOUBLE)).model
    assert not proved(tmp_path, model, other).structure.proved


@pytest.mark.slow
def test_a_model_that_no_runtime_runs_is_verified_with_the_default(tmp_path: Path) -> None:
    # ONNX Runtime has no Conv of float64, so that the proof alone decides.
    path, wrong = tmp_path / "m.onnx", tmp_path / "wrong.onnx"
    model = model_of([normalizing(0.5)], "Norm", TensorProto.DOUBLE)
    path.write_bytes(model.SerializeToString())
    bnfold.fold_file(path, tmp_path / "f.onnx")
    assert bnfold.verify(path, tmp_path / "f.onnx").ok
    other = bnfold.fold(model_of([normalizing(1e-5)], "Norm", TensorProto.DOUBLE)).model
    wrong.write_bytes(other.SerializeToString())
    assert not bnfold.verify(path, wrong).ok


def test_a_default_that_does_not_count_for_every_call_is_not_guessed() -> None:
    # `Outer` stays; whether `Norm` has its own default in it depends on each call of `Outer`.
    model = model_of([normalizing(0.5), calling(None)], "Outer")
    assert inlined(model, {(_DOMAIN, "Norm")}) is None


def test_a_default_reaches_a_call_in_a_subgraph() -> None:
    model = model_of([normalizing(0.5)], "Norm")
    call = clone(model).graph.node[1]
    call.output[0] = "t"
    then = helper.make_graph([call], "then", [], [helper.make_tensor_value_info("t", 1, None)])
    nothing = helper.make_node("Identity", ["c"], ["s"])
    other = helper.make_graph([nothing], "else", [], [helper.make_tensor_value_info("s", 1, None)])
    model.graph.node[1].CopyFrom(
        helper.make_node("If", ["q"], ["y"], then_branch=then, else_branch=other)
    )
    model.graph.input.append(helper.make_tensor_value_info("q", TensorProto.BOOL, []))
    flat = inlined(model, {(_DOMAIN, "Norm")})
    assert flat is not None
    (body,) = [a.g for a in flat.graph.node[1].attribute if a.name == "then_branch"]
    (node,) = [n for n in body.node if n.op_type == "BatchNormalization"]
    assert [a.f for a in node.attribute] == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("opset", [15, 17, 18])
def test_nodes_of_a_function_in_no_order(tmp_path: Path, opset: int) -> None:
    """The function's opset declares the same Conv, BatchNormalization and Relu as the model's."""
    model, original = in_no_order(opset), tmp_path / "m.onnx"
    original.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(original, tmp_path / "f.onnx")
    assert report.after.operators == {"Conv": 1, "Relu": 1}
    assert bnfold.verify(original, tmp_path / "f.onnx").ok


def test_a_function_of_another_version_of_an_operator_stays() -> None:
    folding = bnfold.fold(in_no_order(13))
    assert folding.after == folding.before


def in_no_order(opset: int) -> onnx.ModelProto:
    """Return a model of opset 18 with Conv → BatchNormalization → Relu, listed the other way."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        g (float[2,2,3,3] x) => (float[2,4,3,3] y)
        <float[4,2,1,1] W = {1, -2, 3, 4, 0.5, 6, -7, 0.25}, float[4] g = {1, 2, 3, 0.5},
         float[4] b = {1, -2, 3, 4}, float[4] e = {0.5, 1, -1, 2}, float[4] v = {1, 4, 0.25, 2}>
        { y = own.Block (x, W, g, b, e, v) }""")
    block = onnx.parser.parse_function(f"""
        <opset_import: ["" : {opset}], domain: "own"> Block (x, W, g, b, e, v) => (y)
        {{ y = Relu (n)  n = BatchNormalization (c, g, b, e, v)  c = Conv (x, W) }}""")
    model.functions.append(block)
    return model
