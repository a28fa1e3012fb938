"""Real networks, and folds by another tool: ONNX Runtime's own offline optimizer."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from handfold import network
from onnx import numpy_helper
from proving import proved
from realmodels import MODELS, committed

import bnfold
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


PROVED_BY_FILES = (
    "levit", "mixnet_dynamo", "rearranged", "rearranged_dynamo", "repvgg_raw", "unet_raw",
)  # fmt: skip


@pytest.mark.parametrize("name", PROVED_BY_FILES)
def test_folds_are_proved_by_those_who_know_nothing_of_them(tmp_path: Path, name: str) -> None:
    """Tensors inside keep names and have other numbers, and biases are computed from types."""
    model = onnx.ModelProto.FromString(committed(name).read_bytes())
    proof = proved(tmp_path, model, bnfold.fold(model).model)
    assert proof.structure.proved, proof.structure.reason
    assert not proof.broken


def test_a_bias_that_is_computed_from_a_type_hides_no_weight(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(committed("repvgg_raw").read_bytes())
    wrong = bnfold.fold(model).model
    stored = max((t for t in wrong.graph.initializer if len(t.dims) == 4), key=lambda t: t.dims[1])
    weight = numpy_helper.to_array(stored).copy()
    place = np.unravel_index(np.argsort(np.abs(weight), axis=None)[weight.size // 8], weight.shape)
    weight[place] *= 1.00003
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))
    proof = proved(tmp_path, model, wrong)
    assert not proof.structure.proved or proof.broken
