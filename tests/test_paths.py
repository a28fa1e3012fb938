"""Which paths can be used."""

import os
from pathlib import Path

import pytest

import bnfold
from bnfold.paths import as_path, is_text


def test_a_path_is_what_the_system_may_be_asked_about() -> None:
    assert as_path("a/b.onnx") == as_path(Path("a/b.onnx")) == Path("a/b.onnx")
    for name in ("", "a\0b"):
        with pytest.raises(bnfold.RequestError, match="is no file's name"):
            as_path(name)


@pytest.mark.parametrize("name", ["", "a\0b.onnx"])
def test_the_python_interface_refuses_what_is_no_name(name: str, tmp_path: Path) -> None:
    for call in (
        lambda: bnfold.fold_file(name),
        lambda: bnfold.fold_file(tmp_path / "a.onnx", name),
        lambda: bnfold.verify(name, tmp_path / "a.onnx"),
        lambda: bnfold.verify(tmp_path / "a.onnx", name),
    ):
        with pytest.raises(bnfold.RequestError, match="is no file's name"):
            call()


@pytest.mark.skipif(os.name != "posix", reason="where names are bytes")
def test_what_is_text() -> None:
    assert is_text("ä.onnx")
    assert not is_text(Path(os.fsdecode(b"\xff.onnx")))
