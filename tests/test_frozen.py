"""The decorator makes values like frozen data classes."""

import pickle
from copy import copy
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from inspect import signature
from typing import Any

import pytest

from bnfold.frozen import frozen, sealed, slotted


@frozen
class Point:
    """A value."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = field(default_factory=tuple)

    @property
    def total(self) -> int:
        """The sum."""
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Reference:
    """The same, by the standard library."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = field(default_factory=tuple)


@frozen(eq=False)
class Token:
    """Equal to itself only."""

    name: str


@frozen
class Other:
    """Of the same fields as a point."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize("arguments", [{"x": 1}, {"x": 1, "y": 5, "tags": ("a",)}])
def test_a_value_is_what_the_standard_library_makes(arguments: dict[str, Any]) -> None:
    point, reference = Point(**arguments), Reference(**arguments)
    assert [f.name for f in fields(point)] == [f.name for f in fields(reference)]
    assert repr(point) == repr(reference).replace("Reference", "Point")
    assert hash(point) == hash(reference)
    assert signature(Point) == signature(Reference)
    assert not hasattr(point, "__dict__")
    assert replace(point, x=7).total == 7 + point.y


def test_values_are_equal_by_their_fields_and_their_class() -> None:
    assert Point(1) == Point(1, 2, ())
    assert Point(1) != Point(1, 3)
    others: list[object] = [Other(1), Reference(1), 1]
    assert Point(1) not in others
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_a_token_is_itself_only() -> None:
    token = Token("a")
    assert token in (Token("a"), token)
    assert token != Token("a")
    assert repr(token) == "Token(name='a')"


@sealed
class Sealed:
    """A value that callers are given."""

    x: int
    y: int = 2

    def __repr__(self) -> str:
        """Show it in a way of its own."""
        return f"<{self.x}>"


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_nothing_is_assigned_to_what_is_sealed(name: str) -> None:
    value = Sealed(1)
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 3)
    with pytest.raises(FrozenInstanceError):
        delattr(value, name)
    assert value == Sealed(1, 2)


def test_what_is_sealed_can_be_copied_sent_and_matched() -> None:
    value = Sealed(1, 5)
    for other in (copy(value), pickle.loads(pickle.dumps(value)), replace(value)):  # noqa: S301
        assert other == value
        assert other is not value
    assert hash(value) == hash(Sealed(1, 5))
    assert repr(value) == "<1>"
    match value:
        case Sealed(x, y):
            assert (x, y) == (1, 5)


@slotted
class Counter:
    """A value that changes."""

    count: int = 0
    seen: list[str] = field(default_factory=list)


def test_a_slotted_class_has_fields_that_change() -> None:
    counter = Counter(seen=["a"])
    counter.count += 1
    assert repr(counter) == "Counter(count=1, seen=['a'])"
    assert not hasattr(counter, "__dict__")
    assert counter != Counter(1, ["a"])
    assert len({counter, counter}) == 1
