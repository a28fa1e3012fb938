"""Protobuf's wire format: finding and replacing fields of a model without parsing the rest.

A serialised message is a row of fields, each `key · payload`; the key holds the field's number
and its wire type, and the payload of a *delimited* field (wire type 2: strings, bytes, nested
messages, packed arrays) is preceded by its length. So a reader can step over a field, however
large, without looking at it, and that is all this module does. It walks from the model down to
its tensors along the few fields in `CHILDREN`, asks a visitor which bytes of a tensor should
become others, and returns these `Edit`s together with the new lengths of the messages around
them. Opening a model edits the numbers out, saving edits them in.

Format: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from bnfold.files.pieces import Piece
from bnfold.frozen import frozen

VARINT, FIXED64, DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)
DEPTH_LIMIT: Final = 100
"""Protobuf's own: its parsers refuse messages that are nested deeper."""

MODEL, TRAINING, GRAPH, FUNCTION, NODE, ATTRIBUTE, SPARSE, TENSOR = range(8)

CHILDREN: Final[dict[int, dict[int, int]]] = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    TRAINING: {1: GRAPH, 2: GRAPH},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
}
"""The fields, by number, through which a message of each kind leads to tensors (onnx.proto)."""


class MalformedError(Exception):
    """The bytes are not a protobuf message; its text says why."""


class Bytes(Protocol):
    """Bytes with random access, of a file or of a buffer."""

    @property
    def size(self) -> int:
        """How many there are."""

    def window(self, position: int) -> tuple[bytes, int]:
        """Return bytes around `position`, and the position of the first of them.

        They reach to the end or at least `KEY_ROOM` bytes past `position`.
        """


KEY_ROOM: Final = 32
"""More than a key, a length and a number can take."""


class Field(NamedTuple):
    """A delimited field: its number, and where its key, its payload and its end are."""

    number: int
    key: int
    begin: int
    end: int


@frozen
class Edit:
    """A change: `pieces` replace the bytes from `start` to `end`."""

    start: int
    end: int
    pieces: tuple[Piece, ...]

    @property
    def growth(self) -> int:
        """The number of bytes by which the file grows."""
        return sum(len(piece) for piece in self.pieces) - (self.end - self.start)


_MORE: Final = 0x80
"""The bit of a byte that says that the number goes on."""

_WORD: Final = 64


def varint(value: int) -> bytes:
    """Encode a number as protobuf does, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value % _MORE | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def key(number: int, length: int) -> bytes:
    """Encode what comes before the payload of a delimited field: its key and its length."""
    return varint(number << 3 | DELIMITED) + varint(length)


def _decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and the place after it."""
    byte = data[at]
    if byte < _MORE:
        return byte, at + 1
    value, shift = byte % _MORE, 7
    while byte >= _MORE:
        at += 1
        if shift >= _WORD:
            raise MalformedError("a number has more than 64 bits")
        byte = data[at]
        value |= byte % _MORE << shift
        shift += 7
    return value, at + 1


_FIXED: Final = {FIXED64: 8, FIXED32: 4}


def delimited_fields(source: Bytes, start: int, end: int) -> Iterator[Field]:
    """Yield the delimited fields of the message between `start` and `end`."""
    data, base = source.window(start)
    limit = base + len(data)
    groups = 0
    while start < end:
        if start + KEY_ROOM > limit < source.size:
            data, base = source.window(start)
            limit = base + len(data)
        try:
            tag, at = _decode_varint(data, start - base)
            wire, after = tag & 7, at
            if wire in (DELIMITED, VARINT):
                value, after = _decode_varint(data, at)
        except IndexError:
            raise MalformedError(f"it ends within the field at byte {start}") from None
        begin = after + base
        stop = begin + (value if wire == DELIMITED else _FIXED.get(wire, 0))
        if stop > end:
            cut = stop > source.size
            around = "the file, which may be cut off" if cut else "what holds it"
            raise MalformedError(f"the field at byte {start} is longer than {around}")
        if wire > FIXED32 or not tag >> 3:
            raise MalformedError(f"the byte at {start} begins no field")
        groups += (wire == GROUP) - (wire == END_GROUP)
        if wire == DELIMITED and not groups:
            yield Field(tag >> 3, start, begin, stop)
        start = stop


@frozen
class Walk:
    """A walk from a model's bytes down to its tensors.

    Attributes:
        source: The model's bytes.
        wanted: Whether a message, from here to there, is worth walking into.
        visit: What a tensor, from here to there and in a message of this kind, should become.
    """

    source: Bytes
    wanted: Callable[[int, int], bool]
    visit: Callable[[int, int, int], Sequence[Edit]]

    def edits(self) -> list[Edit]:
        """Return the edits of all tensors and of all lengths around them, in order."""
        return self._descend(MODEL, 0, self.source.size, 1)

    def _descend(self, kind: int, start: int, end: int, depth: int) -> list[Edit]:
        if depth > DEPTH_LIMIT:
            raise MalformedError(f"its messages are nested deeper than {DEPTH_LIMIT}")
        children = CHILDREN[kind]
        found: list[Edit] = []
        for field in delimited_fields(self.source, start, end):
            child = children.get(field.number)
            if child is None or not self.wanted(field.begin, field.end):
                continue
            if child == TENSOR:
                inner = list(self.visit(field.begin, field.end, kind))
            else:
                inner = self._descend(child, field.begin, field.end, depth + 1)
            if inner:
                length = field.end - field.begin + sum(edit.growth for edit in inner)
                found.append(Edit(field.key, field.begin, (key(field.number, length),)))
                found += inner
        return found
