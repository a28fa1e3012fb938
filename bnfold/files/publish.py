"""Finished files take their places, in an order in which a kill at any moment does no harm.

One file is replaced by one `rename`. A model and its data file are two, and a reader must never
find the one with the other's predecessor. If there is no data file of that name yet, it comes
first and the model after it. If there is one, the old model may be referring to it, so:

1. the new data appears under an interim name, a hidden one;
2. a model that refers to the interim name replaces the old one;
3. the data gets its final name too, by a hard link that replaces the old data;
4. a model that refers to the final name replaces that of step 2;
5. the interim name goes.

One process at a time does so in a folder (`only_one`). After each step the model and what it refers
to belong together. A killed run may leave the data under its interim name; the next one that writes
the model removes it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.files.assemble import DataLayout
from bnfold.files.atomic import (
    Staged,
    explained,
    publish_in_order,
    real_target,
    replace_by_second_name,
)
from bnfold.files.external import reads
from bnfold.files.leftovers import INTERIM, hidden_name, only_one, remove_abandoned
from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Piece
from bnfold.files.stores import FileStore
from bnfold.files.transfer import write_pieces
from bnfold.paths import is_text
from bnfold.processes.cleanup import removed_if_killed


def require_apart(opened: OpenedModel, real: Path, target: Path) -> None:
    """Raise `RequestError` if writing `real`, which was asked for as `target`, does harm."""
    if opened.data is not None and _is_one_of(real, opened.data.stores):
        raise RequestError(f"{target}: this is a data file of the model")
    if real.parent.name == "blobs" and (real.parent.parent / "snapshots").is_dir():
        raise RequestError(f"{target}: files in a Hugging Face cache are not to be changed")


class StagedModel:
    """A model that is written and not yet in its place, in one file or with a data file beside it.

    Args:
        opened: The source.
        model: The model.
        data: Its data file, and the model as long as the data file has its interim name.
    """

    def __init__(
        self, opened: OpenedModel, model: Staged, data: tuple[Staged, Staged] | None = None
    ) -> None:
        self._opened = opened
        self._model = model
        self._data = data
        self._watch: ExitStack | None = None  # from when on the files have names

    @property
    def path(self) -> Path:
        """Where it can be read for now; it goes from there if this process is killed."""
        files = [self._model] if self._data is None else [*self._data]
        if self._watch is None:
            self._watch = ExitStack()
            for staged in files:
                staged.show()
            self._watch.enter_context(removed_if_killed(*(staged.hidden for staged in files)))
        return files[-1].hidden

    def publish(self) -> None:
        """Let it take its place.

        Raises:
            ModelError: The source changed while it was being read.
        """
        self.close()
        for staged in (*(self._data or ()), self._model):
            staged.settle()
        self._opened.require_unchanged()
        real = self._model.target
        with only_one(real.parent):
            if self._data is None:
                self._model.publish()
            elif self._data[0].target.exists():
                _replace_both(*self._data, self._model)
            else:
                publish_in_order([self._data[0], self._model])
        remove_abandoned(real, INTERIM)

    def close(self) -> None:
        """Say that this process was not killed."""
        if self._watch is not None:
            self._watch.close()


@contextmanager
def staged_alone(opened: OpenedModel, pieces: Sequence[Piece], real: Path) -> Iterator[StagedModel]:
    """Write `pieces` as what is to be the file `real`."""
    with Staged.create(real) as model, closing(StagedModel(opened, model)) as staged:
        write_pieces(pieces, model.descriptor, threads=opened.for_threads)
        yield staged


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file; after any failure what was there is untouched.

    Raises:
        RequestError: It cannot be written.
    """
    real = real_target(path)
    with explained(path), Staged.create(real) as staged:
        write_pieces([data], staged.descriptor)
        staged.settle()
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
    """Write a model and its data file, if it turns out to need one.

    Args:
        opened: The source.
        lay_out: Makes the pieces of both files, given the data file's name.
        target: The model's file as it was asked for.
        real: The model's file, links followed.
        sharing: Whether the new model will refer to the source's data files.
    """
    data = real.with_name(f"{real.name}.data")
    if not is_text(data.absolute()):
        raise RequestError(f"{target}: a model with a data file needs a path in UTF-8")
    layout = lay_out(data.name)
    if not layout.pieces:
        with staged_alone(opened, layout.model, real) as staged:
            yield staged
        return
    if real.parent.resolve() != target.parent.resolve():
        raise RequestError(f"{target}: a data file cannot be put beside a symbolic link's target")
    _require_replaceable(opened, data, real, sharing=sharing)
    interim = hidden_name(real, INTERIM)
    with (
        Staged.create(data, like=data if data.exists() else real, hidden=interim) as numbers,
        Staged.create(real) as passing,
        Staged.create(real) as model,
        closing(StagedModel(opened, model, (numbers, passing))) as staged,
    ):
        write_pieces(layout.pieces, numbers.descriptor, threads=opened.for_threads)
        write_pieces(lay_out(interim.name).model, passing.descriptor)
        write_pieces(layout.model, model.descriptor)
        yield staged


def _replace_both(numbers: Staged, passing: Staged, model: Staged) -> None:
    """Replace a model and its data file by the five steps."""
    numbers.show()
    try:
        passing.publish()
        replace_by_second_name(numbers.hidden, numbers.target)
        model.publish()
    finally:
        if passing.is_published():  # and the last step is still to come
            numbers.leave()


def _require_replaceable(opened: OpenedModel, data: Path, real: Path, *, sharing: bool) -> None:
    """Raise `RequestError` if the data file cannot be written without harm."""
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
    for beside in sorted(data.parent.glob("*.onnx")):
        if beside.name != real.name and reads(beside, data):
            raise RequestError(f"{data}: {beside.name} has its data in this file")


def _is_one_of(path: Path, stores: Iterable[FileStore]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return any(os.path.samestat(status, store.status) for store in stores)
