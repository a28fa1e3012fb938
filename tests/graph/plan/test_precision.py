"""Folding for quantization: what would cost a weight more than 3 dB as int8 stays."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import MODELS, model_in, normalizations, run_here, write
from onnx import numpy_helper
from weightcases import LAYOUTS, network

import bnfold
from bnfold.verification import VerifyOptions

QUICK = VerifyOptions(providers=("cpu",))


def even(name: str, shape: list[int]) -> onnx.TensorProto:
    numbers = np.random.default_rng(6).normal(size=shape)
    return numpy_helper.from_array(numbers.astype(np.float32), name)


def one_larger(name: str, size: float, shape: list[int]) -> onnx.TensorProto:
    """Return ones, the last of which is `size`."""
    numbers = np.ones(shape, np.float32)
    numbers.reshape(-1)[-1] = size
    return numpy_helper.from_array(numbers, name)


def fed(name: str, size: float) -> onnx.ModelProto:
    """Return a linear operator one of whose input channels a Mul makes so much larger."""
    node, entering, leaving, shape, _, channels = LAYOUTS[name]
    model = network(f"a = Mul(x, q)  {node.replace('x', 'a', 1)}", entering, leaving)
    model.graph.node[-1].output[0] = "y"
    behind = len(channels) - 1  # axes behind the channels, on both sides
    scales = [entering[len(entering) - 1 - behind], *[1] * behind]
    model.graph.initializer.extend([even("W", shape), one_larger("q", size, scales)])
    return model


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "depthwise"])
def test_a_spread_of_input_channels_stays_and_a_small_one_is_folded(name: str) -> None:
    assert bnfold.fold(fed(name, 300)).folds
    kept = bnfold.fold(fed(name, 300), for_quantization=True)
    assert not kept.folds
    assert kept.kept[0].below is not None
    assert kept.kept[0].below.reason == "int8-loss"
    assert re.search(r"\(\d+\.\d → \d+\.\d dB per channel\)", kept.kept[0].below.text)
    assert bnfold.fold(fed(name, 1.1), for_quantization=True).folds


def test_input_channels_of_a_depthwise_weight_are_its_output_channels() -> None:
    assert bnfold.fold(fed("depthwise", 300), for_quantization=True).folds


@pytest.mark.parametrize("name", LAYOUTS)
def test_output_channels_are_free_where_each_has_a_scale(name: str) -> None:
    node, entering, leaving, shape, _, channels = LAYOUTS[name]
    model = network(f"{node}  y = Mul(c, s)", entering, leaving)
    model.graph.initializer.extend([even("W", shape), one_larger("s", 300, channels)])
    kept = bnfold.fold(model, for_quantization=True).kept
    # The groups of a ConvTranspose share the scales, so there they are not free.
    assert [k.above.reason for k in kept] == ["int8-loss"] * (name == "transposed, grouped")


def test_what_repairs_a_spread_is_folded() -> None:
    model = fed("Gemm", 300)
    weight = next(t for t in model.graph.initializer if t.name == "W")
    numbers = numpy_helper.to_array(weight) / np.asarray([1] * 15 + [300])[:, None]
    weight.CopyFrom(numpy_helper.from_array(numbers.astype(np.float32), "W"))
    assert bnfold.fold(model, for_quantization=True).folds


@pytest.mark.slow
def test_a_normalization_stays_and_the_command_line_says_why(tmp_path: Path) -> None:
    model_in(tmp_path, "perceptron")
    words = ("perceptron.onnx", "--for-quantization", "--report", "r.json")
    done = run_here(*words, cwd=tmp_path)
    assert done.code == 0
    assert "the weight would lose more than 3 dB as int8 (46.5 → 41.4 dB per channel)" in done.text
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    (kept,) = report["kept"]
    assert kept["below"]["reason"] == "int8-loss"
    assert normalizations(onnx.load(tmp_path / "perceptron.folded.onnx")) == 1  # noqa: TID251
    again = run_here("perceptron.folded.onnx", "--for-quantization", "--check", cwd=tmp_path)
    assert again.code == 0
    assert "int8" in again.text
    gate = run_here("perceptron.onnx", "--for-quantization", "--max-kept", "0", cwd=tmp_path)
    assert gate.code == 5


@pytest.mark.slow
def test_several_models_say_it_each_in_the_report(tmp_path: Path) -> None:
    for name in ("perceptron", "digits"):
        model_in(tmp_path, name)
    words = ("perceptron.onnx", "digits.onnx", "--for-quantization", "--check")
    assert run_here(*words, "--report", "r.json", cwd=tmp_path).code == 1
    both = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [len(report["kept"]) for report in both] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"take_apart": ("all",)}])
@pytest.mark.parametrize("name", ["visformer", "perceptron"])
def test_it_goes_with_composites(name: str, options: dict[str, object], tmp_path: Path) -> None:
    source, target = MODELS / f"{name}.onnx", tmp_path / "net.onnx"
    report = bnfold.fold_file(source, target, verify=QUICK, for_quantization=True, **options)  # type: ignore[arg-type]
    assert report.weights
    lost = [w.before.per_channel - w.after.per_channel for w in report.weights if w.before]
    assert max(lost) <= 3
    assert any(k.below is not None and k.below.reason == "int8-loss" for k in report.kept)


def test_with_one_scale_what_stands_behind_a_depthwise_convolution_stays() -> None:
    report = bnfold.fold_file(MODELS / "mobilenet.onnx", check=True, for_quantization=True)
    assert not report.kept
    report = bnfold.fold_file(
        MODELS / "mobilenet.onnx", check=True, for_quantization=True, per_tensor=True
    )
    reasons = {kept.above.at: kept.above for kept in report.kept}
    depthwise = reasons["Conv '/blocks/blocks.0/blocks.0.0/conv_dw/Conv'"]
    assert depthwise.reason == "int8-loss"
    # The weight as a whole loses 1 dB, but some channels of its output all that they hold.
    assert "40.8 → 0.1 dB per tensor" in depthwise.text


def test_output_channels_come_first() -> None:
    """Of a normalization on each side of a convolution only one fits, and it is the one behind."""
    report = bnfold.fold_file(
        MODELS / "shufflenet.onnx", check=True, for_quantization=True, per_tensor=True
    )
    taken = {fold.taken[0].name: fold.how for fold in report.folds}
    assert taken["/unit1/right/right.3/bn/BatchNormalization"] == "output"


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("name", ["shufflenet", "perceptron", "mobilenet", "pnasnet", "repvgg_raw"])
def test_a_second_run_changes_nothing(name: str, *, per_tensor: bool) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")  # noqa: TID251
    folded = bnfold.fold(model, for_quantization=True, per_tensor=per_tensor)
    again = bnfold.fold(folded.model, for_quantization=True, per_tensor=per_tensor)
    assert not again.folds
    assert again.model == folded.model


def between_normalizations(seed: int) -> onnx.ModelProto:
    """Return a depthwise convolution, a normalization that tells its variance, and a scale."""
    model = network(
        "a = Conv<group=4>(x, W)  b = BatchNormalization(a, g, B, m, v)  c = Relu(b)"
        "  y = BatchNormalization(c, G, z, z, V)",
        [1, 4, 6, 6],
        [1, 4, 4, 4],
    )
    dice = np.random.default_rng(seed)
    spread = {name: np.exp(dice.normal(size=4) * size) for name, size in SPREADS.items()}
    weight = dice.normal(size=(4, 1, 3, 3)) * spread.pop("W").reshape(4, 1, 1, 1)
    plain = {"W": weight, "B": dice.normal(size=4), "m": dice.normal(size=4), "z": np.zeros(4)}
    model.graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in {**spread, **plain}.items()
    )
    return model


SPREADS = {"W": 1.5, "g": 1.0, "v": 2.0, "G": 1.0, "V": 0.5}


@pytest.mark.slow
def test_a_variance_that_was_made_up_tells_nothing() -> None:
    """Normalizations merged to one tell as much in the folded model as while they are merged."""
    stay = 0
    for seed in range(130):
        folded = bnfold.fold(between_normalizations(seed), for_quantization=True, per_tensor=True)
        again = bnfold.fold(folded.model, for_quantization=True, per_tensor=True)
        stay += normalizations(folded.model) == 1
        assert again.model == folded.model, seed
    assert stay > 10, "in many of them the two normalizations become one that stays"


def test_one_scale_for_a_weight_needs_the_option(tmp_path: Path) -> None:
    with pytest.raises(bnfold.RequestError, match="needs it"):
        bnfold.fold_file(MODELS / "digits.onnx", tmp_path / "net.onnx", per_tensor=True)
    model_in(tmp_path)
    assert run_here("digits.onnx", "--per-tensor", cwd=tmp_path).code == 2


def test_a_quantized_weight_and_no_number_are_left_to_their_own_reasons() -> None:
    model = fed("Gemm", 300)
    weight = next(t for t in model.graph.initializer if t.name == "W")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(numbers, "W"))
    (kept,) = bnfold.fold(model, for_quantization=True).kept
    assert kept.below is not None
    assert kept.below.reason == "not-finite"


def test_a_model_in_another_file_is_written_as_it_is(tmp_path: Path) -> None:
    path = write(fed("conv", 300), tmp_path / "net.onnx")
    report = bnfold.fold_file(path, for_quantization=True)
    assert report.written
    assert not report.folds
