"""Temporary folders."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.processes.cleanup import removed_if_killed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that is gone in the end, also if this process is killed.

    Raises:
        RequestError: There is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="bnfold-")
    except OSError as error:
        why = error.strerror or error
        raise RequestError(f"a temporary folder cannot be made: {why}") from error
    with folder as name, removed_if_killed(Path(name)):
        yield Path(name)
