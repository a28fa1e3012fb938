"""What a weight loses as int8, against the definition written out in numpy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from ml_dtypes import bfloat16

from bnfold.rules.affine import F64
from bnfold.rules.int8 import Spread, int8


def quantized(weight: F64, axis: int | None) -> F64:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=None if axis is None else others, keepdims=True)
    step = np.where(largest > 0, largest, 1) / 127
    return np.asarray(np.round(weight / step) * step)


def decibels(weight: F64, axis: int | None) -> float:
    noise = np.square(weight - quantized(weight, axis)).sum()
    return 10 * math.log10(np.square(weight).sum() / noise) if noise else math.inf


NUMBERS = st.floats(-4, 4).filter(lambda x: x == 0 or abs(x) > 1e-3)


@given(st.data())
def test_it_is_the_definition(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=1, max_dims=4, max_side=5))
    weight = data.draw(arrays(np.float64, shape, elements=NUMBERS))
    axis = data.draw(st.integers(0, len(shape) - 1))
    found = int8(weight, axis)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    assert (found.ranges == np.abs(weight).max(axis=others)).all()
    for ours, along in ((found.per_tensor, None), (found.per_channel, axis)):
        true = decibels(weight, along)
        # What is within a rounding of a whole step is lost in float64, too.
        assert ours == pytest.approx(true, abs=1e-6) or min(ours, true) > 200


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float16, bfloat16, np.float32, np.float64])
def test_large_ones_are_measured_piece_by_piece(dtype: np.dtype[np.generic], axis: int) -> None:
    draw = np.random.default_rng(1)
    weight = (draw.normal(size=(90, 70, 30)) * draw.lognormal(size=(90, 70, 1))).astype(dtype)
    wide, found = weight.astype(np.float64), int8(weight, axis)
    assert found.per_tensor == pytest.approx(decibels(wide, None), abs=0.1)
    assert found.per_channel == pytest.approx(decibels(wide, axis), abs=0.1)
    others = tuple(i for i in range(3) if i != axis)
    assert (found.ranges == np.abs(wide).max(axis=others)).all()


def test_nothing_is_lost_of_one_number_a_channel() -> None:
    weight = np.asarray([[0.3], [0.0], [-7.1]], np.float32)
    found = int8(weight, 0)
    assert found.per_channel == math.inf
    assert found.per_tensor < 60
    assert int8(np.zeros((2, 3), np.float32), 0).per_tensor == math.inf


def test_a_factor_of_output_channels_changes_nothing_per_channel() -> None:
    weight = np.random.default_rng(2).normal(size=(6, 50)).astype(np.float32)
    spread = weight * np.float32(2.0) ** np.arange(6, dtype=np.float32)[:, None]
    before, after = int8(weight, 0), int8(spread, 0)
    # Weighted by the channels' energy: each channel by itself loses what it lost.
    assert after.per_channel == pytest.approx(before.per_channel, abs=0.5)
    assert after.per_tensor < before.per_tensor + 1
    np.testing.assert_allclose(after.ranges, before.ranges * 2.0 ** np.arange(6), rtol=1e-7)


def test_each_channel_counts_as_its_output_does() -> None:
    draw = np.random.default_rng(4)
    weight = draw.normal(size=(6, 40)) * np.geomspace(1, 100, 6)[:, None]
    variances = draw.uniform(0.5, 2, 6)
    found = Spread.of(weight, 0).counting(variances).int8()
    lost = np.square(weight - quantized(weight, None)).sum(axis=1) / np.square(weight).sum(axis=1)
    true = 10 * math.log10(variances.sum() / (variances * lost).sum())
    assert found.per_tensor == pytest.approx(true, abs=1e-6)
    assert found.per_tensor < int8(weight, 0).per_tensor - 10


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e25, 3e38])
def test_very_large_and_very_small_numbers_are_measured(size: float) -> None:
    weight = (np.random.default_rng(3).uniform(-1, 1, (4, 30)) * size).astype(np.float32)
    assert int8(weight, 0).per_tensor == pytest.approx(
        decibels(weight.astype(np.float64), None), abs=0.01
    )


@pytest.mark.parametrize("size", [math.nan, math.inf])
def test_what_is_no_number_has_no_ratio(size: float) -> None:
    weight = np.asarray([[0.3, size], [0.1, 0.2]], np.float32)
    assert math.isnan(int8(weight, 0).per_tensor)


def test_a_weight_times_factors_of_its_channels_need_not_be_made() -> None:
    draw = np.random.default_rng(2)
    weight, factor = draw.normal(size=(3, 4, 2)), draw.normal(size=(1, 4, 1))
    spread = Spread.of(weight, 1).times(factor, 1)
    assert spread is not None
    made = int8(weight * factor, 1)
    assert spread.int8().per_tensor == pytest.approx(made.per_tensor)
    assert spread.int8().per_channel == pytest.approx(made.per_channel)
    assert Spread.of(weight, 1).times(draw.normal(size=(3, 4, 1)), 1) is None
