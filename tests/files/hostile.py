"""What must hold for any bytes at all, as functions for tests and for the fuzz targets."""

import contextlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from bnfold.errors import BnfoldError
from bnfold.files import materialize, open_model, save_model
from bnfold.files.references import is_external
from bnfold.files.walk import tensors
from bnfold.folding import fold


def refused(error: BnfoldError) -> None:
    """A refusal is one clear line."""
    assert str(error)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 5000


def read_and_write(data: bytes, folder: Path) -> None:
    """A model that can be opened is saved as it was; its tensors are read or refused."""
    path = folder / "m.onnx"
    path.write_bytes(data)
    try:
        opened = open_model(path)
    except BnfoldError as error:
        refused(error)
        return
    with opened:
        for tensor in tensors(opened.proto):
            try:
                opened.read(tensor)
            except BnfoldError as error:
                refused(error)
        parsed = onnx.ModelProto.FromString(data)
        assert [t.name for t in tensors(parsed)] == [t.name for t in tensors(opened.proto)]
        if any(map(is_external, tensors(parsed))):
            return  # only a mutated data reference can make one, and of an empty file
        canonical = parsed.SerializeToString(deterministic=True)
        save_model(opened, opened.proto, {}, folder / "o.onnx")
        saved = onnx.ModelProto.FromString((folder / "o.onnx").read_bytes())
        assert saved.SerializeToString(deterministic=True) == canonical
        made = materialize(opened, opened.proto, {})
        assert made.SerializeToString(deterministic=True) == canonical


def fold_it(data: bytes) -> None:
    """A model is folded or refused."""
    with contextlib.suppress(DecodeError):
        model = onnx.ModelProto.FromString(data)
        before = model.SerializeToString(deterministic=True)
        try:
            fold(model)
        except BnfoldError as error:
            refused(error)
        assert model.SerializeToString(deterministic=True) == before
