"""Folders for what is needed for a while."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnfold.processes.cleanup import removed_if_killed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that is gone in the end, also if this process is killed."""
    with tempfile.TemporaryDirectory(prefix="bnfold-") as name, removed_if_killed(Path(name)):
        yield Path(name)
