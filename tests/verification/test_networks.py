"""Real networks, and folds by another tool: ONNX Runtime's own offline optimizer."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
from handfold import network
from realmodels import MODELS

from bnfold.files.opened import open_model
from bnfold.verification import Verdict, VerifyOptions, verify

SMALL = ("digits", "mobilenet", "resnet", "resnet_float16", "unet", "volume", "waveform")
CPU = VerifyOptions(("cpu",))


def optimized(path: Path, target: Path) -> Path:
    """Return what ONNX Runtime makes of a model when it folds the batch normalizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return target


def normalizations(path: Path) -> int:
    with open_model(path) as model:
        return sum(node.op_type == "BatchNormalization" for node in model.proto.graph.node)


@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_s_own_folding_passes(tmp_path: Path, name: str) -> None:
    path = MODELS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    candidate = optimized(path, tmp_path / path.name)
    found = verify(path, candidate, options=CPU)
    assert found.ok, found
    if found.verdict is Verdict.PASSED and normalizations(candidate) < normalizations(path):
        assert any(probe.found for probe in found.probes)


def test_another_tool_s_fold_is_proved_by_its_names(tmp_path: Path) -> None:
    model = network(0, kind="residual")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    candidate = optimized(path, tmp_path / "optimized.onnx")
    assert normalizations(candidate) == 0
    found = verify(path, candidate, options=CPU)
    assert found.verdict is Verdict.PASSED
    assert len(found.probes) >= 5
    other = onnx.ModelProto.FromString(candidate.read_bytes())
    conv = next(node for node in other.graph.node if node.op_type == "Conv")
    bias = next(t for t in other.graph.initializer if t.name == conv.input[2])
    bias.raw_data = bytes(len(bias.raw_data))
    assert verify(model, other, options=CPU).verdict is Verdict.FAILED
