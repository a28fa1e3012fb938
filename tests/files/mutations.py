"""Broken models: valid ones with a few changes that keep the structure, or do not.

A mutation walks to a message of the model by protobuf's own description of it, and there takes
something away, doubles it, exchanges it with its like from elsewhere in the model, or sets it to
a value that programs stumble over. So references dangle, graphs become cyclic, names stand twice,
ranks and lengths do not match, and yet most of the model makes sense. Others change bytes.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import (  # type: ignore[import-untyped]
    FieldDescriptor as Field,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 4096, 1 << 16, 1 << 22, 10**9, 2**31 - 1, -(2**31), 2**62,
           2**63 - 1, -(2**63))  # fmt: skip
REALS = (0.0, -0.0, 1e-45, 1e38, float("inf"), float("nan"), -1.0)
TEXTS = ("", "\0", "..", "/etc/passwd", "x" * 300, "ß\u2028", "location", "BatchNormalization")

_INTEGERS = {Field.TYPE_INT32: 2**31, Field.TYPE_INT64: 2**63, Field.TYPE_UINT64: 2**64}


def mutate(data: bytes, random: Random) -> bytes:
    """Return a broken version of the model in `data`."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        try:
            model = onnx.ModelProto.FromString(data)
        except DecodeError:  # only its bytes are left to change
            return change_bytes(data, random)
        if random.random() < 0.1:
            return change_bytes(data, random)
        try:
            change_message(model, random)
            data = model.SerializeToString()
        except ValueError:  # text that is none, from an earlier mutation
            return change_bytes(data, random)
    return data


def change_bytes(data: bytes, random: Random) -> bytes:
    """Cut, double, flip or insert some bytes."""
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    end = min(end, start + random.choice((1, 4, 100, len(data))))
    noise = random.randbytes(random.choice((1, 2, 10)))
    return random.choice(
        (
            data[:start],
            data[:start] + data[end:],
            data[:end] + data[start:],
            data[:start] + noise + data[start:],
            data[:start] + noise + data[start + len(noise) :],
        )
    )


def messages(message: Any) -> Iterator[Any]:
    """Yield `message` and all messages inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                yield from messages(item)


def change_message(model: onnx.ModelProto, random: Random) -> None:
    """Change one field of one message somewhere in `model`."""
    everything = list(messages(model))
    message = random.choice(everything)
    if random.random() < 0.5:
        kinds = (onnx.NodeProto, onnx.TensorProto, onnx.AttributeProto)
        message = random.choice([m for m in everything if isinstance(m, kinds)] or [model])
    field = random.choice(message.DESCRIPTOR.fields)
    if field.is_repeated:
        _change_list(getattr(message, field.name), field, everything, random)
    elif field.message_type is not None:
        _change_child(message, field, everything, random)
    elif random.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, everything, random))


def _change_child(message: Any, field: Any, everything: list[Any], random: Random) -> None:
    child = _like(field, everything, random)
    if child is None or random.random() < 0.3:
        message.ClearField(field.name)
        return
    copy = type(child)()
    copy.CopyFrom(child)
    getattr(message, field.name).CopyFrom(copy)


def _change_list(items: Any, field: Any, everything: list[Any], random: Random) -> None:
    def new() -> Any:
        if field.message_type is None:
            return _scalar(field, everything, random)
        child = _like(field, everything, random)
        copy = type(child)() if child is not None else items.add()
        if child is not None:
            copy.CopyFrom(child)
        return copy

    def remove() -> None:
        if items:
            del items[random.randrange(len(items))]

    def shuffle() -> None:
        copies = list(items)
        random.shuffle(copies)
        del items[:]
        items.extend(copies)

    def replace() -> None:
        if items and field.message_type is None:
            items[random.randrange(len(items))] = new()

    changes: tuple[Callable[[], Any], ...] = (
        remove,
        shuffle,
        replace,
        lambda: items.extend([new()]),
        lambda: items.extend(list(items)[:1]),
    )
    random.choice(changes)()


def _like(field: Any, everything: list[Any], random: Random) -> Any:
    """Return a message from elsewhere that may stand in `field`, None if there is none."""
    kind = field.message_type.full_name
    found = [m for m in everything if m.DESCRIPTOR.full_name == kind and m.ByteSize() < 1 << 16]
    return random.choice(found) if found else None


def _scalar(field: Any, everything: list[Any], random: Random) -> Any:
    if field.type == Field.TYPE_STRING:
        names = [n for m in everything if isinstance(m, onnx.NodeProto) for n in m.input]
        names += [m.op_type for m in everything if isinstance(m, onnx.NodeProto)]
        return random.choice([*TEXTS, *names])
    if field.type == Field.TYPE_BYTES:
        return random.choice((b"", b"\xff", random.randbytes(4), random.randbytes(64)))
    if field.type == Field.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    limit = _INTEGERS.get(field.type)
    if limit is None:
        return random.choice(REALS)
    return random.choice([n for n in NUMBERS if -limit <= n < limit and (n >= 0 or limit < 2**64)])
