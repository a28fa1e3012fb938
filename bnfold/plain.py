"""Data classes as plain data: dictionaries, lists, texts and numbers, as JSON has them."""

import math
from collections.abc import Mapping
from enum import Enum
from os import PathLike, fspath
from typing import Any


class Plain:
    """A data class that can be written as plain data."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data; what is not finite becomes None."""
        return fields_of(self)


def fields_of(value: object) -> dict[str, Any]:
    """Return the fields of a data class, by name, as plain data."""
    names = value.__dataclass_fields__  # type: ignore[attr-defined]
    return {name: to_plain(getattr(value, name)) for name in names}


def to_plain(value: Any) -> Any:  # noqa: ANN401 - whatever a field holds
    """Return a value as plain JSON-able data; JSON has no infinity and no NaN, so they are None."""
    if isinstance(value, Plain):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):  # an array
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, PathLike):
        return fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
