"""No single weight escapes, and no correct fold is blamed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from handfold import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from test_probe import probed

from bnfold.verification.dtypes import smallest_normal, unit_roundoff
from bnfold.verification.proof.proportion import Rounding, worst_of

F64 = NDArray[np.float64]
TYPES = [np.dtype(np.float16), np.dtype(np.float32)]


def factors(rng: np.random.Generator, count: int, *, used: bool) -> F64:
    """Factors of any sign, orders of magnitude apart, one of them zero."""
    if not used:
        return np.ones(count)
    made: F64 = rng.choice([-1, 1], count) * 2.0 ** rng.uniform(-4, 4, count)
    made[rng.integers(count)] *= rng.integers(2)
    return made


@st.composite
def folds(draws: st.DrawFn, *, underflow: bool = False) -> tuple[F64, F64, np.dtype[Any]]:
    """A weight (groups, p, q, taps), and what a correct fold makes of it."""
    dtype: np.dtype[Any] = draws(st.sampled_from(TYPES))
    spread = 8 - np.log2(smallest_normal(dtype)) if underflow else 6
    shape = tuple(draws(st.integers(1, most)) for most in (3, 9, 9, 9))
    rng = np.random.default_rng(draws(st.integers(0, 2**32 - 1)))
    weight: NDArray[Any] = (
        rng.standard_normal(shape) * 2.0 ** rng.uniform(-spread, 0, shape)
    ).astype(dtype)
    weight[rng.random(shape) < draws(st.sampled_from([0.0, 0.3]))] = 0
    a = factors(rng, shape[0] * shape[1], used=draws(st.booleans())).reshape(shape[:2])
    b = factors(rng, shape[0] * shape[2], used=draws(st.booleans())).reshape(shape[0], shape[2])
    exact: F64 = weight.astype(np.float64) * a[:, :, None, None] * b[:, None, :, None]
    return weight.astype(np.float64), exact.astype(dtype).astype(np.float64), dtype


def fraction(before: F64, after: F64, dtype: np.dtype[Any]) -> float:
    u, tiny = 1.05 * unit_roundoff(dtype), smallest_normal(dtype)
    with np.errstate(all="ignore"):
        return worst_of(before, after, Rounding(u, u * tiny, tiny))


@pytest.mark.slow
@settings(max_examples=300)
@given(folds() | folds(underflow=True))
def test_a_weight_that_is_rounded_once_is_in_proportion(
    fold: tuple[F64, F64, np.dtype[Any]],
) -> None:
    assert fraction(*fold) <= 1


@pytest.mark.slow
@settings(max_examples=300)
@given(folds(), st.data())
def test_a_single_wrong_weight_is_out_of_proportion(
    fold: tuple[F64, F64, np.dtype[Any]], draws: st.DataObject
) -> None:
    before, after, dtype = fold
    place = tuple(draws.draw(st.integers(0, size - 1)) for size in after.shape)
    u = unit_roundoff(dtype)
    # Of what could a ratio be told? Of a kernel with another tap, or of a matrix with other
    # rows and columns, where they are neither dead nor too small.
    alive = np.abs(after[place[0]]) > 2 * smallest_normal(dtype)
    alone = alive[place[1], place[2]].sum() < 2
    in_row = alive[place[1]].any(-1).sum() > 2
    in_column = alive[:, place[2]].any(-1).sum() > 2
    if not alive[place[1:]] or (alone and not (in_row and in_column and alive.any(-1).all())):
        return
    after = after.copy()
    after[place] *= 1 + 12 * u
    assert fraction(before, after, dtype) > 1


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_small_weights_of_half_precision_have_no_slack(size: float) -> None:
    """Told nothing, a number too small for all its digits may have been taken for zero."""
    half = np.dtype(np.float16)
    tiny = smallest_normal(half)
    rounding = Rounding(4 * unit_roundoff(half), tiny, tiny)
    rng = np.random.default_rng(0)
    before = rng.uniform(0.5, 1, (1, 4, 64, 9)) * size
    before[0, :, 0, 0] = tiny * 1.9
    before = before.astype(half).astype(np.float64)
    after = (before * 0.5).astype(half).astype(np.float64)
    flushed, wrong = after.copy(), after.copy()
    flushed[0, :, 0, 0] = 0
    wrong[0, 2, 9, 3] *= 1 + 24 * unit_roundoff(half)
    for outputs_only in (False, True):
        assert worst_of(before, after, rounding, outputs_only=outputs_only) <= 1
        assert worst_of(before, flushed, rounding, outputs_only=outputs_only) <= 1
        assert worst_of(before, wrong, rounding, outputs_only=outputs_only) > 1


def nudge(place: tuple[int, ...]) -> Callable[[NDArray[np.float32]], None]:
    def change(weight: NDArray[np.float32]) -> None:
        weight[place] *= np.float32(1.001)

    return change


def lost_zero(weight: NDArray[np.float32]) -> None:
    weight[3, 2, 1, 1] = 1e-6


def model(*, folded: bool, change: Callable[[NDArray[np.float32]], None] | None) -> onnx.ModelProto:
    """A convolution with weights orders of magnitude apart, and a factor per channel."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 64, 5, 5)) * 10.0 ** rng.uniform(-3, 0, (8, 64, 5, 5))
    weight[3, 2, 1, 1] = 0
    weight = weight.astype(np.float32).astype(np.float64)
    factor = (np.arange(8) + 0.3).astype(np.float32).astype(np.float64)
    net = Builder(rng)
    if folded:
        made = (weight * factor[:, None, None, None]).astype(np.float32)
        if change is not None:
            change(made)
        net.node("Conv", ["x", net.weight("W", made)], "y", pads=[2] * 4)
    else:
        net.node("Conv", ["x", net.weight("W", weight)], "c", pads=[2] * 4)
        net.node("Mul", ["c", net.weight("f", factor.reshape(8, 1, 1))], "y")
    return net.model([1, 64, None, None], "y")


def test_factors_that_no_number_connects_tell_nothing_of_each_other() -> None:
    """Two blocks, and between them numbers too small for a ratio."""
    small = 1e-40
    before = np.asarray([[1.0, small], [small, 1.0]]).reshape(1, 2, 2, 1)
    after = before * np.asarray([2.0, 0.001])[:, None, None] * np.asarray([1.0, 3.0])[:, None]
    assert fraction(before, after.astype(np.float32).astype(np.float64), np.dtype("f4")) <= 1


def test_an_identity_that_a_convolution_took_up_is_no_wrong_weight() -> None:
    """Conv(x) + x is a convolution, whose weight is not the other's times anything."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 4, 1, 1)).astype(np.float32)
    old, new = Builder(rng), Builder(rng)
    old.node("Conv", ["x", old.weight("W", weight)], "c")
    old.node("Add", ["c", "x"], "y")
    new.node("Conv", ["x", new.weight("W", weight + np.eye(4)[:, :, None, None])], "y")
    models = [net.model([1, 4, None, None], "y") for net in (old, new)]
    assert probed(*models, tight=False).held


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize(
    "change", [nudge((0, 0, 0, 0)), nudge((5, 33, 4, 4)), nudge((7, 63, 2, 2)), lost_zero]
)
def test_a_single_weight_of_a_large_kernel(
    change: Callable[[NDArray[np.float32]], None], *, tight: bool
) -> None:
    old = model(folded=False, change=None)
    assert probed(old, model(folded=True, change=None), tight=tight).held
    found = probed(old, model(folded=True, change=change), tight=tight)
    assert not found.held
    weight = numpy_helper.to_array(old.graph.initializer[0])
    assert weight.size == 8 * 64 * 25
