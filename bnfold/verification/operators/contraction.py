"""Einsum in float64: a sum of products, one letter for each axis of its operands."""

import math
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


def _matrices(weight: Array, attributes: Attributes, index: int) -> Array | None:
    """A matrix for each index that all have: (groups, outputs, inputs, 1).

    None where the equation is no product with the weight, but a sum of it, say.
    """
    terms, result = _terms(_equation(attributes))
    others = "".join(terms[:index] + terms[index + 1 :])
    term = terms[index]
    made, summed, shared = (
        [n for n, letter in enumerate(term) if (letter in result, letter in others) == where]
        for where in ((True, False), (False, True), (True, True))
    )
    order = [*shared, *made, *summed]
    if len(order) != weight.ndim or len(set(term)) != len(term) or not summed:
        return None
    counts = [math.prod(weight.shape[n] for n in axes) for axes in (shared, made, summed)]
    return weight.transpose(order).reshape(*counts, 1)


MATRIX = Weight(PRODUCT, _matrices)


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
