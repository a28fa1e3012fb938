"""Outputs behind decisions."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.verification import Verdict, VerifyOptions, verify
from bnfold.verification.comparison import OutputVerdict
from bnfold.verification.runs.decisions import decisions_before

CPU = VerifyOptions(("cpu",))
info = helper.make_tensor_value_info


def classes(op_type: str, gap: float, *, error: float = 0.0, **attributes: Any) -> onnx.ModelProto:
    """Two scores that lie `gap` apart, and the choice between them; the second has an `error`.

    The scores come out of a convolution that ONNX Runtime computes alike at every level, so that
    the original has no noise but one rounding.
    """
    W = np.zeros((3, 4, 1, 1), np.float32)
    W[:, 0, 0, 0] = [1.0, 1.0 - gap + error, 0.1]
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "W"], ["scores"]),
    ]
    initializers = [numpy_helper.from_array(W, "W")]
    if op_type == "TopK":
        nodes.append(helper.make_node("TopK", ["scores", "k"], ["top", "y"], axis=1))
        initializers.append(numpy_helper.from_array(np.array([1]), "k"))
    else:
        nodes.append(helper.make_node(op_type, ["scores"], ["y"], axis=1, **attributes))
    graph = helper.make_graph(
        nodes, "g", [info("x", 1, [1, 4, 6, 6])], [info("y", TensorProto.INT64, None)],
        initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("op_type", ["ArgMax", "TopK"])
def test_a_flip_within_the_rounding_of_the_scores_agrees(op_type: str) -> None:
    found = verify(classes(op_type, 2e-7), classes(op_type, 2e-7, error=4e-7), options=CPU)
    output = found.providers[0].outputs[0]
    assert output.difference == 36
    assert output.verdict is OutputVerdict.AGREES
    assert "widest margin" in output.note


@pytest.mark.parametrize("op_type", ["ArgMax", "TopK"])
def test_a_flip_beyond_it_differs(op_type: str) -> None:
    found = verify(classes(op_type, 1e-3), classes(op_type, 1e-3, error=2e-3), options=CPU)
    assert found.verdict is Verdict.FAILED


def test_dropped_axes_are_put_back() -> None:
    models = [classes("ArgMax", 2e-7, error=e, keepdims=0) for e in (0.0, 4e-7)]
    found = verify(*models, options=CPU)
    assert found.providers[0].outputs[0].verdict is OutputVerdict.AGREES


def test_behind_another_decision_nothing_is_shown() -> None:
    models = []
    for error in (0.0, 1.8e-7):
        model = classes("ArgMax", 6e-8, error=error)
        graph = model.graph
        graph.node.append(helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("Sqrt", ["z"], ["w"]))
        del graph.output[:]
        graph.output.append(info("w", 1, None))
        models.append(model)
    found = verify(*models, options=CPU)
    output = found.providers[0].outputs[0]
    assert output.verdict is OutputVerdict.INCONCLUSIVE
    assert "fell differently" in output.note
    assert found.verdict is Verdict.PASSED_BY_PROOF


def test_only_the_nearest_decisions_count() -> None:
    graph = classes("ArgMax", 0.0).graph
    graph.node.insert(0, helper.make_node("Round", ["x"], ["x0"]))
    graph.node[1].input[0] = "x0"
    assert [node.op_type for node in decisions_before(graph, "y")] == ["ArgMax"]
    assert decisions_before(graph, "scores")[0].op_type == "Round"
