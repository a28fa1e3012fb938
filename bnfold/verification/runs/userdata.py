"""The user's own inputs: .npz, .npy, ONNX test data folders, Polygraphy's JSON.

Nothing here reads a pickle: a file from a stranger must not be able to run code. Tensors that
refer to other files are refused for the same reason.
"""

import base64
import binascii
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from bnfold.errors import RequestError, first_sentence
from bnfold.files.stores import open_regular
from bnfold.verification.arrays import KINDS, Feeds
from bnfold.verification.comparison import Outputs
from bnfold.verification.runs.inputs import Feed, InputSpec, shape_text

UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, DecodeError, binascii.Error, zipfile.BadZipFile,
    MemoryError, RecursionError,
)  # fmt: skip


def load_inputs(
    path: Path, specs: Sequence[InputSpec], outputs: Sequence[str]
) -> tuple[list[Feed], list[Outputs]]:
    """Read feeds from a file or folder, and the outputs that are expected where there are any.

    Raises:
        RequestError: The data cannot be read or does not fit the model.
    """
    expected: list[Outputs] = []
    try:
        if path.is_dir():
            feeds, expected = folder_feeds(path, specs), _expected(path, outputs)
        elif path.suffix == ".npz":
            with opened(path) as file, np.load(file, allow_pickle=False) as archive:
                feeds = [dict(archive)]
        elif path.suffix == ".npy":
            with opened(path) as file:
                feeds = [{_only(specs, path): np.load(file, allow_pickle=False)}]
        elif path.suffix == ".json":
            feeds = list(polygraphy_feeds(path))
        else:
            raise RequestError(f"{path}: inputs are .npz, .npy, .json or a folder of .pb files")
    except UNREADABLE as error:
        raise RequestError(f"{path}: cannot be read as inputs: {why(error)}") from error
    if not feeds:
        raise RequestError(f"{path}: holds no inputs")
    return [fitted(feed, specs, path) for feed in feeds], expected


def opened(path: Path) -> BinaryIO:
    """Open a regular file; a pipe would be waited for."""
    return os.fdopen(open_regular(path), "rb")


def _only(specs: Sequence[InputSpec], path: Path) -> str:
    if len(specs) != 1:
        raise RequestError(f"{path}: one array cannot feed the model's {len(specs)} inputs")
    return specs[0].name


def folder_feeds(path: Path, specs: Sequence[InputSpec]) -> list[Feed]:
    """Read the feeds of a folder of `input_*.pb`, or of `test_data_set_*` folders.

    Raises:
        RequestError: It has none, or more inputs than the model.
    """
    names = [spec.name for spec in specs]
    sequences = {spec.name for spec in specs if spec.sequence}
    feeds: list[Feed] = [_tensors(folder, "input", names, sequences) for folder in _data_sets(path)]
    if names and not any(feeds):
        raise RequestError(
            f"{path}: this folder holds no input_*.pb files, nor test_data_set_* folders with such"
        )
    return feeds


def _expected(path: Path, outputs: Sequence[str]) -> list[Outputs]:
    return [_tensors(folder, "output", outputs, set()) for folder in _data_sets(path)]


def _data_sets(path: Path) -> list[Path]:
    return sorted(path.glob("test_data_set_*")) or [path]


def _tensors(folder: Path, kind: str, names: Sequence[str], sequences: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda file: int(file.stem.split("_")[-1]))
    for position, file in enumerate(files):
        if position >= len(names) and kind == "input":
            raise RequestError(f"{folder}: has more inputs than the model")
        with opened(file) as stream:
            data = stream.read()
        if position < len(names) and names[position] in sequences:
            sequence = onnx.SequenceProto.FromString(data)
            values[names[position]] = [_array(tensor, file) for tensor in sequence.tensor_values]
            continue
        tensor = onnx.TensorProto.FromString(data)
        # The files carry names, but exporters left old ones in them: the position decides then.
        name = tensor.name if tensor.name in names else names[position]
        values[name] = _array(tensor, file)
    return values


