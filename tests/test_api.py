"""The Python interface: fold, fold_file, verify."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from commandline import (
    MODELS,
    accuracy,
    convolution,
    files,
    load,
    model_in,
    normalizations,
    tampered,
    write,
)

import bnfold
from bnfold.paths import default_target
from bnfold.verification import VerifyOptions

DIGITS = MODELS / "digits.onnx"


def test_a_trained_network_stays_as_accurate() -> None:
    model = load(DIGITS)
    folding = bnfold.fold(model)
    assert normalizations(model) == folding.before.batch_normalizations == 8
    assert normalizations(folding.model) == folding.after.batch_normalizations == 0
    assert accuracy(folding.model) == accuracy(model) > 0.95


def test_folding_leaves_the_given_model_alone() -> None:
    model = load(DIGITS)
    before = model.SerializeToString(deterministic=True)
    folding = bnfold.fold(model)
    assert model.SerializeToString(deterministic=True) == before
    for tensor in folding.model.graph.initializer:
        tensor.raw_data = b""
    assert model.SerializeToString(deterministic=True) == before


def test_folding_tells_what_it_did() -> None:
    folding = bnfold.fold(convolution())
    (fold,) = folding.folds
    assert fold.how == "output"
    assert [node.name for node in fold.taken] == ["bn"]
    assert [node.name for node in fold.into] == ["conv"]
    assert (folding.before.nodes, folding.after.nodes) == (2, 1)
    assert (folding.kept, folding.unlisted, folding.inlined) == ((), (), ())


def test_what_is_kept_is_told_with_both_obstacles() -> None:
    folding = bnfold.fold(load(MODELS / "kept.onnx"))
    assert len(folding.kept) == folding.after.batch_normalizations == 4
    for kept in folding.kept:
        assert kept.below is not None
        for obstacle in (kept.above, kept.below):
            assert obstacle.at
            assert obstacle.at in obstacle.text


def test_the_target_is_beside_the_source(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path))
    assert report.target is not None
    assert Path(report.target.path) == tmp_path / "digits.folded.onnx"
    assert report.exit_code == 0
    assert report.error is None
    assert report.written
    assert report.source.sha256
    assert report.target.size == Path(report.target.path).stat().st_size
    assert report.verification is not None
    assert report.verification.verdict == "passed"


@pytest.mark.parametrize(
    ("source", "target"),
    [("net.onnx", "net.folded.onnx"), ("net", "net.folded.onnx"), ("a.b.onnx", "a.b.folded.onnx")],
)
def test_default_targets(source: str, target: str) -> None:
    assert default_target(Path("some", source)) == Path("some", target)


def test_a_model_in_which_nothing_folds_gets_the_form_that_is_asked_for(tmp_path: Path) -> None:
    source = write(bnfold.fold(convolution(channels=64)).model, tmp_path / "net.onnx")
    before = source.read_bytes()
    assert not bnfold.fold_file(source, in_place=True).written
    assert source.read_bytes() == before
    with pytest.raises(bnfold.RequestError, match="has no data file that could be shared"):
        bnfold.fold_file(source, tmp_path / "s.onnx", share_data=True)
    assert bnfold.fold_file(source, in_place=True, external_data=True).written
    assert files(tmp_path) == {"net.onnx", "net.onnx.data"}
    onnx.checker.check_model(source)
    assert bnfold.verify(onnx.load_from_string(before), source).ok


def test_a_source_that_is_replaced_meanwhile_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model_in(tmp_path)
    newer = model_in(tmp_path, "kept", as_name="newer.onnx")
    expected = newer.read_bytes()
    verify = bnfold.verification.Verifier.verify

    def replacing(*words: object) -> object:
        newer.replace(source)
        return verify(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("bnfold.verification.Verifier.verify", replacing)
    with pytest.raises(bnfold.ModelError, match="the file was replaced while it was being read"):
        bnfold.fold_file(source, in_place=True)
    assert source.read_bytes() == expected


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path), check=True)
    assert report.checked_only
    assert report.exit_code == 1
    assert report.target is None
    assert files(tmp_path) == {"digits.onnx"}


def test_without_verification(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path), verify=None)
    assert report.verification is None
    assert report.exit_code == 0
    assert report.written


def test_the_source_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    (tmp_path / "link.onnx").hardlink_to(source)
    for target in (source, str(source), tmp_path / "link.onnx"):
        with pytest.raises(bnfold.RequestError, match="in-place"):
            bnfold.fold_file(source, target)
    with pytest.raises(bnfold.RequestError, match="exclude"):
        bnfold.fold_file(source, tmp_path / "x.onnx", in_place=True)
    assert normalizations(load(source)) == 8


def test_only_batch_normalizations_if_asked(tmp_path: Path) -> None:
    model = convolution()
    model.graph.node[1].op_type = "Mul"
    del model.graph.node[1].input[2:]
    gamma = next(t for t in model.graph.initializer if t.name == "gamma")
    gamma.dims[:] = [4, 1, 1]
    source = write(model, tmp_path / "net.onnx")
    assert len(bnfold.fold(model).folds) == 1
    assert bnfold.fold(model, bn_only=True).folds == ()
    assert bnfold.fold_file(source, check=True, bn_only=True).folds == ()


def overridable() -> onnx.ModelProto:
    model = convolution()
    model.graph.input.add().CopyFrom(
        onnx.helper.make_tensor_value_info("gamma", onnx.TensorProto.FLOAT, [4])
    )
    return model


def test_overridable_parameters_may_be_kept() -> None:
    folding = bnfold.fold(overridable())
    assert folding.unlisted == ("gamma",)
    assert [value.name for value in folding.model.graph.input] == ["x"]
    kept = bnfold.fold(overridable(), keep_overridable=True)
    assert kept.folds == ()
    assert kept.kept[0].above.reason == "overridable"


def test_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    source.write_text("hello")
    with pytest.raises(bnfold.ModelError, match=r"net\.onnx"):
        bnfold.fold_file(source)
    with pytest.raises(bnfold.ModelError):
        bnfold.verify(DIGITS, source)


def test_whatever_is_refused_the_file_is_named(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    options = bnfold.VerifyOptions(shapes={"pixels": (1,)})
    with pytest.raises(bnfold.RequestError, match=r"digits\.onnx: the model has no input 'pixels'"):
        bnfold.fold_file(source, verify=options)
    model = load(source)
    model.graph.node[-1].output[0] = model.graph.node[0].output[0]
    with pytest.raises(bnfold.ModelError, match=r"broken\.onnx: nothing makes the output"):
        bnfold.fold_file(write(model, tmp_path / "broken.onnx"))


@pytest.mark.parametrize("location", ["weights.bin", "net.onnx.data"])
def test_a_data_file_that_is_left_is_told(tmp_path: Path, location: str) -> None:
    model = convolution(channels=512)
    onnx.external_data_helper.convert_model_to_external_data(
        model, location=location, size_threshold=0
    )
    onnx.external_data_helper.write_external_data_tensors(model, str(tmp_path))
    source = write(model, tmp_path / "net.onnx")
    before = (tmp_path / location).read_bytes()
    report = bnfold.fold_file(source, in_place=True)
    left = [] if location == "net.onnx.data" else [location]
    assert (list(report.left_files), report.to_dict()["left_files"]) == (left, left)
    assert ((tmp_path / location).read_bytes() == before) is bool(left)
    assert bnfold.fold_file(source, tmp_path / "other.onnx").left_files == ()


def test_a_data_file_that_an_earlier_run_wrote_is_told(tmp_path: Path) -> None:
    source = write(convolution(channels=512), tmp_path / "net.onnx")
    target = tmp_path / "out.onnx"
    assert bnfold.fold_file(source, target, external_data=True).left_files == ()
    assert bnfold.fold_file(source, target, external_data=True).left_files == (), "it is new"
    assert bnfold.fold_file(source, target).left_files == ("out.onnx.data",)
    assert bnfold.fold_file(source, target).left_files == (), "it was told"
    other = tmp_path / "other.onnx"
    bnfold.fold_file(source, other, external_data=True)
    bnfold.fold_file(other, target, share_data=True)
    assert bnfold.fold_file(source, target).left_files == (), "other.onnx needs its data"


def test_a_path_is_no_model() -> None:
    with pytest.raises(TypeError, match="not str; fold_file takes a path"):
        bnfold.fold("net.onnx")  # type: ignore[arg-type]


def test_verify_is_no_switch(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="None not to verify"):
        bnfold.fold_file(DIGITS, tmp_path / "x.onnx", verify=True)  # type: ignore[arg-type]
    assert not files(tmp_path)


def test_inputs_may_be_named_by_a_string(tmp_path: Path) -> None:
    options = bnfold.VerifyOptions(inputs=str(DIGITS.with_name("digits_test.npz")))
    assert bnfold.fold_file(model_in(tmp_path), verify=options).exit_code == 0


def test_verify_takes_paths_and_models(tmp_path: Path) -> None:
    model = load(DIGITS)
    folded = bnfold.fold(model).model
    path = write(folded, tmp_path / "folded.onnx")
    for original, candidate in ((model, folded), (str(DIGITS), path)):
        found = bnfold.verify(original, candidate)
        assert found.ok
        assert found.verdict == "passed"
        assert len(found.probes) == 8
        assert all(probe.found for probe in found.probes)


def test_verify_finds_a_wrong_weight(tmp_path: Path) -> None:
    folded = write(bnfold.fold(load(DIGITS)).model, tmp_path / "folded.onnx")
    wrong = tampered(folded, tmp_path / "wrong.onnx", lambda w: w * np.float32(1.001))
    found = bnfold.verify(DIGITS, wrong)
    assert not found.ok
    assert found.verdict == "failed"


def test_verify_with_ones_own_inputs() -> None:
    options = VerifyOptions(inputs=MODELS / "digits_test.npz", providers=("cpu",))
    found = bnfold.verify(DIGITS, bnfold.fold(load(DIGITS)).model, options=options)
    assert found.ok
    (provider,) = found.providers
    assert {output.size for output in provider.outputs} == {3600}


def test_a_provider_error_has_its_report(tmp_path: Path) -> None:
    absent = set(onnxruntime.get_all_providers()) - set(onnxruntime.get_available_providers())
    options = VerifyOptions(providers=("cpu", min(absent)))
    with pytest.raises(bnfold.ProviderError, match="not in this build") as caught:
        bnfold.fold_file(model_in(tmp_path), verify=options)
    assert caught.value.report.exit_code == 4
    assert files(tmp_path) == {"digits.onnx"}
