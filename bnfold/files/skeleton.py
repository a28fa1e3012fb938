"""From the bytes of a model to its skeleton: the same model, its bulk replaced by references."""

from collections.abc import Sequence
from functools import cache
from typing import Final

import onnx
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from bnfold.errors import ModelError
from bnfold.files.foreign import LONGEST, not_onnx
from bnfold.files.recipe import PRIVATE
from bnfold.files.references import BULK, HERE, Reference
from bnfold.files.stores import FileStore, MemoryStore
from bnfold.files.values import byte_count
from bnfold.files.walk import OWN_DOMAINS
from bnfold.files.wire import Edit, Field, MalformedError, Walk, delimited_fields

BULKY: Final = 4096
"""From how many bytes on numbers stay in the file.

Whatever tells a shape, an axis or a scale is smaller, and must be at hand for shape inference.
"""

NOT_TEXT: Final = "a string in it is not UTF-8"

_EXTERNAL_DATA: Final = 13

VALUES: Final = tuple(
    name for name in onnx.TensorProto.DESCRIPTOR.fields_by_name if name.endswith("_data")
)
"""The fields of a tensor that may hold its numbers, and `external_data`."""


def read_skeleton(store: FileStore | MemoryStore) -> onnx.ModelProto:
    """Parse a model without the numbers of its large tensors.

    Raises:
        ModelError: The bytes are not a model that onnx can read; the text says why.
    """
    try:
        edits = Walk(store, lambda begin, end: end - begin >= BULKY, _Cutter(store)).edits()
        data = _apply(store, edits)
        if data.count(PRIVATE.encode()) != sum(edit.start == edit.end for edit in edits):
            raise ModelError("a tensor's location contains a NUL character")
        model = _parse(data)
    except (MalformedError, DecodeError) as error:
        reason = error if isinstance(error, MalformedError) else "protobuf cannot parse it"
        beginning = bytes(store.read(0, min(LONGEST, store.size)))
        raise ModelError(not_onnx(beginning, str(reason))) from error
    require_known(model)
    return model


class _Cutter:
    """Replaces the numbers of a tensor by a reference to them."""

    def __init__(self, store: FileStore | MemoryStore) -> None:
        self._store = store

    def __call__(self, start: int, end: int, _holder: int) -> Sequence[Edit]:
        fields = list(delimited_fields(self._store, start, end))
        bulk = [f for f in fields if f.number in BULK and f.end - f.begin >= BULKY]
        if len(bulk) != 1 or any(f.number == _EXTERNAL_DATA for f in fields):
            return ()  # nothing large, or an encoding so odd that it is best left to protobuf
        return self._cut(bulk[0], start, end)

    def _cut(self, bulk: Field, start: int, end: int) -> Sequence[Edit]:
        rest = [self._store.read(*span) for span in _around(bulk, start, end)]
        tensor = onnx.TensorProto.FromString(b"".join(rest))
        needed = BULK[bulk.number]
        if needed not in (None, tensor.data_type) or any(map(tensor.__getattribute__, VALUES)):
            return ()
        length = bulk.end - bulk.begin
        if length != byte_count(tensor):
            raise ModelError(
                f"tensor {tensor.name!r} has {length} bytes where its shape"
                f" {list(tensor.dims)} needs {byte_count(tensor)}"
            )
        explicit = tensor.HasField("data_location")
        stub = onnx.TensorProto()
        Reference(HERE, bulk.begin, length, bulk.number, explicit).put(stub)
        return (
            Edit(bulk.key, bulk.end, ()),
            Edit(end, end, (stub.SerializeToString(),)),
        )


def _around(bulk: Field, start: int, end: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return offset and length of what is before and of what is after a field."""
    return (start, bulk.key - start), (bulk.end, end - bulk.end)


def _apply(store: FileStore | MemoryStore, edits: list[Edit]) -> bytes:
    """Return the bytes of `store` with `edits` made, all of which must put in plain bytes."""
    pieces: list[bytes | memoryview] = []
    position = 0
    for edit in edits:
        pieces.append(store.read(position, edit.start - position))
        pieces += [piece for piece in edit.pieces if isinstance(piece, bytes)]
        position = edit.end
    pieces.append(store.read(position, store.size - position))
    return b"".join(pieces)


@cache
def _strict_model() -> type[Message]:
    """Return `ModelProto` as proto3 has it, whose parser checks that every string is UTF-8.

    That of proto2, which ONNX uses, does not: reading such a string raises later, anywhere.
    """
    file = descriptor_pb2.FileDescriptorProto()
    onnx.onnx_ml_pb2.DESCRIPTOR.CopyToProto(file)
    file.syntax = "proto3"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    strict: type[Message] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("onnx.ModelProto")
    )
    return strict


def require_text(data: bytes) -> None:
    """Raise `ModelError` if a string is not UTF-8, DecodeError if `data` is no serialised model.

    Reading such a string would raise later, anywhere.
    """
    try:
        _strict_model().FromString(data)  # and forget: two parsed models would take memory
    except DecodeError as error:
        onnx.ModelProto.FromString(data)  # raises too, if text is not what is wrong
        raise ModelError(NOT_TEXT) from error


def _parse(data: bytes) -> onnx.ModelProto:
    require_text(data)
    model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    return model


def require_known(model: onnx.ModelProto) -> None:
    """Raise `ModelError` if the model has no graph or is newer than the installed onnx."""
    if not model.HasField("graph"):
        raise ModelError("this is not an ONNX model: it has no graph")
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"it has IR version {model.ir_version} and the installed onnx {onnx.__version__}"
            f" knows none above {onnx.IR_VERSION}; a newer onnx may read it"
        )
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in OWN_DOMAINS and opset.version > newest:
            raise ModelError(
                f"it uses opset {opset.version} and the installed onnx {onnx.__version__}"
                f" knows none above {newest}; a newer onnx may read it"
            )
