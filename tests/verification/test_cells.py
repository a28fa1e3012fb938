"""Normalizations in front of recurrent cells, the way that users go; and what is wrong there."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from commandline import run, write
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.verification import Verdict, VerifyOptions, verify

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TIME, BATCH, INPUT, HIDDEN = 7, 2, 5, 3


def network(
    op_type: str, *, ways: int = 1, bias: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """Return a normalization, a Transpose and a cell, all of whose outputs are the network's."""
    dice, gates = np.random.default_rng(ways), GATES[op_type]
    stored = {
        "gamma": dice.uniform(0.5, 1.5, INPUT), "beta": dice.normal(size=INPUT),
        "mean": dice.normal(size=INPUT), "variance": dice.uniform(0.3, 2.0, INPUT),
        "W": dice.normal(size=(ways, gates * HIDDEN, INPUT)),
        "R": dice.normal(size=(ways, gates * HIDDEN, HIDDEN)),
        "B": dice.normal(size=(ways, 2 * gates * HIDDEN)),
    }  # fmt: skip
    if ways == 2:
        attributes["direction"] = "bidirectional"
    reads = ["t", "W", "R", *(["B"] if bias else [])]
    made = ["y", "h", "c"][: 3 if op_type == "LSTM" else 2]
    nodes = [
        helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "variance"], ["n"]),
        helper.make_node("Transpose", ["n"], ["t"], perm=[2, 0, 1]),
        helper.make_node(op_type, reads, made, hidden_size=HIDDEN, **attributes),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, INPUT, TIME])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made]
    tensors = [numpy_helper.from_array(array.astype("f"), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "net", [given], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def folded(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    write(model, folder / "net.onnx")
    done = run("net.onnx", cwd=folder)
    assert done.code == 0, done.text + done.err
    assert "1 of 1 batch normalization folded into the operator behind" in done.text
    return onnx.load(folder / "net.folded.onnx")  # noqa: TID251 - the test's own file


@pytest.mark.parametrize(("ways", "bias"), [(1, False), (2, True)])
@pytest.mark.parametrize("op_type", GATES)
def test_a_normalization_goes_into_a_cell(
    tmp_path: Path, op_type: str, ways: int, *, bias: bool
) -> None:
    model = network(op_type, ways=ways, bias=bias)
    new = folded(model, tmp_path)
    assert [node.op_type for node in new.graph.node] == ["Transpose", op_type]
    old, now = stored(model), stored(new)
    s = old["gamma"] / np.sqrt(old["variance"] + np.float64(np.float32(1e-5)))
    t = old["beta"] - s * old["mean"]
    named = dict(zip(["x", "W", "R", "B"], new.graph.node[1].input, strict=False))
    np.testing.assert_array_equal(now[named["W"]], (old["W"] * s).astype("f"))
    first, second = np.split(now[named["B"]], 2, axis=1)
    had = np.split(old["B"] if bias else np.zeros_like(old["B"]), 2, axis=1)
    np.testing.assert_allclose(first, had[0] + old["W"] @ t, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(second, had[1])
    x = np.random.default_rng(5).normal(size=(BATCH, INPUT, TIME)).astype("f")
    before, after = (
        onnxruntime.InferenceSession(
            each.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, {"x": x})
        for each in (model, new)
    )
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)


@pytest.mark.parametrize("op_type", GATES)
def test_a_cell_whose_batch_comes_first(tmp_path: Path, op_type: str) -> None:
    model = network(op_type, layout=1)
    model.graph.node[1].attribute[0].ints[:] = [0, 2, 1]
    new = folded(model, tmp_path)  # ONNX Runtime has no such cell, so it is proved from the files
    x = np.random.default_rng(5).normal(size=(BATCH, INPUT, TIME)).astype("f")
    before, after = (ReferenceEvaluator(each).run(None, {"x": x}) for each in (model, new))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)


def off(model: onnx.ModelProto, name: str, by: float) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[-1] *= 1 + by
            tensor.CopyFrom(numpy_helper.from_array(array, name))


@pytest.mark.parametrize(
    ("op_type", "which"), [("RNN", "W"), ("GRU", "R"), ("GRU", "B"), ("LSTM", "W"), ("LSTM", "B")]
)
def test_a_wrong_number_of_a_cell_is_told(tmp_path: Path, op_type: str, which: str) -> None:
    model = (
        network(op_type, ways=2, linear_before_reset=1) if op_type == "GRU" else network(op_type)
    )
    wrong = folded(model, tmp_path)
    place = {"W": 1, "R": 2, "B": 3}[which]
    off(wrong, wrong.graph.node[1].input[place], 1e-4)
    write(wrong, tmp_path / "wrong.onnx")
    found = verify(tmp_path / "net.onnx", tmp_path / "wrong.onnx", options=VerifyOptions(("cpu",)))
    assert found.verdict in {Verdict.FAILED, Verdict.INCONCLUSIVE}, found
    assert not found.structure.proved
