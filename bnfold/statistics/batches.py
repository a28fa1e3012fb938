"""Reading data batch by batch: a long array is never in memory as a whole."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.verification.runs.inputs import Feed, InputSpec
from bnfold.verification.runs.userdata import (
    UNREADABLE,
    fitted,
    folder_feeds,
    opened,
    polygraphy_feeds,
    why,
)  # fmt: skip


def read_batches(path: Path, specs: Sequence[InputSpec], size: int | None) -> Iterator[Feed]:
    """Yield the model's inputs, one batch after the other.

    Args:
        path: A .npz or .npy with a batch axis, Polygraphy's JSON, or a folder of such, of
            `input_*.pb` or of `test_data_set_*`.
        specs: The model's inputs.
        size: How many samples a batch has, where an array has more; None for as many as the model
            fixes, or else for a whole array. What is left over in the end is a smaller batch, if
            the model takes it.

    Raises:
        RequestError: The data cannot be read or does not fit the model.
    """
    cut = _cut(specs, size, path)
    for file in _files(path):
        try:
            for batch in _batches(file, specs, cut):
                yield fitted(batch, specs, file)
        except UNREADABLE as error:
            raise RequestError(f"{file}: cannot be read as inputs: {why(error)}") from error


@frozen
class _Cut:
    """How arrays are cut into batches.

    Attributes:
        size: Samples of a batch; None for all there are.
        exactly: Whether the model takes no smaller batch.
    """

    size: int | None
    exactly: bool


def _cut(specs: Sequence[InputSpec], size: int | None, path: Path) -> _Cut:
    firsts = {spec.dims[0] for spec in specs if spec.dims}
    first = next(iter(firsts), None)
    if len(firsts) != 1 or not isinstance(first, int) or first < 1:
        return _Cut(size, exactly=False)
    if size not in (None, first):
        raise RequestError(f"{path}: the model takes batches of {first}, not of {size}")
    return _Cut(first, exactly=True)


def _files(path: Path) -> list[Path]:
    """Return what holds data: the path, or what lies in it."""
    if not path.is_dir():
        return [path]
    within = sorted(path.glob("test_data_set_*")) or sorted(
        file for file in path.iterdir() if file.suffix in (".npz", ".npy", ".json")
    )
    return within or [path]


def _batches(path: Path, specs: Sequence[InputSpec], cut: _Cut) -> Iterator[Feed]:
    if path.is_dir():
        yield from folder_feeds(path, specs)
    elif path.suffix == ".json":
        yield from polygraphy_feeds(path)
    elif path.suffix in (".npz", ".npy"):
        yield from _arrays(path, specs, cut)
    else:
        raise RequestError(
            f"{path}: data are .npz, .npy, .json or a folder of such, or of .pb files"
        )


def _arrays(path: Path, specs: Sequence[InputSpec], cut: _Cut) -> Iterator[Feed]:
    """Yield stretches of the arrays of a file, all of as many samples."""
    names = [spec.name for spec in specs]
    with ExitStack() as stack:
        file = stack.enter_context(opened(path))
        if path.suffix == ".npy":
            if len(names) != 1:
                raise RequestError(f"{path}: one array cannot feed the model's {len(names)} inputs")
            members = {names[0]: _Rows(file)}
        else:
            archive = stack.enter_context(closing(zipfile.ZipFile(file)))
            listed = [name.removesuffix(".npy") for name in archive.namelist()]
            wanted = [name for name in listed if name in names] or listed
            members = {
                name: _Rows(stack.enter_context(archive.open(f"{name}.npy"))) for name in wanted
            }
        lengths = {name: rows.length for name, rows in members.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise RequestError(f"{path}: its arrays have different numbers of samples: {told}")
        left = next(iter(lengths.values()), 0)
        while left >= ((cut.size or 1) if cut.exactly else 1):
            count = min(cut.size or left, left)
            yield {name: rows.take(count) for name, rows in members.items()}
            left -= count


class _Rows:
    """An array in a file, read from its first axis on, so many rows at a time.

    Raises:
        ValueError: It holds Python objects, which are never unpickled, or is cut off.
    """

    def __init__(self, file: IO[bytes]) -> None:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"its .npy format {version} is unknown")
        shape, by_columns, self._dtype = read(file)
        if self._dtype.hasobject:
            raise ValueError("it holds Python objects, and those are never unpickled")
        if not shape:
            raise ValueError("an array has no batch axis")
        if by_columns and len(shape) > 1:
            raise ValueError("an array is in Fortran order; save np.ascontiguousarray of it")
        self.length, self._row = int(shape[0]), shape[1:]
        self._file = file

    def take(self, count: int) -> NDArray[Any]:
        """Return the next rows."""
        wanted = count * int(np.prod(self._row, dtype=np.int64)) * self._dtype.itemsize
        data = bytearray()
        while len(data) < wanted:
            block = self._file.read(wanted - len(data))
            if not block:
                raise ValueError("it is cut off")
            data += block
        return np.frombuffer(data, self._dtype).reshape(count, *self._row)
