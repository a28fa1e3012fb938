"""The equation of an Einsum, and which are products with one matrix."""

from __future__ import annotations

import numpy as np
import pytest
from operators import constant, data, operator

from bnfold.reasons import Reason, Refusal
from bnfold.rules.linear import LINEAR
from bnfold.rules.subscripts import parse


@pytest.mark.parametrize(
    ("equation", "inputs", "output"),
    [
        ("bic, oc -> bio", ("bic", "oc"), "bio"),
        ("bic,oc", ("bic", "oc"), "bio"),
        ("ca,bc", ("ca", "bc"), "ab"),
        ("...c,co->...o", ("\u2461\u2460c", "co"), "\u2461\u2460o"),
    ],
)
def test_letters_by_axis(equation: str, inputs: tuple[str, ...], output: str) -> None:
    found = parse(equation, lambda index: (3, 2)[index])
    assert (found.inputs, found.output) == (inputs, output)


@pytest.mark.parametrize("equation", ["...abcd,co->...o", "a.b,bc->ac", "ab,bc->...."])
def test_an_equation_that_makes_no_sense_is_refused(equation: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(equation, lambda _: 3)
    assert refused.value.obstacle.reason is Reason.INVALID_NODE


_MATRIX = constant(np.ones((4, 5)), "W")


@pytest.mark.parametrize(
    ("equation", "order", "out_axis", "in_axis"),
    [
        ("bic,co->bio", "IO", -1, -1),
        ("bic,oc->bio", "OI", -1, -1),
        ("bci,oc->boi", "OI", -2, -2),
        ("cib,co->obi", "IO", -3, -3),
        ("...c,co->...o", "IO", -1, -1),
        ("bic,co", "IO", -1, -1),
    ],
)
def test_a_product_with_one_matrix(equation: str, order: str, out_axis: int, in_axis: int) -> None:
    op = operator("Einsum", data(2, 3, 4), _MATRIX, equation=equation.encode())
    layout = LINEAR["Einsum"](op)
    assert (layout.order, layout.out_axis, layout.in_axis) == (order, out_axis, in_axis)
    channels = (layout.out_channels, layout.in_channels)
    assert channels == ((5, 4) if order == "IO" else (4, 5))


@pytest.mark.parametrize(
    "equation",
    [
        "bic,bc->bic",  # a product element by element
        "bic,co->bo",  # a sum over what the matrix does not have
        "bic,co->bico",  # an outer product
        "bbc,co->bo",  # a diagonal
        "bic,cc->bi",  # that of the matrix
        "bic,de->bic",  # a sum of the matrix alone
    ],
)
def test_any_other_equation_is_refused(equation: str) -> None:
    op = operator("Einsum", data(2, 3, 4), _MATRIX, equation=equation.encode())
    with pytest.raises(Refusal) as refused:
        LINEAR["Einsum"](op)
    assert refused.value.obstacle.reason is Reason.NOT_LINEAR
