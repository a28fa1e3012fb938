"""The equation of an Einsum, and which are products with one matrix."""

from __future__ import annotations

import numpy as np
import pytest
from operators import constant, data, operator

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
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
    ("equation", "weight", "out_axes", "in_axes", "channels"),
    [
        ("bic,co->bio", (4, 5), (-1,), (-1,), (5, 4)),
        ("bic,oc->bio", (4, 5), (-1,), (-1,), (4, 5)),
        ("bci,oc->boi", (4, 5), (-2,), (-2,), (4, 5)),
        ("cib,co->obi", (4, 5), (-3,), (-3,), (5, 4)),
        ("...c,co->...o", (4, 5), (-1,), (-1,), (5, 4)),
        ("bic,co", (4, 5), (-1,), (-1,), (5, 4)),
        ("bnd,hdk->bhnk", (3, 4, 5), (-3, -1), (-1,), (15, 4)),
        ("bhd,hdk->bkh", (3, 4, 5), (-1, -2), (-2, -1), (15, 12)),
        ("bhd,hdo->bo", (3, 4, 5), (-1,), (-2, -1), (5, 12)),
        ("bhd,hd->bh", (3, 4), (-1,), (-2, -1), (3, 12)),
    ],
)
def test_a_product_with_one_weight(
    equation: str,
    weight: tuple[int, ...],
    out_axes: tuple[int, ...],
    in_axes: tuple[int, ...],
    channels: tuple[int, int],
) -> None:
    w = constant(np.random.default_rng(0).normal(size=weight), "W")
    op = operator("Einsum", data(2, 3, 4), w, equation=equation.encode())
    layout = LINEAR["Einsum"](op)
    assert layout.lettered is not None
    assert (layout.out_axes, layout.lettered.in_axes) == (out_axes, in_axes)
    assert (layout.out_channels, layout.in_channels) == channels


HEADS = [
    "bnd,hdk->bhnk", "bhd,dhk->bkh", "bhd,hdo->bo", "bhd,hd->bh", "dbh,khd->bhk", "bde,edo->ob",
]  # fmt: skip
LENGTHS = {"b": 2, "n": 3, "d": 4, "h": 5, "k": 3, "o": 2, "e": 3}
DOUBLED = np.array([1.0, 2.0])


@pytest.mark.parametrize("equation", HEADS)
def test_affines_of_all_its_channels_go_into_a_weight(equation: str) -> None:
    dice, letters = np.random.default_rng(1), parse(equation, lambda _: 0)
    x, w = (dice.normal(size=[LENGTHS[c] for c in term]) for term in letters.inputs)
    op = operator("Einsum", data(*x.shape), constant(w, "W"), equation=equation.encode())
    layout = LINEAR["Einsum"](op)
    assert layout.lettered is not None
    y = np.einsum(equation, x, w)
    outs, ins = (
        Affine.of(*dice.normal(size=(2, *(n if axis - rank in axes else 1 for axis, n in lengths))))
        for rank, axes, lengths in (
            (y.ndim, layout.out_axes, list(enumerate(y.shape))),
            (x.ndim, layout.lettered.in_axes, list(enumerate(x.shape))),
        )
    )
    s, t = layout.output_vectors(outs)
    q, r = layout.input_vectors(ins)
    new = w * layout.factor(s, q, w.ndim)
    bias = layout.as_bias(s * layout.response(w, r) + t)
    wanted = outs.apply(np.einsum(equation, ins.apply(x), w))
    np.testing.assert_allclose(np.einsum(equation, x, new) + bias, wanted, rtol=1e-12)
    with pytest.raises(Refusal):
        layout.output_vectors(Affine.along(letters.output.index("b"), y.ndim, DOUBLED, DOUBLED))


_NO_SUM, _NO_PRODUCT = "sums over no axis of its weight", "is no product with one weight"


@pytest.mark.parametrize(
    ("equation", "what_it_lacks"),
    [
        ("bic,bc->bic", _NO_SUM),  # a product element by element
        ("bic,co->bo", _NO_PRODUCT),  # a sum over what the matrix does not have
        ("bic,co->bico", _NO_SUM),  # an outer product
        ("bbc,co->bo", _NO_PRODUCT),  # a diagonal
        ("bic,cc->bi", _NO_PRODUCT),  # that of the matrix
        ("bic,de->bic", _NO_PRODUCT),  # a sum of the matrix alone
    ],
)
def test_any_other_equation_is_refused(equation: str, what_it_lacks: str) -> None:
    op = operator("Einsum", data(2, 3, 4), _MATRIX, equation=equation.encode())
    with pytest.raises(Refusal) as refused:
        LINEAR["Einsum"](op)
    assert refused.value.obstacle.reason is Reason.NOT_LINEAR
    assert refused.value.obstacle.detail == f"{equation} {what_it_lacks}"
