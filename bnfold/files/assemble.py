"""From an edited skeleton to the pieces of a file: references are replaced by their numbers.

The skeleton is serialised, and its bytes are walked once more; wherever a tensor refers to its
numbers, a visitor either puts these in their place or lets the tensor refer to a data file.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Final

import onnx

from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Made, Piece, Slice
from bnfold.files.recipe import RECIPE_PREFIX, Recipe
from bnfold.files.references import Reference, is_external
from bnfold.files.skeleton import VALUES
from bnfold.files.stores import MemoryStore
from bnfold.files.values import SMALL, byte_count
from bnfold.files.wire import SPARSE, Edit, Walk, key
from bnfold.frozen import slotted

ALIGNMENT: Final = 4096
"""Tensors begin at multiples of this in a data file, so that a runtime can map them."""

Place = Callable[[Slice | Made, Reference], Reference | None]
"""Says where numbers shall be: None for in the tensor itself."""

_MARK: Final = b"location"


def assemble(
    opened: OpenedModel,
    proto: onnx.ModelProto,
    recipes: Mapping[str, Recipe],
    place: Place,
) -> list[Piece]:
    """Return the pieces of the file of an edited skeleton, whose references are into `opened`.

    `recipes` are by location; `place` says where the numbers of each referring tensor shall be.
    """
    data = proto.SerializeToString()
    marks = _find_all(data, _MARK)

    def wanted(begin: int, end: int) -> bool:
        at = bisect_left(marks, begin)
        return at < len(marks) and marks[at] < end

    def visit(begin: int, end: int, holder: int) -> Sequence[Edit]:
        tensor = onnx.TensorProto.FromString(data[begin:end])
        if not is_external(tensor):
            return ()
        reference = Reference.of(tensor)
        if not reference.private and opened.data is None:
            return ()  # a model in memory that knows no folder keeps what it says
        content = content_of(opened, tensor, recipes)
        # onnx's checker looks at the parts of sparse tensors, and only where they are inside.
        new = None if holder == SPARSE else place(content, reference)
        if new == reference:
            return ()
        if new is not None:
            _clear_numbers(tensor, reference)
            new.put(tensor)
            return (Edit(begin, end, (tensor.SerializeToString(),)),)
        return (Edit(begin, end, _filled(tensor, reference, content)),)

    edits = Walk(MemoryStore(data), wanted, visit).edits()
    pieces: list[Piece] = []
    position = 0
    for edit in edits:
        pieces += [data[position : edit.start], *edit.pieces]
        position = edit.end
    return [*pieces, data[position:]]


def content_of(
    opened: OpenedModel, tensor: onnx.TensorProto, recipes: Mapping[str, Recipe]
) -> Slice | Made:
    """Return the bytes of an external tensor: a stretch of a file, or what a recipe makes."""
    recipe = recipes.get(Reference.of(tensor).location)
    if recipe is None:
        return opened.slice_of(tensor)
    made = onnx.TensorProto(name=tensor.name, dims=recipe.dims, data_type=recipe.data_type)
    return Made(recipe, byte_count(made))


def _find_all(data: bytes, mark: bytes) -> list[int]:
    """Return the positions of `mark` in `data`."""
    found: list[int] = []
    at = data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + len(mark))
    return found


def _filled(
    tensor: onnx.TensorProto, reference: Reference, content: Slice | Made
) -> tuple[Piece, ...]:
    """Return the pieces of `tensor` with its numbers inside, fields in their usual order."""
    clear_reference(tensor, reference)
    before, after = onnx.TensorProto(), onnx.TensorProto()
    before.CopyFrom(tensor)
    after.CopyFrom(tensor)
    before.DiscardUnknownFields()  # or they would stand twice; protobuf writes them last
    for known in tensor.DESCRIPTOR.fields:
        (before if known.number > reference.field else after).ClearField(known.name)
    head = before.SerializeToString() + key(reference.field, len(content))
    return head, content, after.SerializeToString()


def clear_reference(tensor: onnx.TensorProto, reference: Reference) -> None:
    """Take the reference out of a tensor that is about to hold its numbers itself."""
    _clear_numbers(tensor, reference)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    if reference.explicit:
        tensor.data_location = onnx.TensorProto.DEFAULT


def _clear_numbers(tensor: onnx.TensorProto, reference: Reference) -> None:
    """Remove numbers that an external tensor holds besides its data file; ONNX ignores them."""
    if not reference.private:
        for values in VALUES:
            tensor.ClearField(values)


@slotted
class DataLayout:
    """The layout of a data file that is being planned.

    Attributes:
        location: Its name, as the model will write it.
        pieces: What is in it so far.
        model: The pieces of the model that refers to it.
        keep: For the tensors that stay in another data file, the location to refer to; without
            it all numbers are put in.
    """

    location: str
    keep: Callable[[str], str] | None = None
    pieces: list[Piece] = field(default_factory=list)
    model: list[Piece] = field(default_factory=list)
    _size: int = 0
    _known: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def place(self, content: Slice | Made, reference: Reference) -> Reference | None:
        """Return where `content` is in the data file; what was added before is not added again."""
        if self.keep and not reference.location.startswith(RECIPE_PREFIX):
            if reference.private:
                return None
            location = self.keep(reference.location)
            return Reference(location, reference.offset, reference.length)
        if len(content) < SMALL:
            return None
        if isinstance(content, Made):
            identity = (id(content.recipe), 0, 0)
        else:
            identity = (id(content.store), content.offset, content.length)
        if identity not in self._known:
            padding = -self._size % ALIGNMENT
            self._known[identity] = self._size + padding
            self.pieces += [bytes(padding), content]
            self._size += padding + len(content)
        return Reference(self.location, self._known[identity], len(content))
