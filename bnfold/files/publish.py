"""Putting finished files in their places, in an order that a kill at any moment cannot harm.

One file is replaced by one `rename`. A model and its data file are two, and a reader must never
find the one with the other's predecessor. So no data file that the old model reads is replaced:
the new one gets a free name, then a model that refers to this name replaces the old one, then the
old data goes. A journal tells the next run what may be left if this one is killed (`leftovers`).

The free name is `<model>.data` if that is not the old model's. If it is, the new data is called
`<model>.1.data`, and the same is done once more with a copy of it: now `<model>.data` is free. A
file with two names would need no copy, but onnx refuses to read one.

One process at a time does so in a folder (`folder_lock`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.files.assemble import DataLayout
from bnfold.files.atomic import Staged, os_errors_as_requests, real_target
from bnfold.files.leftovers import (
    data_file,
    data_files,
    folder_lock,
    free_data_file,
    journal,
    tidy,
)
from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Piece, Slice
from bnfold.files.readers import readers, reads
from bnfold.files.stores import FileStore, open_regular
from bnfold.files.transfer import write_pieces
from bnfold.paths import is_text, real_path
from bnfold.processes.cleanup import removed_if_killed


def require_apart(opened: OpenedModel, real: Path, target: Path) -> None:
    """Raise `RequestError` if the target is one of the source's files, or in a shared cache.

    Args:
        opened: The source.
        real: The file to be written, symbolic links followed.
        target: The file as the user named it.
    """
    if opened.data is not None and _is_one_of(real, opened.data.stores):
        raise RequestError(f"{target}: this is a data file of the model")
    if real.parent.name == "blobs" and (real.parent.parent / "snapshots").is_dir():
        raise RequestError(f"{target}: files in a Hugging Face cache are not to be changed")


class Pair:
    """A data file on its way, and the model that refers to it, for whatever name it gets.

    Args:
        lay_out: Makes the pieces of both files, given the data file's name.
        numbers: The data file, which is written.
    """

    def __init__(self, lay_out: Callable[[str], DataLayout], numbers: Staged) -> None:
        self._lay_out = lay_out
        self.numbers = numbers

    def write_model(self, model: Staged, name: str) -> None:
        """Write the model that refers to the data file under a name."""
        write_pieces(self._lay_out(name).model, model.descriptor)

    def publish(self, model: Staged) -> None:
        """Let both take their places; `model` is not written yet."""
        with folder_lock(model.target.parent):
            self._take_places(model)
        if self.numbers.target != data_file(model.target):
            with suppress(OSError):  # it is as good under the name that it has
                self._take_usual_name(model)

    def _take_places(self, model: Staged) -> None:
        real = model.target
        usual = data_file(real)
        in_use = usual.exists() and reads(real, usual)
        self.numbers.target = free_data_file(real) if in_use else usual
        self.write_model(model, self.numbers.target.name)
        model.sync()
        status = os.fstat(self.numbers.descriptor)
        old = [path for path in data_files(real) if reads(real, path)]
        with journal(real, status, self.numbers.target, old):
            self.numbers.publish()
            model.publish()

    def _take_usual_name(self, model: Staged) -> None:
        """Do it once more with a copy of the data, if nobody has taken the name meanwhile."""
        real, place = model.target, self.numbers.target
        with (
            Staged.create(data_file(real), like=place) as numbers,
            Staged.create(real) as renamed,
        ):
            with closing(FileStore(place, open_regular(place))) as store:
                write_pieces([Slice(store, 0, store.size)], numbers.descriptor)
            numbers.sync()
            with folder_lock(real.parent):
                if model.is_published() and not numbers.target.exists():
                    Pair(self._lay_out, numbers)._take_places(renamed)  # noqa: SLF001 - one of us


class StagedModel:
    """A model that is written and not yet in its place, in one file or with a data file beside it.

    Args:
        opened: The source.
        model: The model; with a data file it is written when that has its name.
        pair: Its data file, and the model as long as the data file has its hidden name.
        whole: Whether its one file holds all of its numbers.
    """

    def __init__(
        self,
        opened: OpenedModel,
        model: Staged,
        pair: tuple[Pair, Staged] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.whole = whole
        self._opened = opened
        self._model = model
        self._pair = pair
        self._watch: ExitStack | None = None  # from when on the files have names

    @property
    def path(self) -> Path:
        """Where the model can be read before it is published.

        To ask for it gives the files hidden names, and has them removed if this process is killed.
        """
        files = [self._model]
        if self._pair is not None:
            pair, candidate = self._pair
            files = [pair.numbers, candidate]
        if self._watch is None:
            if self._pair is not None:
                pair.write_model(candidate, pair.numbers.hidden.name)
            self._watch = ExitStack()
            for staged in files:
                staged.take_hidden_name()
            self._watch.enter_context(removed_if_killed(*(staged.hidden for staged in files)))
        return files[-1].hidden

    def publish(self) -> None:
        """Put the files in their places.

        Raises:
            ModelError: The source changed while it was being read.
        """
        self.close()
        first = self._model if self._pair is None else self._pair[0].numbers
        first.sync()
        self._opened.require_unchanged()
        if self._pair is not None:
            self._pair[0].publish(self._model)
            return
        with folder_lock(self._model.target.parent):
            self._model.publish()

    def close(self) -> None:
        """Stop watching for this process being killed."""
        if self._watch is not None:
            self._watch.close()


@contextmanager
def staged_alone(
    opened: OpenedModel, pieces: Sequence[Piece], real: Path, *, whole: bool = True
) -> Iterator[StagedModel]:
    """Write a model without a data file of its own, to be published as `real`.

    It is `whole` unless it refers to data files of the source.
    """
    with Staged.create(real) as model, closing(StagedModel(opened, model, whole=whole)) as staged:
        write_pieces(pieces, model.descriptor, threads=opened.for_threads)
        yield staged


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file; after any failure what was there is untouched.

    Raises:
        RequestError: It cannot be written.
    """
    real = real_target(path)
    tidy(real.parent)
    with os_errors_as_requests(path), Staged.create(real) as staged:
        write_pieces([data], staged.descriptor)
        staged.sync()
        staged.publish()


