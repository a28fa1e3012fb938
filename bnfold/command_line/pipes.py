"""A model that comes through a pipe: it lies in a temporary folder meanwhile."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import Final

from bnfold.command_line.sources import PIPE, refused_pipe
from bnfold.errors import RequestError
from bnfold.files.remote import called
from bnfold.files.scratch import scratch_folder
from bnfold.paths import errors_calling

STDIN: Final = "standard input"


def spooled(folder: Path) -> Path:
    """Write what comes from standard input into a file in a folder."""
    path = folder / "stdin.onnx"
    with path.open("wb") as file:
        copyfileobj(sys.stdin.buffer, file)
    return path


@contextmanager
def as_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give paths of which none is a pipe; errors call what came through one standard input.

    Raises:
        RequestError: One is a pipe with a name, more than one is standard input, or that is closed.
    """
    for refused in filter(None, map(refused_pipe, paths)):
        raise RequestError(refused)
    if PIPE not in paths:
        yield [*paths]
        return
    if sys.stdin is None:
        raise RequestError(f"{STDIN} is closed")
    if paths.count(PIPE) > 1:
        raise RequestError(f"{STDIN} is one model; it cannot be both")
    with scratch_folder() as folder:
        copy = spooled(folder)
        with errors_calling({str(copy): STDIN}):
            yield [copy if path == PIPE else path for path in paths]


def spoken(path: Path) -> str:
    """Return what to call a model in a sentence: its URL, its path or the pipe."""
    return STDIN if path == PIPE else called(path)
