"""Writing a model: what changed from its recipe, the rest from the source's bytes.

A model goes into one file while protobuf allows it, which is up to 2 GB. Beyond that, when asked
to, and when the source does so too, its large tensors go into a data file beside it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx

from bnfold.errors import RequestError
from bnfold.files.assemble import DataLayout, assemble, clear_reference, content_of
from bnfold.files.atomic import os_errors_as_requests, real_target, unwinding_when_terminated
from bnfold.files.leftovers import tidy
from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Slice
from bnfold.files.publish import StagedModel, require_apart, staged_alone, staged_with_data
from bnfold.files.recipe import Recipe
from bnfold.files.references import Reference, is_external
from bnfold.files.walk import tensors
from bnfold.files.wire import key
from bnfold.paths import real_path

LARGEST_FILE: Final = 2**31 - 17
"""Protobuf's limit for a message, 2**31 - 1, less the 16 bytes that its C++ parser, which ONNX
Runtime uses, reads ahead."""


@contextmanager
def stage(
    opened: OpenedModel,
    proto: onnx.ModelProto,
    recipes: Mapping[str, Recipe],
    target: Path,
    *,
    external_data: bool | None = None,
    share_data: bool = False,
) -> Iterator[StagedModel]:
    """Write an edited skeleton as a model that can be read, and can be published to `target`.

    What is not published leaves no trace; after any failure `target` is what it was.

    Args:
        opened: The model that the skeleton is from.
        proto: The edited skeleton.
        recipes: What the changed tensors will be, by location.
        target: The file to write. A symbolic link is followed.
        external_data: Whether the large tensors go to a data file, `<target's name>.data`. By
            default they do if the source has one, or if the model is too large for one file.
        share_data: Write only what changed to the data file, and refer to the source's data files
            for the rest.

    Raises:
        RequestError: The target cannot be written so; the text says why.
        ModelError: The source changed while it was being read.
        FoldOverflow: What a recipe makes is too large for its type.
    """
    real = real_target(target)
    require_apart(opened, real, target)
    tidy(real.parent)
    pieces = assemble(opened, proto, recipes, lambda *_: None)
    size = sum(map(len, pieces))
    if external_data is None:
        external_data = size > LARGEST_FILE or bool(opened.locations)
    keep = _Sharing(opened, real) if share_data else None

    def lay_out(location: str) -> DataLayout:
        layout = DataLayout(location, keep)
        layout.model = assemble(opened, proto, recipes, layout.place)
        _require_size(sum(map(len, layout.model)), str(target))
        return layout

    with os_errors_as_requests(target), unwinding_when_terminated():
        if external_data or share_data:
            staging = staged_with_data(opened, lay_out, target, real, sharing=share_data)
        else:
            _require_size(size, str(target))
            staging = staged_alone(opened, pieces, real)
        with staging as staged:
            yield staged


def save_model(
    opened: OpenedModel,
    proto: onnx.ModelProto,
    recipes: Mapping[str, Recipe],
    target: Path,
    *,
    external_data: bool | None = None,
    share_data: bool = False,
) -> None:
    """Write an edited skeleton as a model; see `stage`."""
    with stage(
        opened, proto, recipes, target, external_data=external_data, share_data=share_data
    ) as staged:
        staged.publish()


def copy_model(
    opened: OpenedModel,
    target: Path,
    *,
    external_data: bool | None = None,
    share_data: bool = False,
) -> None:
    """Write the model that was opened to `target`, unchanged.

    A copy that nothing is asked of is one byte for byte if it is a single file, or if it comes into
    the same folder, where it reads the same data files. Any other is saved as an edited model is:
    locations are a stranger's words, and no file is written under a name that they give.

    Raises:
        RequestError: The target cannot be written.
        ModelError: The source changed while it was being read.
    """
    real = real_target(target)
    require_apart(opened, real, target)
    in_reach = opened.data is None or real_path(opened.data.folder) == real_path(real.parent)
    tidy(real.parent)
    as_asked = external_data is None or (not external_data and not opened.locations)
    if opened.file is None or share_data or not as_asked or (opened.locations and not in_reach):
        save_model(
            opened, opened.proto, {}, target, external_data=external_data, share_data=share_data
        )
        return
    with os_errors_as_requests(target), unwinding_when_terminated():
        whole = Slice(opened.file, 0, opened.file.size)
        with staged_alone(opened, [whole], real) as staged:
            staged.publish()


def materialize(
    opened: OpenedModel, proto: onnx.ModelProto, recipes: Mapping[str, Recipe]
) -> onnx.ModelProto:
    """Return an edited skeleton as a model in memory, with all numbers inside.

    Only the external tensors of a model that came from memory without a folder stay external.

    Raises:
        ModelError: The source changed while it was being read.
        FoldOverflow: What a recipe makes is too large for its type.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for tensor in tensors(model):
        if not is_external(tensor):
            continue
        reference = Reference.of(tensor)
        if not reference.private and opened.data is None:
            continue
        content = content_of(opened, tensor, recipes)
        clear_reference(tensor, reference)
        filled = bytearray(key(reference.field, len(content)))
        for block in content.blocks():
            filled += block
        tensor.MergeFromString(bytes(filled))
    opened.require_unchanged()
    return model


def _require_size(size: int, name: str) -> None:
    if size > LARGEST_FILE:
        raise RequestError(
            f"{name}: the model needs {size} bytes, and one file can hold 2 GB;"
            " it needs external data"
        )


class _Sharing:
    """Says how a model at `target` refers to the source's data files."""

    def __init__(self, opened: OpenedModel, target: Path) -> None:
        if opened.data is None or not opened.data.by_location:
            raise RequestError("the model has no data file that could be shared")
        self._from = real_path(opened.data.folder)
        self._stores = opened.data.by_location
        self._to = real_path(target.parent)

    def __call__(self, location: str) -> str:
        # onnx does not read through links, so the file itself is preferred, if it is below.
        for path in (self._stores[location].path, self._from / location):
            if path.is_relative_to(self._to):
                return path.relative_to(self._to).as_posix()
        raise RequestError(
            f"data file {self._from / location} cannot be shared with a model in {self._to}:"
            " data must be in the model's own folder or below"
        )
