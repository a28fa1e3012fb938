"""Orders of axes: what numpy's transpose does."""

from __future__ import annotations

import numpy as np
import pytest
from dice import Dice
from operators import data, operator

from bnfold.rules.affine import Affine
from bnfold.rules.orders import ORDER, Order


@pytest.mark.parametrize("seed", range(20))
def test_one_order_after_another(seed: int) -> None:
    dice = Dice("orders", seed)
    x = dice.numbers((2, 3, 4, 5))
    first, second = (
        Order.of(tuple(map(int, np.random.default_rng(2 * seed + i).permutation(4))))
        for i in range(2)
    )
    once = x.transpose(first.axes or range(4))
    twice = once.transpose(second.axes or range(4))
    both = first.then(second)
    assert twice.shape == both.of_shape(x.shape)
    np.testing.assert_array_equal(x.transpose(both.axes or range(4)), twice)
    affine = Affine.along(2, 4, dice.numbers((4,)), dice.numbers((4,)))
    made = both.down(affine)
    expected = affine.apply(x).transpose(both.axes or range(4))
    np.testing.assert_array_equal(made.apply(twice), expected)
    np.testing.assert_array_equal(both.up(made).scale, affine.scale)


def test_what_makes_up_for_another_leaves_all_in_place() -> None:
    assert Order((0, 2, 3, 1)).then(Order((0, 3, 1, 2))) == Order() == Order.of((0, 1, 2))


def test_a_transpose_states_its_order_or_turns_all_axes_round() -> None:
    x = data(2, 3, 4)
    assert ORDER["Transpose"](operator("Transpose", x, perm=(0, 2, 1))) == Order((0, 2, 1))
    assert ORDER["Transpose"](operator("Transpose", x)) == Order((2, 1, 0))
