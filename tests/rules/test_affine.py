"""The laws of channel affines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine

_RANK = 3
_SIZES = st.tuples(*[st.integers(1, 4)] * _RANK)
_NUMBERS = st.floats(-8, 8, allow_subnormal=False, width=32)
_RTOL = 1e-12

laws = settings(max_examples=60)


@st.composite
def affines(draw: st.DrawFn, sizes: tuple[int, ...]) -> Affine:
    shape = tuple(draw(st.sampled_from([1, size])) for size in sizes)
    values = hnp.arrays(np.float64, shape, elements=_NUMBERS)
    return Affine.of(draw(values), draw(values))


@st.composite
def several(draw: st.DrawFn, count: int) -> tuple[Affine, ...]:
    """Affines of one tensor."""
    sizes = draw(_SIZES)
    return tuple(draw(affines(sizes)) for _ in range(count))


def _tensor(*acting: Affine) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Some numbers, of the shape that the affines act on."""
    shape = np.broadcast_shapes(*(affine.scale.shape for affine in acting))
    return np.linspace(-2, 3, int(np.prod(shape))).reshape(shape)


@laws
@given(several(1))
def test_the_identity_changes_nothing(made: tuple[Affine]) -> None:
    (a,) = made
    identity = Affine.identity(_RANK)
    x = _tensor(a)
    assert identity.is_identity
    np.testing.assert_array_equal(identity.apply(x), x)
    for composed in (identity.then(a), a.then(identity)):
        np.testing.assert_array_equal(composed.apply(x), a.apply(x))


@laws
@given(several(2))
def test_composition_is_application_one_after_the_other(made: tuple[Affine, Affine]) -> None:
    a, b = made
    x = _tensor(a, b)
    np.testing.assert_allclose(
        a.then(b).apply(x), b.apply(a.apply(x)), rtol=_RTOL, atol=1e-12 * 8**3
    )


@laws
@given(several(3))
def test_composition_is_associative(made: tuple[Affine, Affine, Affine]) -> None:
    a, b, c = made
    left, right = a.then(b).then(c), a.then(b.then(c))
    x = _tensor(a, b, c)
    np.testing.assert_allclose(left.apply(x), right.apply(x), rtol=_RTOL, atol=1e-12 * 8**4)


@laws
@given(several(1))
def test_the_inverse_undoes(made: tuple[Affine]) -> None:
    (a,) = made
    assume(np.abs(a.scale).min() > 1e-3)
    x = _tensor(a)
    np.testing.assert_allclose(a.inverse().apply(a.apply(x)), x, atol=1e-9)
    np.testing.assert_allclose(a.apply(a.inverse().apply(x)), x, atol=1e-9)


def test_nothing_undoes_a_scale_of_zero() -> None:
    with pytest.raises(Refusal) as caught:
        Affine.uniform(0.0, 1.0, 2).inverse()
    assert caught.value.obstacle.reason is Reason.NEEDS_POSITIVE_SCALE


@laws
@given(several(1), st.data())
def test_take_is_what_a_gather_does(made: tuple[Affine], data: st.DataObject) -> None:
    (a,) = made
    x = _tensor(a)
    axis = data.draw(st.integers(0, _RANK - 1))
    chosen = data.draw(st.lists(st.integers(0, x.shape[axis] - 1), min_size=1, max_size=6))
    source = np.asarray(chosen)
    taken = a.take(axis, source)
    np.testing.assert_array_equal(taken.apply(x.take(source, axis)), a.apply(x).take(source, axis))


@laws
@given(several(1), st.data())
def test_scatter_is_what_take_undoes(made: tuple[Affine], data: st.DataObject) -> None:
    (a,) = made
    axis = data.draw(st.integers(0, _RANK - 1))
    count = a.scale.shape[axis]
    size = data.draw(st.integers(count, count + 3))
    target = np.asarray(data.draw(st.permutations(range(size)))[:count])
    scattered = a.scatter(axis, target, size)
    assert scattered.take(axis, target).same(a)
    if count > 1:
        rest = np.setdiff1d(np.arange(size), target)
        if rest.size and scattered.scale.shape[axis] > 1:
            assert scattered.take(axis, rest).is_identity


