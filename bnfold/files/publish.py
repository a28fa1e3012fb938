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
from collections.abc import Callable, Iterable, Sequence
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

Check = Callable[[Path], None]
"""Examines a model that is written, but not yet in its place; raises if it shall not get there."""


def require_apart(opened: OpenedModel, real: Path, target: Path) -> None:
    """Raise `RequestError` if writing `real`, which was asked for as `target`, does harm."""
    if opened.data is not None and _is_one_of(real, opened.data.stores):
        raise RequestError(f"{target}: this is a data file of the model")
    if real.parent.name == "blobs" and (real.parent.parent / "snapshots").is_dir():
        raise RequestError(f"{target}: files in a Hugging Face cache are not to be changed")


def write_one(
    opened: OpenedModel, pieces: Sequence[Piece], real: Path, check: Check | None
) -> None:
    """Write `pieces` as the file `real`, if `check` does not raise."""
    with Staged.create(real) as staged:
        write_pieces(pieces, staged.descriptor, threads=opened.for_threads)
        _examine(check, staged)
        staged.settle()
        opened.require_unchanged()
        with only_one(real.parent):
            staged.publish()
    remove_abandoned(real, INTERIM)


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


def write_with_data(
    opened: OpenedModel,
    lay_out: Callable[[str], DataLayout],
    target: Path,
    real: Path,
    *,
    sharing: bool,
    check: Check | None,
) -> None:
    """Write a model and its data file, if it turns out to need one.

    Args:
        opened: The source.
        lay_out: Makes the pieces of both files, given the data file's name.
        target: The model's file as it was asked for.
        real: The model's file, links followed.
        sharing: Whether the new model will refer to the source's data files.
        check: Examines the written model before it takes its place.
    """
    data = real.with_name(f"{real.name}.data")
    if not is_text(data.absolute()):
        raise RequestError(f"{target}: a model with a data file needs a path in UTF-8")
    layout = lay_out(data.name)
    if not layout.pieces:
        write_one(opened, layout.model, real, check)
        return
    if real.parent.resolve() != target.parent.resolve():
        raise RequestError(f"{target}: a data file cannot be put beside a symbolic link's target")
    _require_replaceable(opened, data, real, sharing=sharing)
    interim = hidden_name(real, INTERIM)
    with (
        Staged.create(data, like=data if data.exists() else real, hidden=interim) as numbers,
        Staged.create(real) as passing,
        Staged.create(real) as model,
    ):
        write_pieces(layout.pieces, numbers.descriptor, threads=opened.for_threads)
        write_pieces(lay_out(interim.name).model, passing.descriptor)
        write_pieces(layout.model, model.descriptor)
        _examine(check, passing, numbers)
        for staged in (numbers, passing, model):
            staged.settle()
        opened.require_unchanged()
        with only_one(real.parent):
            if data.exists():
                _replace_both(numbers, passing, model)
            else:
                publish_in_order([numbers, model])
    remove_abandoned(real, INTERIM)


def _examine(check: Check | None, model: Staged, *others: Staged) -> None:
    """Let `check` look at a model that refers to the others by their hidden names."""
    if check is None:
        return
    for staged in (*others, model):
        staged.show()
    with removed_if_killed(model.hidden, *(staged.hidden for staged in others)):
        check(model.hidden)


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
