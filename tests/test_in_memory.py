"""Models, and inputs, that are in memory rather than in files."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from commandline import MODELS, convolution, files, load, normalizations

import bnfold

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is needed for a while, to see that nothing is left in it."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


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


def test_a_model_in_memory_is_folded_into_a_file(tmp_path: Path, scratch: Path) -> None:
    model = load(MODELS / "digits.onnx")
    before = model.SerializeToString(deterministic=True)
    report = bnfold.fold_file(model, tmp_path / "folded.onnx")
    assert report.written
    assert report.source.path == "a model in memory"
    assert report.verification
    assert report.verification.verdict == "passed"
    assert normalizations(load(tmp_path / "folded.onnx")) == 0
    assert (tmp_path / "folded.onnx").read_bytes() == files_fold(tmp_path)
    assert model.SerializeToString(deterministic=True) == before
    assert files(scratch) == set()
    assert str(scratch) not in json.dumps(report.to_dict())


def files_fold(folder: Path) -> bytes:
    """Return what becomes of the same model as a file."""
    bnfold.fold_file(MODELS / "digits.onnx", folder / "expected.onnx", verify=None)
    return (folder / "expected.onnx").read_bytes()


def test_a_model_in_memory_is_checked_without_a_target(tmp_path: Path) -> None:
    report = bnfold.fold_file(load(MODELS / "digits.onnx"), check=True)
    assert (report.exit_code, len(report.folds), report.target) == (1, 8, None)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "name a target, or use bnfold.fold, which returns a model"),
        ({"in_place": True}, "in_place and share_data are for files"),
        ({"share_data": True}, "in_place and share_data are for files"),
    ],
)
def test_a_model_in_memory_is_in_no_folder(options: dict[str, Any], told: str) -> None:
    with pytest.raises(bnfold.RequestError, match=told):
        bnfold.fold_file(convolution(), **options)


def test_errors_call_a_model_in_memory_so(tmp_path: Path, scratch: Path) -> None:
    broken = convolution()
    broken.graph.node[-1].output[0] = "elsewhere"
    with pytest.raises(bnfold.ModelError, match=r"^a model in memory: "):
        bnfold.fold_file(broken, tmp_path / "folded.onnx")
    with pytest.raises(bnfold.TooManyKeptError, match=r"^a model in memory: 4 ") as caught:
        bnfold.fold_file(load(MODELS / "kept.onnx"), tmp_path / "folded.onnx", max_kept=0)
    assert caught.value.report.source.path == "a model in memory"
    assert files(scratch) == set()
    assert files(tmp_path) == set()


def test_numbers_that_are_not_in_memory_are_told(tmp_path: Path) -> None:
    model = convolution(channels=64)
    onnx.external_data_helper.convert_model_to_external_data(model, location="w", size_threshold=0)
    onnx.external_data_helper.write_external_data_tensors(model, str(tmp_path))
    advice = "load it with its data, as onnx.load does"
    uses: list[Callable[[], object]] = [
        lambda: bnfold.fold(model),
        lambda: bnfold.fold_file(model, tmp_path / "folded.onnx"),
        lambda: bnfold.verify(model, model),
        lambda: bnfold.estimate_statistics(model, []),
    ]
    for use in uses:
        with pytest.raises(bnfold.ModelError, match=advice):
            use()


def test_what_is_no_model_is_told_by_its_type(tmp_path: Path) -> None:
    folding: Any = bnfold.fold(convolution())
    nothing: Any = None
    uses: list[Callable[[], object]] = [
        lambda: bnfold.fold_file(folding, tmp_path / "folded.onnx"),
        lambda: bnfold.verify(folding, convolution()),
        lambda: bnfold.verify(convolution(), folding),
        lambda: bnfold.estimate_statistics(folding, []),
    ]
    for use in uses:
        with pytest.raises(TypeError, match=r"as an onnx\.ModelProto or a path, not Folding"):
            use()
    with pytest.raises(TypeError, match=r"a path is a str or a pathlib\.Path, not ModelProto"):
        list(bnfold.fold_many([(folding.model, nothing)]))
    with pytest.raises(TypeError, match="options takes VerifyOptions, not None"):
        bnfold.verify(convolution(), convolution(), options=nothing)
    with pytest.raises(TypeError, match="statistics takes StatisticsOptions, or None"):
        bnfold.fold_file("net.onnx", statistics="data")  # type: ignore[arg-type]
