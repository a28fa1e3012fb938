import numpy as np
import onnxruntime
import pytest
from handfold import Builder, network
from onnx import TensorProto, helper

from bnfold.files.opened import from_proto
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.runs.float64 import true_outputs


@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
def test_the_truth_is_what_onnxruntime_approximates(kind: str) -> None:
    model = network(0, kind=kind)
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [expected] = session.run(None, {"x": x})
    truth = true_outputs(from_proto(model), {"x": x})["y"]
    assert truth.dtype == np.float64
    np.testing.assert_allclose(truth, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_subgraphs_have_no_truth() -> None:
    net = Builder(np.random.default_rng(0))
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "b", [], [helper.make_empty_tensor_value_info("n")]
    )
    net.nodes.append(
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    )
    model = net.model([1], "y")
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    with pytest.raises(EvaluationError):
        true_outputs(from_proto(model), {"x": np.ones(1), "flag": np.array(True)})  # noqa: FBT003