@contextmanager
def staged_with_data(
    opened: OpenedModel,
    lay_out: Callable[[str], DataLayout],
    target: Path,
    real: Path,
    *,
    sharing: bool,
) -> Iterator[StagedModel]:
    """Write a model and its data file, to be published as `real` and `<real>.data`.

    No data file is written if no tensor goes into it.

    Args:
        opened: The source.
        lay_out: Makes the pieces of both files, given the data file's name.
        target: The model's file as it was asked for.
        real: The model's file, links followed.
        sharing: Whether the new model will refer to the source's data files.
    """
    data = data_file(real)
    if not is_text(data.absolute()):
        raise RequestError(f"{target}: a model with a data file needs a path in UTF-8")
    layout = lay_out(data.name)
    if not layout.pieces:
        with staged_alone(opened, layout.model, real, whole=not sharing) as staged:
            yield staged
        return
    if real_path(real.parent) != real_path(target.parent):
        raise RequestError(f"{target}: a data file cannot be put beside a symbolic link's target")
    _require_replaceable(opened, data, real, sharing=sharing)
    with (
        Staged.create(data, like=data if data.exists() else real) as numbers,
        Staged.create(real) as candidate,
        Staged.create(real) as model,
        closing(StagedModel(opened, model, (Pair(lay_out, numbers), candidate))) as staged,
    ):
        write_pieces(layout.pieces, numbers.descriptor, threads=opened.for_threads)
        yield staged


def _require_replaceable(opened: OpenedModel, data: Path, real: Path, *, sharing: bool) -> None:
    """Raise `RequestError` if to write the data file would destroy data of another model."""
    if data.is_symlink() or (data.exists() and not data.is_file()):
        raise RequestError(f"{data}: this is not a regular file")
    if not data.exists():
        return
    if not os.access(data, os.W_OK):
        raise RequestError(f"{data}: the file is write-protected")
    if opened.file is not None and _is_one_of(data, [opened.file]):
        raise RequestError(f"{data}: this is the model that is being read")
    if opened.data is not None and _is_one_of(data, opened.data.stores):
        in_place = opened.file is not None and _is_one_of(real, [opened.file])
        if sharing or not in_place:
            raise RequestError(f"{data}: the model that is being read has its data in this file")
    for reader in readers(data, but=real):
        name = reader.name if reader.parent == data.absolute().parent else reader
        raise RequestError(f"{data}: {name} has its data in this file")


def _is_one_of(path: Path, stores: Iterable[FileStore]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return any(os.path.samestat(status, store.status) for store in stores)
