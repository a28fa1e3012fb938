"""Files that are no ONNX models say what they are."""

import pickle
import zipfile
from pathlib import Path

import pytest
from commandline import MODELS, run_here

from bnfold.files.foreign import LONGEST, foreign


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull` fetches it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5 file (Keras)"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        (b"\x1c\0\0\0ORTM" + bytes(20), ".ort format"),
        (pickle.dumps({}, 2), "torch.onnx.export"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32"}}', "safetensors"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b'ir_version: 10\nproducer_name: "pytorch"\n' * 9, "onnx.load reads it from a .textproto"),
    ],
)
def test_it_is_told_in_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    done = run_here("m.onnx", cwd=tmp_path)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1


def test_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as file:
        file.writestr("m/data.pkl", b"")
    assert "torch.onnx.export" in foreign((tmp_path / "m.pth").read_bytes()[:LONGEST])
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        file.writestr("m.onnx", b"")
    assert "zip file" in foreign((tmp_path / "m.zip").read_bytes()[:LONGEST])


def test_models_are_none_of_these() -> None:
    for path in MODELS.glob("*.onnx"):
        assert not foreign(path.read_bytes()[:LONGEST])
