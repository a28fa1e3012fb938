"""The committed models are what models/README.md says, and run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import realmodels
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BATCH: Final = 3
LARGEST: Final = 100_000
LARGEST_DIGITS: Final = 200_000
README: Final = (realmodels.MODELS / "README.md").read_text(encoding="utf-8")

each_model = pytest.mark.parametrize("path", realmodels.all_committed(), ids=lambda path: path.stem)


class Row(NamedTuple):
    file: str
    exporter: str
    opset: int
    norms: int
    left: str
    kilobytes: int
    where: str


def readme_rows() -> Iterator[Row]:
    table = README.partition("<!-- table -->")[2].partition("<!-- end of table -->")[0]
    for line in table.strip().splitlines()[2:]:
        file, exporter, opset, norms, left, kilobytes, where = line.strip("| ").split(" | ")
        yield Row(file, exporter, int(opset), int(norms), left, int(kilobytes), where)


ROWS: Final = {row.file: row for row in readme_rows()}


def read(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def norms_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def run(path: Path, feed: dict[str, Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feed)
    return np.asarray(result)


def random_feed(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    (value,) = model.graph.input
    tensor = value.type.tensor_type
    shape = [dim.dim_value or BATCH for dim in tensor.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return {value.name: np.random.default_rng(0).standard_normal(shape).astype(dtype)}


def test_readme_lists_exactly_the_files() -> None:
    assert set(ROWS) == {path.name for path in realmodels.all_committed()}


@each_model
def test_readme_row_is_true(path: Path) -> None:
    model, row = read(path), ROWS[path.name]
    assert len(norms_of(model)) == row.norms
    assert model.opset_import[0].version == row.opset
    assert round(path.stat().st_size / 1000) == row.kilobytes


@each_model
def test_left_is_stated_and_not_more_than_there_are(path: Path) -> None:
    row = ROWS[path.name]
    counts = [int(count) for count in re.findall(r"\d+", row.left)]
    assert counts
    assert max(counts) <= row.norms


@each_model
def test_passes_the_checker(path: Path) -> None:
    onnx.checker.check_model(read(path), full_check=True)


@each_model
def test_runs_on_a_batch_of_any_size(path: Path) -> None:
    model = read(path)
    (value,) = model.graph.input
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    result = run(path, random_feed(model))
    assert result.shape[0] == BATCH
    assert np.isfinite(result).all()
    assert result.std() > 0


@each_model
def test_is_small(path: Path) -> None:
    limit = LARGEST_DIGITS if path.stem == "digits" else LARGEST
    assert path.stat().st_size < limit


@each_model
def test_no_normalization_is_the_identity_or_in_training_mode(path: Path) -> None:
    model = read(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    reached = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type != "Shape" and not reached.isdisjoint(node.input):
            reached.update(node.output)
    for norm in norms_of(model):
        if norm.input[0] not in reached:
            continue  # of a weight, which is its whole batch
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in norm.attribute}
        assert attributes.get("training_mode", 0) == 0
        assert len(norm.output) == 1
        scale, shift, mean, var = (numpy_helper.to_array(constants[n]) for n in norm.input[1:])
        assert (var >= 0).all()
        for values, neutral in ((scale, 1), (shift, 0), (mean, 0), (var, 1)):
            assert (values != neutral).any(), norm.name


def test_no_trace_of_the_machine_that_made_them() -> None:
    for path in realmodels.all_committed():
        assert b"site-packages" not in path.read_bytes(), path.name


def test_digits_reaches_the_accuracy_that_readme_states() -> None:
    stated = re.search(r"([\d.]+)% of (\d+) right", ROWS["digits.onnx"].where)
    assert stated is not None
    with np.load(realmodels.MODELS / "digits_test.npz") as samples:
        image, labels = samples["image"], samples["labels"]
    assert image.dtype == np.float32
    assert len(labels) == int(stated[2])
    accuracy = (run(realmodels.committed("digits"), {"image": image}).argmax(1) == labels).mean()
    assert accuracy > 0.97
    assert accuracy == pytest.approx(float(stated[1]) / 100, abs=0.005)
