"""Einsum in float64: a sum of products, one letter for each axis of its operands."""

from collections import Counter

import numpy as np

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape, Shapes
from bnfold.verification.operators.kernels import require_room
from bnfold.verification.operators.node import Attributes, Inputs, needed
from bnfold.verification.operators.weights import PRODUCT, Weight


def einsum(inputs: Inputs, attributes: Attributes) -> Array:
    """Return what an Einsum computes, by products of matrices where it is made of them."""
    equation = _equation(attributes)
    operands = [needed(inputs, index) for index in range(len(inputs))]
    terms, result = _terms(equation)
    if "." not in equation:
        sizes: Counter[str] = Counter()
        for term, operand in zip(terms, operands, strict=True):
            sizes |= Counter(dict(zip(term, operand.shape, strict=True)))  # the larger of two
        require_room([sizes[letter] for letter in result])
    return np.asarray(np.einsum(equation, *operands, optimize=True))


def _equation(attributes: Attributes) -> str:
    return "".join(attributes["equation"].decode().split())


def _terms(equation: str) -> tuple[list[str], str]:
    """Return the letters of each operand, and of the result: where not stated, those not shared."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        count = Counter(left)
        right = "".join(sorted(c for c in count if c.isalpha() and count[c] == 1))
    return terms, right


def _matrix(weight: Array, attributes: Attributes, index: int) -> Array | None:
    """A matrix, (outputs, inputs) or the other way round, if the equation is a product with one."""
    terms, result = _terms(_equation(attributes))
    others = "".join(terms[:index] + terms[index + 1 :])
    term = terms[index]
    if weight.ndim != 2 or len(term) != 2:  # noqa: PLR2004 - a matrix
        return None
    made = [letter in result and letter not in others for letter in term]
    summed = [letter in others and letter not in result for letter in term]
    if made != summed[::-1] or sum(made) != 1:
        return None
    return (weight if made[0] else weight.T)[None, :, :, None]


MATRIX = Weight(PRODUCT, _matrix)


def demand(index: int, shapes: Shapes, attributes: Attributes, _: int | None) -> Shape | None:
    """An operand has an axis for each letter, as long as in the others."""
    terms = _terms(_equation(attributes))[0]
    if index >= len(terms) or "." in terms[index]:
        return None
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=False):
        if shape is not None and len(shape) == len(term):
            sizes |= dict(zip(term, shape, strict=True))
    return tuple(sizes.get(letter) for letter in terms[index])
