"""Models that were not edited, byte for byte or with their data in a file of their own."""

import os
from pathlib import Path

import pytest
from handmade import model, save_external, tensor

from bnfold.errors import RequestError
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


def numbers_of(path: Path) -> list[bytes]:
    """The numbers of a model's initializers."""
    with open_model(path) as opened:
        return [opened.read(tensor).tobytes() for tensor in opened.proto.graph.initializer]


OWN = [tensor.raw_data for tensor in MADE.graph.initializer]


def test_a_copy_elsewhere_has_its_data_beside_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with open_model(source) as opened:
        for _ in range(2):  # again, over the first
            copy_model(opened, tmp_path / "b" / "m.onnx")
            assert sorted(content(tmp_path / "b")) == ["m.onnx", "m.onnx.data"]
            assert numbers_of(tmp_path / "b" / "m.onnx") == OWN


@pytest.mark.parametrize("location", ["m.onnx", "sub/w.bin", ".git/hooks/pre-commit"])
def test_the_source_does_not_say_which_files_a_copy_has(location: str, tmp_path: Path) -> None:
    source = save_external(MADE, tmp_path / "a" / "n.onnx", location)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sub").symlink_to("../elsewhere")
    with open_model(source) as opened:
        copy_model(opened, tmp_path / "b" / "m.onnx")
    assert sorted(content(tmp_path / "b")) == ["m.onnx", "m.onnx.data"]
    assert content(tmp_path / "elsewhere") == {}
    assert numbers_of(tmp_path / "b" / "m.onnx") == OWN


def test_a_copy_has_the_form_that_was_asked_for(source: Path, tmp_path: Path) -> None:
    inline = tmp_path / "inline.onnx"
    inline.write_bytes(MADE.SerializeToString())
    with open_model(inline) as opened, pytest.raises(RequestError, match="has no data file"):
        copy_model(opened, tmp_path / "shared.onnx", share_data=True)
    with open_model(inline) as opened:
        copy_model(opened, tmp_path / "m.onnx", external_data=True)
    assert numbers_of(tmp_path / "m.onnx") == OWN
    assert (tmp_path / "m.onnx.data").is_file()
    with open_model(source) as opened:
        copy_model(opened, tmp_path / "n.onnx", external_data=False)
        copy_model(opened, tmp_path / "s.onnx", share_data=True)
        (tmp_path / "b").mkdir()
        with pytest.raises(RequestError, match="cannot be shared with a model in"):
            copy_model(opened, tmp_path / "b" / "s.onnx", share_data=True)
    assert numbers_of(tmp_path / "n.onnx") == numbers_of(tmp_path / "s.onnx") == OWN
    assert not (tmp_path / "n.onnx.data").exists()
    assert not (tmp_path / "s.onnx.data").exists()


def test_a_copy_in_the_same_folder_shares_the_data(source: Path) -> None:
    before = content(source.parent)
    with open_model(source) as opened:
        copy_model(opened, source.with_name("n.onnx"))
        copy_model(opened, source)
    assert content(source.parent) == before | {"n.onnx": before["m.onnx"]}


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
