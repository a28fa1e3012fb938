"""Repeated fields of protobuf: removing and reordering messages in linear time."""

from collections.abc import Callable, Collection, Iterator, Sequence
from sys import maxsize
from typing import Protocol, TypeVar

_LAST = (maxsize, 0)
Message = TypeVar("Message")
Record_co = TypeVar("Record_co", covariant=True)


class Messages(Protocol[Record_co]):
    """A repeated field of protobuf."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Record_co]: ...
    def __delitem__(self, part: slice, /) -> None: ...
    def sort(self, *, key: Callable[[Record_co], object]) -> None:
        """Sort the messages in place; they are moved, not copied."""


def remove(
    messages: Messages[Message], name: Callable[[Message], str], names: Collection[str]
) -> None:
    """Remove the messages whose name is among `names`."""
    if names:
        arrange(messages, [None if name(message) in names else (0, 0) for message in messages])


def arrange(messages: Messages[Message], ranks: Sequence[tuple[int, int] | None]) -> None:
    """Sort messages by their ranks, and remove those whose rank is None.

    They are moved and not copied, all at once, so that this stays linear.
    """
    gone = ranks.count(None)
    each = iter(ranks)
    messages.sort(key=lambda _: next(each) or _LAST)
    del messages[len(messages) - gone :]
