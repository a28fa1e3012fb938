"""Paths, which are bytes to the system, and text to most of what names them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bnfold.errors import ModelError, RequestError

FOLDED = ".folded"
"""Ends the stem of a folded model's default name."""


def as_path(given: str | os.PathLike[str]) -> Path:
    """Return a path that the system may be asked about.

    Raises:
        RequestError: It is empty or contains a NUL, as no file's name does.
        TypeError: It is no path.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"a path is a str or a pathlib.Path, not {type(given).__name__}")
    text = os.fspath(given)
    if not text or "\0" in text:
        raise RequestError(f"{text!r} is no file's name")
    return Path(text)


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; where they go in a circle, as far as they do.

    `Path.resolve` raises a RuntimeError of a circle, until Python 3.13.
    """
    return Path(os.path.realpath(path))


def default_target(source: Path) -> Path:
    """Return where the folded model goes by default: `net.folded.onnx` for `net.onnx`.

    Raises:
        RequestError: `source` is a directory.
    """
    if not source.name or source.is_dir():
        raise RequestError(f"{source}: this is a folder, not a model")
    return source.with_name(f"{source.stem}{FOLDED}{source.suffix or '.onnx'}")


def calling(text: str, names: Mapping[str, str]) -> str:
    """Return a text in which files are called otherwise, as the user calls them."""
    for here, name in names.items():
        text = text.replace(here, name)
    return text


@contextmanager
def errors_calling(names: Mapping[str, str]) -> Iterator[None]:
    """Call files in the texts of errors otherwise, as the user calls them."""
    try:
        yield
    except (ModelError, RequestError) as error:
        raise type(error)(calling(str(error), names)) from error


def is_text(path: Path | str) -> bool:
    """Return whether a path is UTF-8, as it must be inside of a model and for ONNX Runtime."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
