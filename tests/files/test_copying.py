"""Copies: byte for byte, data files included."""

import os
from pathlib import Path

import pytest
from handmade import model, save_external, tensor

from bnfold.files import copy_model, open_model

MADE = model([tensor("w"), tensor("v", seed=1)])


def content(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model with data in a subfolder."""
    return save_external(MADE, tmp_path / "a" / "m.onnx", "data/weights.bin")


def test_an_unusual_encoding_is_copied_as_it_is(tmp_path: Path) -> None:
    data = b"".join(reversed([MADE.SerializeToString(), b"\x08\x89\x00"]))  # 9, in two bytes
    (tmp_path / "m.onnx").write_bytes(data)
    with open_model(tmp_path / "m.onnx") as opened:
        copy_model(opened, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == data


def test_a_copy_brings_its_data_along(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with open_model(source) as opened:
        for _ in range(2):  # again, over the first
            copy_model(opened, tmp_path / "b" / "m.onnx")
            assert content(tmp_path / "b") == content(tmp_path / "a")


def test_a_copy_in_the_same_folder_shares_the_data(source: Path) -> None:
    before = content(source.parent)
    with open_model(source) as opened:
        copy_model(opened, source.with_name("n.onnx"))
        copy_model(opened, source)
    assert content(source.parent) == before | {"n.onnx": before["m.onnx"]}


def test_a_copy_never_replaces_another_models_data(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / "data").mkdir(parents=True)
    (tmp_path / "b" / "data" / "weights.bin").write_bytes(b"another's")
    with open_model(source) as opened:
        copy_model(opened, tmp_path / "b" / "m.onnx")
    found = content(tmp_path / "b")
    assert sorted(found) == ["data/weights.bin", "m.onnx", "m.onnx.data"]
    assert found["data/weights.bin"] == b"another's"
    with open_model(tmp_path / "b" / "m.onnx") as copied:
        for one, other in zip(copied.proto.graph.initializer, MADE.graph.initializer, strict=True):
            assert copied.read(one).tobytes() == other.raw_data


def test_a_copy_that_fails_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").mkdir()
    replace = Path.replace

    def fails_for_the_model(self: Path, target: Path) -> Path:
        if target.name == "m.onnx":
            raise OSError(5, os.strerror(5))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_model)
    with open_model(source) as opened, pytest.raises(Exception, match=os.strerror(5)):
        copy_model(opened, tmp_path / "b" / "m.onnx")
    assert content(tmp_path / "b") == {}
