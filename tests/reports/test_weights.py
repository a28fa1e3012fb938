"""What a report tells of weights, against the files that were read and written."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import MODELS, load, model_in, run_here, write
from onnx import numpy_helper
from weightcases import LAYOUTS, network, tensor

import bnfold
from bnfold.reports.report import Report
from bnfold.reports.weights import Int8Record


def stored(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def decibels(weight: np.ndarray, axis: int | None) -> float:
    wide = weight.astype(np.float64)
    others = tuple(i for i in range(wide.ndim) if i != axis)
    step = np.abs(wide).max(axis=None if axis is None else others, keepdims=True) / 127
    noise = np.square(wide - np.round(wide / step) * step).sum()
    return float(10 * np.log10(np.square(wide).sum() / noise))


def check_record(told: Int8Record, weight: np.ndarray, axis: int) -> None:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    ranges = np.abs(weight).max(axis=others)
    assert told.per_tensor == pytest.approx(decibels(weight, None), abs=0.01)
    assert told.per_channel == pytest.approx(decibels(weight, axis), abs=0.01)
    assert told.ranges == pytest.approx(ranges, rel=1e-3)
    assert (told.smallest, told.largest) == (ranges.min(), ranges.max())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_measured_along_its_output_channels(name: str, tmp_path: Path) -> None:
    node, entering, leaving, shape, axis, channels = LAYOUTS[name]
    model = network(f"{node}  y = Mul(c, s)", entering, leaving)
    draw = np.random.default_rng(3)
    model.graph.initializer.extend([tensor("W", shape, draw), tensor("s", channels, draw)])
    report = bnfold.fold_file(write(model, tmp_path / "net.onnx"), verify=None, int8=True)
    assert report.weights is not None
    (told,) = report.weights
    assert (told.node.output, told.name, told.shape, told.axis) == ("c", "W", tuple(shape), axis)
    assert told.before is not None
    check_record(told.before, stored(model, "W"), axis)
    (after,) = load(tmp_path / "net.folded.onnx").graph.initializer
    check_record(told.after, numpy_helper.to_array(after), axis)


def test_a_weight_of_several_folds_has_one_entry(tmp_path: Path) -> None:
    model = network("a = Mul(x, q)  c = Conv(a, W)  y = Mul(c, s)", [1, 3, 5, 5], [1, 4, 3, 3])
    draw = np.random.default_rng(4)
    shapes = {"q": [3, 1, 1], "W": [4, 3, 3, 3], "s": [4, 1, 1]}
    model.graph.initializer.extend(tensor(name, shape, draw) for name, shape in shapes.items())
    report = bnfold.fold_file(write(model, tmp_path / "net.onnx"), verify=None, int8=True)
    assert len(report.folds) == 2
    assert report.weights is not None
    (told,) = report.weights
    (after,) = load(tmp_path / "net.folded.onnx").graph.initializer
    check_record(told.after, numpy_helper.to_array(after), 0)


def figures(name: str) -> dict[str, list[float]]:
    """Return what each weight loses per tensor, before and after, rounded, by its operator."""
    report = bnfold.fold_file(MODELS / f"{name}.onnx", check=True, int8=True)
    assert report.weights
    return {
        w.node.name: [round(side.per_tensor, 1) for side in (w.before, w.after) if side is not None]
        for w in report.weights
    }


def test_known_networks_lose_what_they_are_known_to_lose() -> None:
    assert figures("visformer")["/stage2/stage2.0/attn/qkv/Conv"] == [40.6, 33.4]
    depthwise = "/blocks/blocks.2/blocks.2.1/conv_dw/conv_dw.0/Conv"
    assert figures("mixnet")[depthwise] == [44.9, 35.9]


def test_a_sum_of_weights_has_nothing_before() -> None:
    report = bnfold.fold_file(MODELS / "repvgg.onnx", check=True, int8=True)
    summed = {node.output for fold in report.folds if fold.how == "sum" for node in fold.into}
    assert summed
    assert report.weights is not None
    assert {w.node.output for w in report.weights if w.before is None} == summed


@pytest.mark.slow
def test_it_is_measured_where_it_is_asked_for_or_where_time_is_taken(tmp_path: Path) -> None:
    source = model_in(tmp_path)

    def measured(report: Report) -> bool:
        return report.weights is not None

    assert not measured(bnfold.fold_file(source, verify=None))
    assert not measured(bnfold.fold_file(source, check=True))
    assert measured(bnfold.fold_file(source))
    assert not measured(bnfold.fold_file(source, int8=False))
    run_here("digits.onnx", "--check", "--report", "r.json", cwd=tmp_path)
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert len(told["weights"]) == 8
    assert len(told["weights"][0]["before"]["ranges"]) == told["weights"][0]["shape"][0]


def test_of_many_channels_some_ranges_are_told(tmp_path: Path) -> None:
    model = network("c = MatMul(x, W)  y = Mul(c, s)", [2, 3], [2, 1000])
    draw = np.random.default_rng(5)
    model.graph.initializer.extend([tensor("W", [3, 1000], draw), tensor("s", [1000], draw)])
    report = bnfold.fold_file(write(model, tmp_path / "net.onnx"), check=True, int8=True)
    assert report.weights is not None
    after = report.weights[0].after
    assert len(after.ranges) == 256
    assert after.smallest <= min(after.ranges) <= max(after.ranges) <= after.largest * 1.001
