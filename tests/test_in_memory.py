"""Models, and inputs, that are in memory rather than in files."""

import json

import numpy as np
import onnx
from commandline import MODELS, convolution, load

import bnfold


def test_a_folding_verifies_itself() -> None:
    folding = bnfold.fold(load(MODELS / "digits.onnx"))
    steps: list[str] = []
    found = folding.verify(step=steps.append)
    assert found.verdict == "passed"
    assert len(found.probes) == len(folding.regions) == 8
    assert not any(probe.found for probe in found.probes)
    assert steps


def test_a_folding_is_verified_as_it_is_now() -> None:
    folding = bnfold.fold(convolution())
    assert folding.verify(options=bnfold.VerifyOptions(seed=3))
    weight = next(t for t in folding.model.graph.initializer if len(t.dims) == 4)
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    assert folding.verify().verdict == "failed"


def test_a_folding_is_told_as_plain_data() -> None:
    told = bnfold.fold(load(MODELS / "kept.onnx")).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert not {"model", "original"} & told.keys()
    assert len(told["kept"]) == 4
