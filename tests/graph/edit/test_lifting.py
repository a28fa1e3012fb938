"""Constants become initializers: in every form and graph, with the same names and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from commandline import load, model_in, run_here, write
from evaluation import graphs

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_FORMS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool c) => (float[2] y, float[2] z, float[1] k, string[1] w)
{
  a = Constant <value = float[2] {1, 2}> ()
  b = Constant <value_float = 3.0> ()
  d = Constant <value_floats = [4.0, 5.0]> ()
  e = Constant <value_int = 0> ()
  f = Constant <value_ints = [0, 1]> ()
  s = Constant <value_strings = ["a", "b"]> ()
  k = Constant <value = float[1] {7}> ()
  t1 = Mul (x, a)
  t2 = Pow (t1, b)
  t3 = Max (t2, d)
  y = Gather (t3, f)
  w0 = Gather (s, e)
  one = Constant <value_ints = [1]> ()
  w = Reshape (w0, one)
  z = If (c) <
    then_branch = g1 () => (float[2] p) { h = Constant <value_float = 2.0> () p = Max (x, h) },
    else_branch = g2 () => (float[2] q) { q = Constant <value_floats = [1.0, 2.0]> () }>
}
"""


def _constants(model: onnx.ModelProto) -> list[str]:
    nodes = (node for graph in graphs(model) for node in graph.node)
    return [node.output[0] for node in nodes if node.op_type == "Constant"]


def _run(model: onnx.ModelProto, *, taken: bool) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"x": np.asarray([1.5, -2], np.float32), "c": np.asarray(taken)}
    return list(session.run(None, feeds))


@pytest.mark.parametrize("taken", [False, True])
def test_constants_of_all_forms_and_graphs(taken: bool) -> None:  # noqa: FBT001 - a case
    model = onnx.parser.parse_model(_FORMS)
    folding = bnfold.fold(model, lift_constants=True)
    onnx.checker.check_model(folding.model, full_check=True)
    assert folding.lifted == 8
    assert _constants(folding.model) == ["k", "q"]  # they are outputs
    assert {t.name for t in folding.model.graph.initializer} == {*"abdefs", "one"}
    before, after = _run(model, taken=taken), _run(folding.model, taken=taken)
    assert [a.dtype for a in before] == [a.dtype for a in after]
    assert [a.tolist() for a in before] == [a.tolist() for a in after]


def test_what_is_told_of_a_constant_is_told_of_the_initializer() -> None:
    model = onnx.parser.parse_model(_FORMS)
    node = next(node for node in model.graph.node if node.output[0] == "d")
    node.doc_string = "words"
    node.metadata_props.add(key="made by", value="hand")
    lifted = bnfold.fold(model, lift_constants=True).model
    (tensor,) = [tensor for tensor in lifted.graph.initializer if tensor.name == "d"]
    assert tensor.doc_string == "words"
    assert tensor.metadata_props[0].value == "hand"


def test_a_sparse_constant_stays_sparse() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[3] y)
        { c = Constant <value_floats = [0.0, 5.0, 0.0]> () y = Add (x, c) }""")
    sparse = onnx.helper.make_sparse_tensor(
        onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [1], [5.0]),
        onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [1]),
        [3],
    )
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    lifted = bnfold.fold(model, lift_constants=True).model
    assert [stored.values.name for stored in lifted.graph.sparse_initializer] == ["c"]
    session = onnxruntime.InferenceSession(lifted.SerializeToString())
    (made,) = session.run(None, {"x": np.ones(3, np.float32)})
    assert made.tolist() == [1, 6, 1]


def test_local_functions_and_old_models_have_no_place_for_them() -> None:
    function = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[2] x) => (float[2] y)
        { y = local.twice (x) }
        <domain: "local", opset_import: ["" : 17]> twice (x) => (y)
        { c = Constant <value_float = 2.0> () y = Pow (x, c) }""")
    folding = bnfold.fold(function, lift_constants=True)
    assert (folding.lifted, folding.notes) == (0, ())
    assert folding.model == function
    old = onnx.parser.parse_model("""
        <ir_version: 3, opset_import: ["" : 8]> g (float[2] x) => (float[2] y)
        { c = Constant <value = float[2] {1, 2}> () y = Max (x, c) }""")
    folding = bnfold.fold(old, lift_constants=True)
    assert folding.model == old
    assert folding.notes == (
        "1 constants stay nodes: at IR version 3 an initializer is an input of the model, too",
    )


def test_lifting_twice_changes_nothing() -> None:
    once = bnfold.fold(onnx.parser.parse_model(_FORMS), lift_constants=True).model
    again = bnfold.fold(once, lift_constants=True)
    assert again.lifted == 0
    assert again.model == once


@pytest.mark.slow
def test_the_verifying_command_line(tmp_path: Path) -> None:
    source = model_in(tmp_path, "segmentation_raw")
    checked = run_here(source, "--check", "--lift-constants", "-q", cwd=tmp_path)
    assert checked.code == 1
    assert checked.text.endswith("folded, 3 constants would be initializers\n")
    done = run_here(source, "-o", "folded.onnx", "--lift-constants", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "3 constants are initializers now" in done.text
    assert "verification passed" in done.text
    assert not _constants(load(tmp_path / "folded.onnx"))
    again = run_here("folded.onnx", "--check", "--lift-constants", cwd=tmp_path)
    assert again.code == 0


@pytest.mark.slow
def test_where_nothing_is_folded(tmp_path: Path) -> None:
    source = write(onnx.parser.parse_model(_FORMS), tmp_path / "net.onnx")
    assert run_here(source, "--check", cwd=tmp_path).code == 0
    assert run_here(source, "--check", "--lift-constants", cwd=tmp_path).code == 1
    done = run_here(source, "--lift-constants", "--in-place", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "no batch normalization to fold\n" in done.text
    assert "8 constants are initializers now" in done.text
    assert "verification passed" in done.text
    assert _constants(load(source)) == ["k", "q"]
