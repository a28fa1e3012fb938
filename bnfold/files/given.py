"""Models as callers of the Python interface give them: paths, or messages in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from bnfold.errors import ModelError
from bnfold.files.atomic import os_errors_as_requests
from bnfold.files.opened import from_proto
from bnfold.files.references import Reference, is_external
from bnfold.files.save import LARGEST_FILE, save_model
from bnfold.files.scratch import scratch_folder
from bnfold.files.walk import tensors
from bnfold.paths import as_path, errors_calling

Given = str | os.PathLike[str] | onnx.ModelProto
"""A path, or a model in memory."""


def model_or_path(given: Given) -> onnx.ModelProto | Path:
    """Return a model in memory itself, and a path as one that the system may be asked about.

    Raises:
        RequestError: The path is empty or contains a NUL.
        TypeError: It is something else.
    """
    if isinstance(given, onnx.ModelProto):
        return given
    if isinstance(given, str | os.PathLike):
        return as_path(given)
    raise TypeError(f"a model is given as an onnx.ModelProto or a path, not {type(given).__name__}")


@contextmanager
def as_file(model: onnx.ModelProto, called: str) -> Iterator[Path]:
    """Give a model in memory as a file in a folder of its own, which is gone in the end.

    Raises:
        ModelError: Its numbers are not all in memory, or no file could hold it; it is `called` so.
        RequestError: The file cannot be written.
    """
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        with errors_calling({str(path): called}):
            _require_numbers(model)
            _write(model, path)
            yield path


def _require_numbers(model: onnx.ModelProto) -> None:
    for tensor in tensors(model):
        if is_external(tensor):
            raise ModelError(
                f"the numbers of tensor {tensor.name!r} are in the data file "
                f"{Reference.of(tensor).location!r}, and a model in memory is in no folder: give "
                "its path, or load it with its data, as onnx.load does"
            )


def _write(model: onnx.ModelProto, path: Path) -> None:
    """Write a model as protobuf does, or, of more than 2 GB, with its numbers beside it.

    Where protobuf can do it, it shall: verification compares what it wrote, and is not to depend on
    what else writes models here.
    """
    try:
        whole = model.SerializeToString()
    except EncodeError:
        whole = None
    if whole is not None and len(whole) <= LARGEST_FILE:
        with os_errors_as_requests(path):
            path.write_bytes(whole)
        return
    with from_proto(model) as held:
        save_model(held, held.proto, {}, path)
