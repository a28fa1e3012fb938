"""Models in object stores: copies of them with their data files."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bnfold.errors import RequestError
from bnfold.files.leftovers import data_file
from bnfold.files.objects import Held, files_in, found
from bnfold.files.opened import open_model
from bnfold.files.readers import ABOVE, may_be_model, reads
from bnfold.files.remote import called, copied, copies_in, glimpsed, url_of
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import frozen

_LOOKED_INTO: Final = 32
"""Models around a data file that are asked whether they read it; each takes a few requests."""


@contextmanager
def temporary_folder(*models: object) -> Iterator[Path]:
    """Give a folder for copies, which is gone in the end, also if this process is killed.

    If there are `models`, and none is a remote path, the folder is never made.
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
        around: If a data file stands under that name, the models that may read it, by their URLs.
    """

    name: str
    left: tuple[str, ...] = ()
    around: Mapping[str, Held] | None = None

    @classmethod
    def of(cls, target: Path, folder: Path) -> "Place":
        """Look at the model that stands in the store, with a copy in a new folder.

        Raises:
            RequestError: The store refuses.
        """
        names = [target.name, f"{target.name}.1"]
        try:
            with local_copy(target, folder, lambda _: None) as copy:
                taken = [name for name in names if reads(copy, data_file(copy.with_name(name)))]
        except RequestError:
            taken = []  # there is none, or none that could be read
        left = tuple(data_file(Path(name)).name for name in taken)
        url = called(target)
        beside = url.rpartition("/")[0]
        more = (f"{target.name}.{number}" for number in itertools.count(2))
        for name in itertools.chain(names, more):
            if name in taken:
                continue
            if found(f"{beside}/{data_file(Path(name)).name}") is None:
                break
            if (around := _models_around(url)) is not None:
                return cls(name, left, around)
        return cls(name, left)

    @contextmanager
    def within(self, url: str, folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
        """Give where to write the model here, and the names in errors of the files around it.

        A data file of another model is refused there as it is where a folder of this machine is
        written to, for the models around it are there, as copies that fill when they are looked
        into.
        """
        around = self.around or {}
        own = url.rpartition("/")[0]
        top = min((each.rpartition("/")[0] for each in (url, *around)), key=len)
        aim = folder / own[len(top) + 1 :] / self.name
        aim.parent.mkdir(parents=True)
        if self.around is not None:
            data_file(aim).touch()
        copies = {folder / each[len(top) + 1 :]: (each, told) for each, told in around.items()}
        with glimpsed(copies):
            yield aim, {str(path): each for path, (each, _) in copies.items()}


def _models_around(target: str) -> dict[str, Held] | None:
    """Return the models in the folder of a URL and in those above it, but for what it names.

    Returns:
        What the store says of them, by their URLs; None for too many, or if it does not list them.
    """
    scheme, _, path = target.partition("://")
    *folders, below = path.split("/")
    models: dict[str, Held] = {}
    for _ in range(ABOVE + 1):
        if not folders or folders[-1] in {"", ".."}:
            break
        url = f"{scheme}://{'/'.join(folders)}"
        try:
            names = files_in(url)
        except RequestError:
            return None
        names.pop(below, None)
        models |= {f"{url}/{name}": known for name, known in names.items() if may_be_model(name)}
        if len(models) > _LOOKED_INTO:
            return None
        below = folders.pop()
    return models


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
