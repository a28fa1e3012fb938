"""Inputs that are given as arrays: checked, told as plain data, and handed over in files.

ONNX Runtime runs in another process, to which JSON is sent; arrays go there as .npy files. They are
numpy's own types only: no .npy holds others, and ONNX Runtime takes no others from Python.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import RequestError
from bnfold.files.atomic import os_errors_as_requests

Value = NDArray[Any] | list[NDArray[Any]]
"""An input: an array, or those of a sequence."""

Feeds = tuple[Mapping[str, Value], ...]

KINDS = "biufcU"
"""Of numpy's own types: bool, integers, floating point, complex, text."""

_WANTED = "inputs takes a path, a mapping of arrays by the inputs' names, or a list of such"


def as_feeds(given: object) -> Feeds:
    """Return inputs as feeds, one for each run.

    Args:
        given: A mapping of arrays by the inputs' names, or a list of such. What numpy makes an
            array of, as of a tensor of PyTorch, is one; a list of arrays is a sequence.

    Raises:
        TypeError: It is something else.
        RequestError: There is none, or an array is of a type that ONNX Runtime cannot be fed.
    """
    several = [given] if isinstance(given, Mapping) else given
    if not isinstance(several, list | tuple):
        raise TypeError(f"{_WANTED}, not {_kind(given)}")
    if not several:
        raise RequestError("inputs is an empty list: it is None for inputs that are made up")
    return tuple(map(_as_feed, several))


def _as_feed(given: object) -> dict[str, Value]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{_WANTED}, not a list that holds {_kind(given)}")
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"inputs are named by strings, not {_kind(name)}")
    return {name: _as_value(name, value) for name, value in given.items()}


def _as_value(name: str, value: object) -> Value:
    if isinstance(value, list | tuple):
        return [_as_array(name, item) for item in value]
    return _as_array(name, value)


def _as_array(name: str, value: object) -> NDArray[Any]:
    if not hasattr(value, "__array__"):
        raise TypeError(
            f"inputs[{name!r}] takes an array, or a list of arrays for a sequence, not "
            f"{_kind(value)}: numpy.asarray makes one"
        )
    array = np.asarray(value)
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind not in KINDS:
        raise RequestError(
            f"inputs[{name!r}] is of {array.dtype}, which ONNX Runtime cannot be fed from Python"
        )
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _kind(value: object) -> str:
    return type(value).__name__


def described(feeds: Feeds) -> list[dict[str, Any]]:
    """Return what tells feeds apart, as plain JSON-able data: dtypes, shapes and digests."""
    return _each(feeds, _description)


def _description(array: NDArray[Any]) -> dict[str, Any]:
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}


def write(feeds: Feeds, folder: Path) -> list[dict[str, Any]]:
    """Write arrays into a folder; return the names of the files, each in the place of its array.

    Raises:
        RequestError: They cannot be written.
    """
    files = (folder / f"input_{number}.npy" for number in count())

    def written(array: NDArray[Any]) -> str:
        path = next(files)
        with os_errors_as_requests(path):
            np.save(path, array, allow_pickle=False)
        return str(path)

    return _each(feeds, written)


def read(files: Sequence[Mapping[str, Any]]) -> Feeds:
    """Return the arrays that `write` wrote."""
    return tuple(_each(files, partial(np.load, allow_pickle=False)))


def _each(feeds: Iterable[Mapping[str, Any]], told: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return feeds with something else in the place of every array."""
    return [
        {
            name: [*map(told, value)] if isinstance(value, list) else told(value)
            for name, value in feed.items()
        }
        for feed in feeds
    ]
