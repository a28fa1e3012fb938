"""Values told as plain data."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

from bnfold.frozen import frozen
from bnfold.plain import Plain, to_plain


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@frozen
class Inner(Plain):
    value: float


@dataclass(frozen=True, slots=True)
class Outer(Plain):
    inner: Inner
    several: tuple[Inner, ...]
    named: Mapping[str, tuple[int, ...]]
    colour: Colour = Colour.RED
    level: Level = Level.HIGH
    path: Path = Path("a/b")
    nothing: None = None


def test_a_value_is_told_in_what_json_has() -> None:
    told = Outer(Inner(math.inf), (Inner(0.5), Inner(math.nan)), {"x": (1, 2)}).to_dict()
    assert told == {
        "inner": {"value": None},
        "several": [{"value": 0.5}, {"value": None}],
        "named": {"x": [1, 2]},
        "colour": "red",
        "level": 3,
        "path": str(Path("a/b")),
        "nothing": None,
    }
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_is_plain_stays_as_it_is() -> None:
    for value in (True, 3, 0.25, "text", None, [1, {"a": False}]):
        assert to_plain(value) == value
