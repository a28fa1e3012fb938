"""Foreign text made printable: names out of models, and what ONNX Runtime and others say of them.

A control sequence in a name would set a terminal's title, clear its screen or write lines that look
like ours. So whatever is printed goes through here before colours and line ends are added.
"""

import copy
from collections.abc import Mapping
from enum import Enum
from operator import is_
from typing import Any, TypeVar, cast

from bnfold.errors import printable

_Value = TypeVar("_Value")
_PLAIN = frozenset({bool, int, float, type(None)})


def made_printable(value: _Value) -> _Value:
    """Return a value with all text in it printable, whatever holds it.

    Args:
        value: Text, or data classes, tuples, lists and mappings of it, nested as they like; what
            else is in them stays as it is.
    """
    return cast("_Value", _made_printable(value))


def _made_printable(value: Any) -> Any:  # noqa: ANN401 - whatever a report holds
    kind = type(value)
    if kind is str or (isinstance(value, str) and not isinstance(value, Enum)):
        return printable(value)
    if kind in _PLAIN:  # most of what a report holds besides text
        return value
    if hasattr(kind, "__dataclass_fields__"):
        return _fields_printable(value)
    if isinstance(value, list | tuple):
        made = [*map(_made_printable, value)]
        return value if all(map(is_, made, value)) else kind(made)
    if isinstance(value, Mapping):
        return {_made_printable(key): _made_printable(item) for key, item in value.items()}
    return value


def _fields_printable(value: Any) -> Any:  # noqa: ANN401 - of any data class
    """Return an instance of a data class, itself where all text in it is printable."""
    fields = ((name, getattr(value, name)) for name in type(value).__dataclass_fields__)
    made = [(name, each, _made_printable(each)) for name, each in fields]
    if all(after is before for _, before, after in made):
        return value
    changed = copy.copy(value)
    for name, _, after in made:
        object.__setattr__(changed, name, after)
    return changed


def printable_lines(text: str) -> str:
    """Return text of several lines, as a traceback is, with all else that is in it printable."""
    return "\n".join(map(printable, text.split("\n")))
