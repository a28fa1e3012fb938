"""Models in object stores: copies of them with their data files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.files.leftovers import data_file
from bnfold.files.opened import open_model
from bnfold.files.readers import reads
from bnfold.files.remote import copied, copies_in, url_of
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import frozen


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


@frozen
class Place:
    """Where a model goes that is to be put into a store.

    Attributes:
        name: What to call it here, so that its data file, which keeps its name, replaces none that
            the model reads that stands in the store: who has read that one would find other data.
        left: The data files that bnfold has given to the model in the store.
    """

    name: str
    left: tuple[str, ...] = ()

    @classmethod
    def of(cls, target: Path, folder: Path) -> "Place":
        """Look at the model that stands in the store, with a copy in a new folder."""
        names = [target.name, f"{target.name}.1"]
        try:
            with local_copy(target, folder, lambda _: None) as copy:
                taken = [name for name in names if reads(copy, data_file(copy.with_name(name)))]
        except RequestError:
            taken = []  # there is none, or none that could be read
        free = next((name for name in names if name not in taken), f"{target.name}.2")
        return cls(free, tuple(data_file(Path(name)).name for name in taken))


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