def test_positions_that_disagree_cannot_go_to_one_target() -> None:
    a = Affine.along(0, 1, np.asarray([1.0, 2.0]), np.zeros(2))
    with pytest.raises(Refusal) as caught:
        a.scatter(0, np.asarray([0, 0]), 1)
    assert caught.value.obstacle.reason is Reason.CHANNELS_MIX


def test_positions_that_agree_go_to_one_target() -> None:
    a = Affine.along(0, 1, np.asarray([2.0, 3.0, 2.0]), np.asarray([1.0, 0.0, 1.0]))
    scattered = a.scatter(0, np.asarray([0, 1, 0]), 2)
    np.testing.assert_array_equal(scattered.scale, [2, 3])
    np.testing.assert_array_equal(scattered.shift, [1, 0])


@laws
@given(several(1))
def test_needless_extents_are_dropped(made: tuple[Affine]) -> None:
    (a,) = made
    wide = Affine.of(*(np.broadcast_to(v, _tensor(a).shape) for v in (a.scale, a.shift)))
    assert wide.same(a)
    assert wide.scale.shape == a.scale.shape
    for axis in a.axes:
        first = a.take(axis, np.zeros(a.scale.shape[axis], np.intp))
        assert not np.array_equal(a.scale, np.broadcast_to(first.scale, a.scale.shape)) or not (
            np.array_equal(a.shift, np.broadcast_to(first.shift, a.shift.shape))
        )


@laws
@given(several(2))
def test_same_is_as_strict_as_rounding_allows(made: tuple[Affine, Affine]) -> None:
    a, b = made
    assert a.same(a)
    assert a.same(b) == b.same(a)
    # Away from zero: added to a scale of -1, the same would cancel what it grew by.
    grown = Affine.of(a.scale * (1 + 1e-9) + np.copysign(1e-9, a.scale), a.shift)
    assert not a.same(grown)


def test_vectors_are_laid_along_the_axis() -> None:
    a = Affine.along(1, 3, np.asarray([2.0, 3.0]), np.asarray([5.0, 7.0]))
    scale, shift = a.vectors(1, 2)
    assert scale.tolist() == [2, 3]
    assert shift.tolist() == [5, 7]


def test_a_uniform_affine_has_vectors_of_any_size() -> None:
    scale, shift = Affine.uniform(2.0, 3.0, 4).vectors(2, 3)
    assert scale.tolist() == [2, 2, 2]
    assert shift.tolist() == [3, 3, 3]


@pytest.mark.parametrize(("axis", "size"), [(0, 2), (1, 3)])
def test_there_are_no_vectors_along_another_axis_or_of_another_size(axis: int, size: int) -> None:
    a = Affine.along(1, 3, np.asarray([2.0, 3.0]), np.zeros(2))
    with pytest.raises(Refusal) as caught:
        a.vectors(axis, size)
    assert caught.value.obstacle.reason is Reason.OTHER_AXIS


@pytest.mark.parametrize(
    ("scale", "shift", "properties"),
    [
        (1.0, 0.0, "identity positive finite"),
        (2.0, 0.0, "scale positive finite"),
        (1.0, 3.0, "shift positive finite"),
        (-1.0, 0.0, "scale finite"),
        (0.0, 0.0, "scale finite"),
        (np.inf, 0.0, "scale positive"),
        (1.0, np.nan, "shift positive"),
    ],
)
def test_what_an_affine_is(scale: float, shift: float, properties: str) -> None:
    a = Affine.uniform(scale, shift, 2)
    found = {
        "identity": a.is_identity,
        "scale": a.has_scale,
        "shift": a.has_shift,
        "positive": a.is_positive,
        "finite": a.is_finite,
    }
    assert {name for name, holds in found.items() if holds} == set(properties.split())


def test_what_does_not_fit_is_refused_and_no_mistake() -> None:
    wide, wider = (Affine.of(np.arange(1.0, n + 1)[None], np.zeros((1, n))) for n in (2, 3))
    with pytest.raises(Refusal) as caught:
        wide.then(wider)
    assert caught.value.obstacle.reason is Reason.INVALID_NODE
