"""Models in object stores: copies of them with their data files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bnfold.files.opened import open_model
from bnfold.files.remote import copied, copies_in, url_of
from bnfold.files.scratch import scratch_folder


@contextmanager
def temporary_folder(*models: object) -> Iterator[Path]:
    """Give a folder for copies, which is gone in the end, also if this process is killed.

    Args:
        models: If there are some and none is a remote path, the folder is never made.
    """
    if models and not any(isinstance(model, Path) and url_of(model) for model in models):
        yield Path()
        return
    with scratch_folder() as folder:
        yield folder


@contextmanager
def local_copy(model: Path, folder: Path, step: Callable[[str], None]) -> Iterator[Path]:
    """Give a copy of a model that is in a store, in a new folder; any other model itself."""
    url = url_of(model)
    if url is None:
        yield model
        return
    step(f"fetching {url}")
    folder.mkdir()
    with copied(url, folder) as copy:
        yield copy


def fetch_whole(copy: Path) -> None:
    """Fetch all that a copy of a model, and those of its data files, lack: others will open them.

    What is no copy stays as it is.

    Raises:
        ModelError: It is no model that can be read.
        RequestError: The store refuses.
    """
    if not copies_in(copy.parent):
        return
    with open_model(copy):  # which begins the copies of its data files
        for remote in copies_in(copy.parent):
            remote.complete()
