"""Data classes that cost little to define, most of which nobody changes.

A program that ends within half a second notices what its classes cost: `dataclass(frozen=True)`
compiles six methods for each of them, which over sixty classes took a twentieth of the time of a
fold of 45 MB. Here only `__init__` is compiled; the others are the same functions for all.

- `frozen`: a value. That nothing is assigned to later is for the type checker to see.
- `sealed`: a value that callers are given, who may not run a type checker: to assign raises.
- `slotted`: fields may change.
"""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from functools import partial
from typing import Any, TypeVar, cast, dataclass_transform, overload

_Class = TypeVar("_Class", bound=type)


@overload
def frozen(cls: _Class) -> _Class: ...
@overload
def frozen(*, eq: bool) -> Callable[[_Class], _Class]: ...
@dataclass_transform(frozen_default=True)
def frozen(cls: Any = None, *, eq: bool = True) -> Any:
    """Make a class with slots whose instances are values, as `dataclass(frozen=True)` does.

    Without `eq` an instance only equals itself.
    """

    def decorate(cls: type) -> type:
        made: Any = slotted(cls)
        if eq:
            made.__eq__, made.__hash__ = _equal, _hash
        return cast("type", made)

    return decorate if cls is None else decorate(cls)


@overload
def sealed(cls: _Class) -> _Class: ...
@overload
def sealed(*, eq: bool) -> Callable[[_Class], _Class]: ...
@dataclass_transform(frozen_default=True)
def sealed(cls: Any = None, *, eq: bool = True) -> Any:
    """Make a class as `frozen` does, to whose instances nothing can be assigned.

    Args:
        cls: The class.
        eq: Instances with equal fields are equal; otherwise each only equals itself.

    Returns:
        The class; to assign to a field, or to delete one, raises `dataclasses.FrozenInstanceError`.
    """
    if cls is None:
        return partial(sealed, eq=eq)
    made: Any = frozen(eq=eq)(cls)
    made.__setattr__, made.__delattr__ = _set_once, _refuse_to_delete
    return made


@dataclass_transform(eq_default=False)
def slotted(cls: _Class) -> _Class:
    """Make a class with slots whose fields may change; an instance only equals itself."""
    made: Any = dataclass(slots=True, eq=False, repr=False)(cls)
    if made.__repr__ is object.__repr__:
        made.__repr__ = _repr
    return cast("_Class", made)


def _values(instance: Any) -> tuple[object, ...]:  # noqa: ANN401 - of any such class
    return tuple(getattr(instance, name) for name in instance.__dataclass_fields__)


def _repr(self: object) -> str:
    names = self.__dataclass_fields__  # type: ignore[attr-defined]
    fields = (f"{name}={value!r}" for name, value in zip(names, _values(self), strict=True))
    return f"{type(self).__qualname__}({', '.join(fields)})"


def _equal(self: object, other: object) -> Any:  # noqa: ANN401 - a bool, or NotImplemented
    if type(self) is not type(other):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: object) -> int:
    return hash(_values(self))


def _set_once(self: object, name: str, value: object) -> None:
    """Set a field that has no value yet, as `__init__` does and as unpickling does."""
    if name not in self.__dataclass_fields__ or hasattr(self, name):  # type: ignore[attr-defined]
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _refuse_to_delete(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
