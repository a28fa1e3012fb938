"""Foreign text made printable: names out of models, and what ONNX Runtime and others say of them.

A control sequence in a name would set a terminal's title, clear its screen or write lines that look
like ours. So whatever is printed goes through here before colours and line ends are added.
"""

import copy
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast

from bnfold.errors import printable

_Value = TypeVar("_Value")


def made_printable(value: _Value) -> _Value:
    """Return a value with all text in it printable, whatever holds it.

    Args:
        value: Text, or data classes, tuples, lists and mappings of it, nested as they like; what
            else is in them stays as it is.
    """
    return cast("_Value", _made_printable(value))


def _made_printable(value: Any) -> Any:  # noqa: ANN401 - whatever a report holds
    if isinstance(value, Enum):  # some are text, too
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_made_printable(key): _made_printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_made_printable, value))
    names = getattr(value, "__dataclass_fields__", None)
    if names is None or isinstance(value, type):
        return value
    changed = copy.copy(value)
    for name in names:
        object.__setattr__(changed, name, _made_printable(getattr(value, name)))
    return changed


def printable_lines(text: str) -> str:
    """Return text of several lines, as a traceback is, with all else that is in it printable."""
    return "\n".join(map(printable, text.split("\n")))
