"""The equation of an Einsum: one letter for each axis of its operands, as in `bic,oc->bio`.

In a product with a weight, each letter of the weight is one of three: it stands for inputs where
the data has it and the result has not, for outputs the other way round, and for groups where all
have it, as the heads h of `bthd,hdk->bthk`. Channels are all of groups and outputs, or groups and
inputs, on as many axes as these have letters; as in a convolution, the outputs of a group are made
of its inputs alone.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

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


@frozen
class Lettered:
    """How a weight lies that has any number of axes for its groups, outputs and inputs.

    Attributes:
        sizes: The lengths of the axes of groups, of outputs and of inputs.
        order: The axes of the weight in this order.
        out_axes: The axes of the result that are groups and outputs, counted from the last one.
        in_axes: The axes of the data that are groups and inputs, likewise.
    """

    sizes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    order: tuple[int, ...]
    out_axes: tuple[int, ...]
    in_axes: tuple[int, ...]

    @classmethod
    def of(cls, letters: Subscripts, weight: int, shape: Sequence[int]) -> "Lettered | None":
        """Return how a weight lies in an equation of two operands; None if that is no product.

        Args:
            letters: The equation.
            weight: Which operand is the weight.
            shape: The weight's shape.
        """
        w, x, y = letters.inputs[weight], letters.inputs[1 - weight], letters.output
        groups = [c for c in w if c in x and c in y]
        outs, ins = [c for c in w if c not in x], [c for c in w if c not in y]
        plain = all(len(set(term)) == len(term) for term in (w, x, y))
        if not (plain and ins) or set(y) != {*x, *w} - {*ins} or {*outs} & {*ins}:
            return None
        size = dict(zip(w, shape, strict=True))
        parts = (groups, outs, ins)
        return cls(
            tuple(tuple(size[c] for c in part) for part in parts),  # type: ignore[arg-type]
            tuple(w.index(c) for part in parts for c in part),
            tuple(y.index(c) - len(y) for c in (*groups, *outs)),
            tuple(x.index(c) - len(x) for c in (*groups, *ins)),
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many groups there are, and outputs and inputs of each."""
        groups, outs, ins = map(prod, self.sizes)
        return groups, outs, ins

    def matrices(self, weight: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a weight as (groups, outputs, inputs)."""
        return weight.transpose(self.order).reshape(self.counts)

    def laid(self, factor: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a factor (groups or 1, outputs or 1, inputs or 1) as the weight lies."""
        lengths = zip(self.sizes, factor.shape, strict=True)
        shape = [
            n for sizes, length in lengths for n in (sizes if length > 1 else (1,) * len(sizes))
        ]
        return factor.reshape(shape).transpose(np.argsort(self.order))
