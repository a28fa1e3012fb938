"""The skeleton of a model in memory: its structure is copied, its large tensors are not.

Protobuf can copy a message only whole, numbers included, and refuses to serialise one of more
than 2 GB. So the messages around large tensors are copied field by field, and only they.
"""

from collections.abc import Iterator
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import (  # type: ignore[import-untyped]
    UnknownFieldSet,
)

from bnfold.errors import ModelError
from bnfold.files.references import HELD, Reference
from bnfold.files.skeleton import BULKY, NOT_TEXT, require_text
from bnfold.files.stores import MemoryStore
from bnfold.files.values import byte_count
from bnfold.files.wire import DEPTH_LIMIT, FIXED32, FIXED64, GROUP, VARINT, key, varint
from bnfold.frozen import frozen, slotted

_NESTED: Final = f"its messages are nested deeper than {DEPTH_LIMIT}"

_ON_THE_WAY: Final = (
    onnx.GraphProto,
    onnx.FunctionProto,
    onnx.TrainingInfoProto,
    onnx.NodeProto,
    onnx.AttributeProto,
    onnx.SparseTensorProto,
    onnx.TensorProto,
)


@frozen(eq=False)
class HeldTensor:
    """The numbers of a tensor in memory, as a store. Protobuf copies them each time."""

    tensor: onnx.TensorProto

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return byte_count(self.tensor)  # `raw_data` would be copied

    def read(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset` on."""
        return self.pinned().read(offset, length)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `offset` on."""
        self.pinned().read_into(offset, view)

    def pinned(self) -> MemoryStore:
        """Return one copy of the bytes."""
        return MemoryStore(self.tensor.raw_data)

    def written(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield where something is written, which is everywhere."""
        yield offset, offset + length


@slotted
class Copier:
    """Copies models without their bulk; `held` gathers the tensors whose numbers stayed."""

    held: list[HeldTensor]
    _depth: int = 0

    def copy(self, source: onnx.ModelProto) -> onnx.ModelProto:
        """Return the skeleton of `source`.

        Raises:
            ModelError: No file could hold the model, whatever its size.
        """
        target = onnx.ModelProto()
        try:
            self._copy_fields(source, target)
            require_text(target.SerializeToString())
        except UnicodeDecodeError as error:
            raise ModelError(NOT_TEXT) from error
        except (EncodeError, DecodeError) as error:
            raise ModelError(_NESTED) from error
        return target

    def _copy_fields(self, source: Message, target: Message) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise ModelError(_NESTED)
        for field, value in source.ListFields():
            if field.message_type is None:
                if field.is_repeated:
                    getattr(target, field.name).extend(value)
                else:
                    setattr(target, field.name, value)
            elif field.is_repeated:
                for item in value:
                    self._copy_message(item, getattr(target, field.name).add())
            else:
                made = getattr(target, field.name)
                made.SetInParent()
                self._copy_message(value, made)
        target.MergeFromString(b"".join(_encode(UnknownFieldSet(source))))
        self._depth -= 1

    def _copy_message(self, source: Message, target: Message) -> None:
        if isinstance(source, onnx.TensorProto):
            self._copy_tensor(source, target)
        elif isinstance(source, _ON_THE_WAY) and _is_bulky(source):
            self._copy_fields(source, target)
        else:
            target.CopyFrom(source)

    def _copy_tensor(self, source: onnx.TensorProto, target: Any) -> None:  # noqa: ANN401
        length = len(source.raw_data)
        if length < BULKY or source.external_data:
            target.CopyFrom(source)
            return
        if length != byte_count(source):
            raise ModelError(f"tensor {source.name!r}: its bytes disagree with its shape")
        for field in source.DESCRIPTOR.fields:
            if field.name == "raw_data":
                continue
            if field.is_repeated or field.message_type is not None:
                if field.is_repeated or source.HasField(field.name):
                    getattr(target, field.name).MergeFrom(getattr(source, field.name))
            elif source.HasField(field.name):
                setattr(target, field.name, getattr(source, field.name))
        target.MergeFromString(b"".join(_encode(UnknownFieldSet(source))))
        explicit = source.HasField("data_location")
        Reference(f"{HELD}{len(self.held)}", 0, length, explicit=explicit).put(target)
        self.held.append(HeldTensor(source))


def _is_bulky(message: Message) -> bool:
    """Return whether a message is too large to be copied whole; protobuf serialises it to tell."""
    try:
        return int(message.ByteSize()) >= BULKY
    except EncodeError:  # it has more than 2 GB, or is nested too deep, which is seen on the way
        return True


def _encode(unknown: UnknownFieldSet) -> Iterator[bytes]:
    """Yield fields that onnx does not know as they were on the wire."""
    for field in unknown:
        number, wire, data = field.field_number, field.wire_type, field.data
        if wire == VARINT:
            yield varint(number << 3) + varint(data)
        elif wire in (FIXED32, FIXED64):
            yield varint(number << 3 | wire) + data.to_bytes(4 if wire == FIXED32 else 8, "little")
        elif wire == GROUP:
            yield from (varint(number << 3 | GROUP), *_encode(data), varint(number << 3 | 4))
        else:
            yield key(number, len(data)) + data
