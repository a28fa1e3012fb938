"""The wire format, against protobuf's own encoder."""

import contextlib

import onnx
import pytest
from handmade import everywhere, model, tensor
from hypothesis import given
from hypothesis import strategies as st

from bnfold.files import wire
from bnfold.files.stores import MemoryStore
from bnfold.files.walk import tensors
from bnfold.files.wire import Edit, MalformedError, Walk, delimited_fields, key, varint


class Drops:
    """Bytes that come in the smallest windows that are allowed."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def window(self, position: int) -> tuple[bytes, int]:
        return self.data[position : position + wire.KEY_ROOM], position


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_encoded_as_protobuf_encodes_it(value: int) -> None:
    message = onnx.TensorProto(uint64_data=[value])
    assert message.SerializeToString() == key(11, len(varint(value))) + varint(value)


@given(st.lists(st.binary(max_size=200)), st.integers(-(2**63), 2**63 - 1), st.floats(width=32))
def test_fields_are_found_among_numbers(strings: list[bytes], number: int, real: float) -> None:
    data = onnx.AttributeProto(strings=strings, i=number, f=real, name="n").SerializeToString()
    for source in (MemoryStore(data), Drops(data)):
        found = [(f.number, data[f.begin : f.end]) for f in delimited_fields(source, 0, len(data))]
        assert found == [(1, b"n"), *((9, s) for s in strings)]


def test_fields_inside_an_unknown_group_are_not_the_messages_own() -> None:
    data = b"\xfb\x7f" + key(1, 1) + b"a" + b"\xfc\x7f" + key(1, 1) + b"b"
    found = [data[f.begin : f.end] for f in delimited_fields(MemoryStore(data), 0, len(data))]
    assert found == [b"b"]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_lengths_around_an_edit_follow_it(contents: list[bytes]) -> None:
    data = everywhere().SerializeToString()
    left: list[bytes] = []

    def visit(begin: int, end: int, _holder: int) -> list[Edit]:
        left.append(contents[len(left) % len(contents)])
        return [Edit(begin, end, (onnx.TensorProto(raw_data=left[-1]).SerializeToString(),))]

    edits = Walk(MemoryStore(data), lambda *_: True, visit).edits()
    edited, position = b"", 0
    for edit in edits:
        assert edit.start >= position, "edits are in order and do not overlap"
        edited += data[position : edit.start] + b"".join(p for p in edit.pieces)  # type: ignore[misc]
        position = edit.end
    parsed = onnx.ModelProto.FromString(edited + data[position:])
    assert sorted(t.raw_data for t in tensors(parsed)) == sorted(left)
    assert parsed.graph.node[-1].name == "identity"


def test_what_is_cut_short_is_refused_wherever_protobuf_refuses_it() -> None:
    data = model([tensor("w", 40)]).SerializeToString()
    for at in range(1, len(data)):
        source = MemoryStore(data[:at])
        try:
            Walk(source, lambda *_: True, lambda *_: ()).edits()
        except MalformedError:
            continue
        onnx.ModelProto.FromString(data[:at])  # cut between two fields, it is a message again


def test_of_a_file_that_is_cut_short_that_is_said() -> None:
    data = model([tensor("w", 40)]).SerializeToString()
    with pytest.raises(MalformedError, match="longer than the file, which may be cut off"):
        Walk(MemoryStore(data[:-10]), lambda *_: True, lambda *_: ()).edits()
    outer = key(7, 3) + key(1, 5) + b"a" + key(14, 1) + b"aa"  # what is too long is within another
    with pytest.raises(MalformedError, match="longer than what holds it"):
        Walk(MemoryStore(outer), lambda *_: True, lambda *_: ()).edits()


@given(st.binary(max_size=64))
def test_garbage_is_refused_or_walked_but_nothing_else(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        assert Walk(MemoryStore(data), lambda *_: True, lambda *_: ()).edits() == []


def nested(depth: int) -> bytes:
    """A model with attributes in nodes in graphs in attributes, `depth` messages in all."""
    data = b""
    for level in reversed(range(depth - 1)):
        number = (1, 5, 6)[level % 3]
        data = key(number, len(data)) + data
    return key(7, len(data)) + data


@pytest.mark.parametrize("depth", [101, 10_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(MalformedError, match="nested deeper than 100"):
        Walk(MemoryStore(nested(depth)), lambda *_: True, lambda *_: ()).edits()


def test_nesting_that_protobuf_takes_is_walked() -> None:
    onnx.ModelProto.FromString(nested(99))
    assert Walk(MemoryStore(nested(99)), lambda *_: True, lambda *_: ()).edits() == []
