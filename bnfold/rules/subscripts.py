"""The equation of an Einsum: one letter for each axis of its operands, as in `bic,oc->bio`."""

from collections.abc import Callable

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal

_ELLIPSIS = "..."
_FIRST_UNNAMED = 0x2460  # a character that is no letter


@frozen
class Subscripts:
    """The axes of each operand and of the result, by letter.

    Attributes:
        inputs: The letters of each operand, in the order of its axes.
        output: Those of the result.
    """

    inputs: tuple[str, ...]
    output: str


def parse(equation: str, rank_of: Callable[[int], int]) -> Subscripts:
    """Return what an equation says; each axis that an ellipsis stands for gets a sign of its own.

    Args:
        equation: The equation; without an arrow the result has the letters that occur once, in the
            order of the alphabet.
        rank_of: Returns the rank of an operand; asked only of those with an ellipsis.

    Raises:
        Refusal: The equation makes no sense.
    """
    left, arrow, right = "".join(equation.split()).partition("->")
    terms = left.split(",")
    hidden = [
        rank_of(i) - len(term) + len(_ELLIPSIS) if _ELLIPSIS in term else 0
        for i, term in enumerate(terms)
    ]
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = _ELLIPSIS + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    inputs = tuple(_spelt_out(term, count) for term, count in zip(terms, hidden, strict=True))
    output = _spelt_out(right, max(hidden))
    if min(hidden) < 0 or "." in "".join((*inputs, output)):
        raise Refusal(Reason.INVALID_NODE, f"equation {equation}")
    return Subscripts(inputs, output)


def _spelt_out(term: str, hidden: int) -> str:
    """Return a term with signs for its hidden axes, which are aligned on the right."""
    signs = "".join(chr(_FIRST_UNNAMED + i) for i in reversed(range(hidden)))
    return term.replace(_ELLIPSIS, signs, 1)
