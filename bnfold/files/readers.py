"""Which models have their numbers in a data file, as far as the folders around it tell.

A model's data lies in its own folder or below it. So who may read a data file is a model in the
same folder, or in one above it.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from onnx import ModelProto

from bnfold.errors import ModelError
from bnfold.files.references import Reference, is_external
from bnfold.files.skeleton import read_skeleton
from bnfold.files.stores import FileStore, open_regular
from bnfold.files.walk import tensors
from bnfold.paths import real_path

ABOVE: Final = 3
"""Folders above the data file's that are looked into."""

_SUFFIXES: Final = frozenset({".onnx", ".pb", ".model"})
"""How models are called, unless without a suffix; other files are not opened."""

_BLOCK: Final = 1 << 20


def reads(model: Path, data: Path) -> bool:
    """Whether the file `model` is a model that has numbers in the file `data`.

    Of a model that cannot be understood, as one of a newer version, it is enough that it has the
    data file's name in it somewhere, if it is called like a model.
    """
    try:
        with closing(FileStore(model, open_regular(model))) as store:
            try:
                skeleton = read_skeleton(store)
            except ModelError:
                if model.suffix.lower() not in _SUFFIXES:
                    return False
                return _mentions(store, os.fsencode(data.name))
        locations = _locations(skeleton)
        return any(real_path(model.parent / location) == real_path(data) for location in locations)
    except (ModelError, OSError, ValueError):
        return False  # what is no sane model is read by nobody


def data_files(model: Path) -> set[str]:
    """Return the locations of the data files of a model; none of what is no model or not there."""
    try:
        with closing(FileStore(model, open_regular(model))) as store:
            return _locations(read_skeleton(store))
    except (ModelError, OSError, ValueError):
        return set()


def _locations(skeleton: ModelProto) -> set[str]:
    references = [Reference.of(tensor) for tensor in tensors(skeleton) if is_external(tensor)]
    return {found.location for found in references if not found.private}


def readers(data: Path, *, but: Path) -> Iterator[Path]:
    """Yield the models, other than `but`, that have numbers in the file `data`."""
    folder = data.absolute().parent
    for around in (folder, *folder.parents[:ABOVE]):
        for path in _models(around, but.suffix.lower()):
            if path != but.absolute() and reads(path, data):
                yield path


def may_be_model(name: str) -> bool:
    """Whether a file is called as models are."""
    return Path(name).suffix.lower() in {*_SUFFIXES, ""}


def _models(folder: Path, suffix: str) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file()]
    except OSError:
        return []
    return sorted(p for p in files if may_be_model(p.name) or p.suffix.lower() == suffix)


def _mentions(store: FileStore, name: bytes) -> bool:
    """Whether a file has these bytes in it."""
    for begin in range(0, store.size, _BLOCK):
        length = min(_BLOCK + len(name) - 1, store.size - begin)
        if name in bytes(store.read(begin, length)):
            return True
    return False
