"""Sums over very many batches."""

import math

import numpy as np

from bnfold.statistics.moments import Moments


def test_nothing_is_lost_over_many_vectors() -> None:
    """The values lie far from zero and close together, where sums of squares would cancel."""
    rng = np.random.default_rng(0)
    values = 1e6 + rng.normal(size=200_000) * 1e-3
    moments = Moments()
    for value in values:
        moments.add(np.array([value]))
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    assert moments.count == len(values)
    np.testing.assert_allclose(moments.mean[0], mean, rtol=1e-14)
    error = moments.standard_error()
    assert error is not None
    np.testing.assert_allclose(error[0], spread / math.sqrt(len(values)), rtol=1e-6)


def test_a_single_vector_has_no_error() -> None:
    moments = Moments()
    moments.add(np.array([1.0, 2.0]))
    assert moments.standard_error() is None
