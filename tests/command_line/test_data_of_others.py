"""Whichever way a target is named, a data file that another model reads stays as it is."""

from pathlib import Path

import onnx
import pytest
from commandline import load, model_in, run_here
from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

OPTIONS = ("--external-data", "--no-verify", "-q")


def model_with_data(folder: Path, data: str) -> bytes:
    """Put a model that has its numbers in a file of that name into a folder; return the numbers."""
    folder.mkdir(exist_ok=True)
    model = load(model_in(folder, as_name="given.onnx"))
    convert_model_to_external_data(model, location=data, size_threshold=0)
    (folder / "other.onnx").write_bytes(
        write_external_data_tensors(model, str(folder)).SerializeToString()
    )
    return (folder / data).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "folder", "data"),
    [
        (["net.onnx", "-o", "x.onnx"], ".", "x.onnx.data"),
        (["net.onnx", "-d", "out"], "out", "net.onnx.data"),
        (["net.onnx", "given.onnx", "-d", "out"], "out", "net.onnx.data"),
        (["net.onnx", "--in-place"], ".", "net.onnx.data"),
        (["net.onnx"], ".", "net.folded.onnx.data"),
    ],
)
def test_data_that_another_model_reads_stays(
    tmp_path: Path, words: list[str], folder: str, data: str
) -> None:
    model_in(tmp_path, as_name="net.onnx")
    model_in(tmp_path, as_name="given.onnx")
    numbers = model_with_data(tmp_path / folder, data)
    done = run_here(*words, *OPTIONS, cwd=tmp_path)
    assert done.code == 2, done
    assert "other.onnx has its data in this file" in done.err
    assert (tmp_path / folder / data).read_bytes() == numbers
    onnx.checker.check_model(tmp_path / folder / "other.onnx")
    (tmp_path / folder / "other.onnx").unlink()
    assert run_here(*words, *OPTIONS, cwd=tmp_path).code == 0
