"""Copying a model as it is, byte for byte, its data files included."""

import os
from contextlib import ExitStack
from pathlib import Path

from bnfold.files.atomic import (
    Staged,
    explained,
    publish_in_order,
    real_target,
    unwinding_when_terminated,
)
from bnfold.files.digest import sha256
from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Slice
from bnfold.files.publish import require_apart
from bnfold.files.save import save_model
from bnfold.files.stores import FileStore
from bnfold.files.transfer import write_pieces


def copy_model(opened: OpenedModel, target: Path, *, external_data: bool | None = None) -> None:
    """Write the model that was opened to `target`, unchanged.

    A model refers to its data files by their names, so a copy in the same folder shares them and
    one in another folder gets its own, under the same names. Where such a name is taken by
    another file, the copy is saved with a data file of its own instead, and where `external_data`
    is False with its numbers inside.

    Raises:
        RequestError: The target cannot be written.
        ModelError: The source changed while it was being read.
    """
    if opened.file is None or (opened.locations and external_data is False):
        save_model(opened, opened.proto, {}, target, external_data=external_data)
        return
    real = real_target(target)
    require_apart(opened, real, target)
    missing = _missing(opened, real.parent)
    if missing is None:
        save_model(opened, opened.proto, {}, target)
        return
    with explained(target), unwinding_when_terminated(), ExitStack() as stack:
        staged = [
            stack.enter_context(_stage(Slice(store, 0, store.size), path))
            for path, store in missing.items()
        ]
        staged.append(stack.enter_context(_stage(Slice(opened.file, 0, opened.file.size), real)))
        opened.require_unchanged()
        publish_in_order(staged)


def _stage(content: Slice, path: Path) -> Staged:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = Staged.create(path)
    try:
        write_pieces([content], staged.descriptor)
        staged.settle(path)
    except BaseException:
        staged.discard()
        raise
    return staged


def _missing(opened: OpenedModel, folder: Path) -> dict[Path, FileStore] | None:
    """Return the data files that a copy in `folder` lacks; None if another file is in the way."""
    missing: dict[Path, FileStore] = {}
    if opened.data is None:
        return missing
    for location, store in opened.data.by_location.items():
        path = folder / location
        if not os.path.lexists(path):
            missing[path] = store
        elif not path.is_file() or not _same(path, store):
            return None
    return missing


def _same(path: Path, store: FileStore) -> bool:
    status = path.stat()
    if os.path.samestat(status, store.status):
        return True
    return status.st_size == store.size and sha256(path) == sha256(store.path)