def _array(tensor: onnx.TensorProto, file: Path) -> NDArray[Any]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise RequestError(f"{file}: refers to another file")
    return onnx.numpy_helper.to_array(tensor)


def polygraphy_feeds(path: Path) -> Iterator[Feed]:
    """Yield the feeds of the list that `polygraphy run --save-inputs` writes."""
    with opened(path) as file:
        data = json.load(file)
    if not isinstance(data, list):
        raise RequestError("Polygraphy's inputs are a list of feeds")
    for feed in data:
        yield {name: _encoded(value) for name, value in feed.items()}


def _encoded(value: object) -> NDArray[Any]:
    if not isinstance(value, Mapping):
        return np.asarray(value)
    inner = value["array"] if "array" in value else value["values"]
    if isinstance(inner, Mapping):
        return _encoded(inner)
    array: NDArray[Any] = np.load(
        io.BytesIO(base64.b64decode(inner, validate=True)), allow_pickle=False
    )
    return array


def fed_arrays(feeds: Feeds, specs: Sequence[InputSpec]) -> list[Feed]:
    """Return arrays that the user gave by the inputs' names.

    Raises:
        RequestError: One is missing, of another type or shape, or for no input.
    """
    by_name = {spec.name: spec for spec in specs}
    for name, value in (item for feed in feeds for item in feed.items()):
        if name not in by_name:
            raise RequestError(f"the model has no input {name!r}; it has {', '.join(by_name)}")
        if isinstance(value, list) != by_name[name].sequence:
            told = "a list of arrays" if by_name[name].sequence else "one array, and no list"
            raise RequestError(f"{_GIVEN}: the model takes {told} for {name!r}")
    return [fitted(feed, specs, _GIVEN) for feed in feeds]


_GIVEN = "the inputs"
"""The name, in messages, of arrays that are in no file."""


def fitted(feed: Feed, specs: Sequence[InputSpec], where: Path | str) -> Feed:
    """Return the model's inputs out of `feed`; unnamed arrays are taken by position.

    Raises:
        RequestError: One is missing, or of another type or shape; the text says `where`.
    """
    names = [spec.name for spec in specs]
    if all(key.startswith("arr_") for key in feed) and not set(feed) & set(names):
        feed = dict(zip(names, feed.values(), strict=False))
    missing = [name for name in names if name not in feed]
    if missing:
        raise RequestError(f"{where}: lacks the input {missing[0]!r}")
    for spec in specs:
        _check_dtype(spec, feed[spec.name], where)
        _check_shape(spec, feed[spec.name], where)
    return {name: feed[name] for name in names}


def why(error: Exception) -> str:
    """Say in a few words why a file cannot be read."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for what it declares"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "allow_pickle" in str(error):  # numpy's advice is to do what must not be done
        return "it holds Python objects, and those are never unpickled"
    return (
        error.strerror if isinstance(error, OSError) and error.strerror else first_sentence(error)
    )


def _check_shape(spec: InputSpec, value: object, where: Path | str) -> None:
    if spec.sequence or spec.dims is None:
        return
    shape = np.shape(np.asarray(value))
    fits = len(shape) == len(spec.dims) and all(
        size == dim or not isinstance(dim, int) for size, dim in zip(shape, spec.dims, strict=False)
    )
    if not fits:
        raise RequestError(
            f"{where}: {spec.name!r} is of shape {shape_text(shape)}, where the model takes "
            f"{shape_text(spec.dims)}"
        )


def _check_dtype(spec: InputSpec, value: object, where: Path | str) -> None:
    if spec.sequence or spec.elem_type == onnx.TensorProto.STRING:
        return
    wanted = onnx.helper.tensor_dtype_to_np_dtype(spec.elem_type)
    if np.asarray(value).dtype != wanted:
        never = "" if wanted.kind in KINDS else ", which ONNX Runtime cannot be fed from Python"
        raise RequestError(
            f"{where}: {spec.name!r} is {np.asarray(value).dtype}, where the model takes {wanted}"
            f"{never}"
        )
