"""A language for patterns: a small subgraph is written as the formula that it computes.

    x = Hole("x")
    0.5 * x * (1 + call("Erf", x / 2**0.5))

What a pattern does not say does not matter: in which order something is multiplied or added,
whether it is divided by a number or multiplied by its reciprocal, where the numbers stand, whether
a square is a Pow or a tensor times itself. So each formula stands for all its spellings. A product
is kept as a number and factors with exponents, a sum as a number and terms with signs; the
operators of Python put them together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import cache
from typing import Final

from bnfold.frozen import frozen


class Expression:
    """What a tensor is, in terms of others."""

    __slots__ = ()

    def __mul__(self, other: "Operand") -> "Product":
        return _product((self, 1.0), (_expression(other), 1.0))

    __rmul__ = __mul__

    def __truediv__(self, other: "Operand") -> "Product":
        return _product((self, 1.0), (_expression(other), -1.0))

    def __pow__(self, exponent: float) -> "Product":
        return _product((self, exponent))

    def __add__(self, other: "Operand") -> "Sum":
        return _sum((self, 1), (_expression(other), 1))

    __radd__ = __add__

    def __sub__(self, other: "Operand") -> "Sum":
        return _sum((self, 1), (_expression(other), -1))

    def __or__(self, other: "Expression") -> "Either":
        options = (*_options(self), *_options(other))
        return Either(options)


Operand = Expression | float

_Part = tuple[Expression, float]
"""A factor with its exponent, or a term with its sign."""


@frozen(eq=False)
class Hole(Expression):
    """Any tensor that is no constant; the same one wherever the name stands."""

    name: str


@frozen(eq=False)
class Number(Expression):
    """A constant that is one number; None for any."""

    value: float | None = None


@frozen(eq=False)
class Parameter(Expression):
    """A constant of several numbers, as one that was learned; it is found under this name."""

    name: str


@frozen(eq=False)
class Call(Expression):
    """A node of one of these operators.

    Attributes:
        op_types: The operators, of ONNX's default domain.
        arguments: What it reads, from its first input on; further inputs do not matter.
        numbers: What else it must state: values by the name of an attribute, or by the index of a
            constant input.
        over: "spatial" where what it reduces must be all axes behind the channels.
    """

    op_types: tuple[str, ...]
    arguments: tuple[Expression, ...]
    numbers: Mapping[tuple[str, int], float] = field(default_factory=dict)
    over: str = ""


@frozen(eq=False)
class Product(Expression):
    """A number times factors to the power of exponents; None for any number."""

    number: float | None
    parts: tuple[_Part, ...]


@frozen(eq=False)
class Sum(Expression):
    """A number and terms with signs; None for any number."""

    number: float | None
    parts: tuple[_Part, ...]


@frozen(eq=False)
class Either(Expression):
    """One of several."""

    options: tuple[Expression, ...]


ANY: Final = Number()
"""A constant that is one number, whichever."""


def call(op_types: str, *arguments: Operand) -> Call:
    """Return a call of one of several operators, their names with spaces between."""
    return Call(tuple(op_types.split()), tuple(_expression(a) for a in arguments))


def _expression(operand: Operand) -> Expression:
    return operand if isinstance(operand, Expression) else Number(float(operand))


def _options(expression: Expression) -> tuple[Expression, ...]:
    return expression.options if isinstance(expression, Either) else (expression,)


def _product(*parts: _Part) -> Product:
    return Product(*_gathered(parts, Product, 1.0, lambda x, value, power: x * value**power))


def _sum(*parts: _Part) -> Sum:
    return Sum(*_gathered(parts, Sum, 0.0, lambda x, value, sign: x + sign * value))


def _gathered(
    parts: Iterable[_Part],
    kind: type[Product | Sum],
    neutral: float,
    put: Callable[[float, float, float], float],
) -> tuple[float | None, tuple[_Part, ...]]:
    """Return one number for all numbers among the parts, and the others.

    A part that is of the same `kind` is opened: a product of a product is one product. `put` puts
    a value, raised or multiplied by its exponent or sign, to the number, which is `neutral` first.
    """
    number: float | None = neutral
    others: list[_Part] = []
    for part, weight in parts:
        value: float | None = neutral
        if isinstance(part, Number):
            value = part.value
        elif isinstance(part, kind):
            value = part.number
            others.extend((inner, weight * own) for inner, own in part.parts)
        else:
            others.append((part, weight))
        number = None if number is None or value is None else put(number, value, weight)
    return number, tuple(others)


_PRODUCT: Final = frozenset({"Mul", "Div", "Pow", "Sqrt", "Reciprocal"})
_SUM: Final = frozenset({"Add", "Sub", "Neg"})
_ANYWHERE: Final = frozenset({"Cast", "Identity"})


@cache
def operators(expression: Expression) -> frozenset[str]:
    """Return the operators that may be in what an expression fits."""
    within = (operators(inner) for inner in _inner(expression))
    return _ANYWHERE.union(_own(expression), *within)


@cache
def last_operators(expression: Expression) -> frozenset[str]:
    """Return the operators that may make what an expression fits."""
    if isinstance(expression, Either):
        return frozenset().union(*map(last_operators, expression.options))
    return _own(expression)


@cache
def needed_operators(expression: Expression) -> frozenset[str]:
    """Return operators that are in everything that an expression fits."""
    if isinstance(expression, Either):
        return frozenset.intersection(*map(needed_operators, expression.options))
    within = (needed_operators(inner) for inner in _inner(expression))
    own = _own(expression) if isinstance(expression, Call) else frozenset[str]()
    return frozenset(own if len(own) == 1 else ()).union(*within)


@cache
def calls(expression: Expression) -> tuple[Call, ...]:
    """Return the calls in an expression."""
    own = (expression,) if isinstance(expression, Call) else ()
    return own + tuple(found for inner in _inner(expression) for found in calls(inner))


def _own(expression: Expression) -> frozenset[str]:
    if isinstance(expression, Call):
        return frozenset(expression.op_types)
    if isinstance(expression, Product):
        return _PRODUCT
    return _SUM if isinstance(expression, Sum) else frozenset()


def _inner(expression: Expression) -> tuple[Expression, ...]:
    if isinstance(expression, Either):
        return expression.options
    if isinstance(expression, Call):
        return expression.arguments
    return tuple(p for p, _ in expression.parts) if isinstance(expression, Product | Sum) else ()
