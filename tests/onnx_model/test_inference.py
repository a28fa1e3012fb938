"""Shape inference ends, whatever the model."""

import sys

import onnx
import pytest
from onnx import TensorProto, helper

from bnfold.onnx_model import inference
from bnfold.processes import fork


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere inference runs in the process")
def test_inference_that_never_ends_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx goes round for ever in an equation that begins with what is no letter."""
    monkeypatch.setattr(fork, "_own_process", True)
    monkeypatch.setattr(inference, "_SECONDS", 1)
    node = helper.make_node("Einsum", ["x"], ["y"])
    equation = onnx.AttributeProto(name="equation", type=onnx.AttributeProto.STRING, s=b"\xff")
    node.attribute.append(equation)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    assert inference.infer(model) == model
