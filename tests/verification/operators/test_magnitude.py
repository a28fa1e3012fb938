"""Magnitudes of operators where a number is infinite."""

import numpy as np
import pytest
from onnx import helper
from test_kernels import ELEMENTWISE

from bnfold.verification.operators.evaluate import track
from bnfold.verification.operators.magnitude import Tracked, exact


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-np.inf, 6.0), (-np.inf, np.inf)])
def test_an_infinite_bound_of_a_clip_makes_no_magnitude_infinite(low: float, high: float) -> None:
    values = np.array([-3.0, 0.5, 8.0])
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    bounds = [exact(np.asarray(bound)) for bound in (low, high)]
    (made,) = track(node, {"": 17}, [Tracked(values, 2 * np.abs(values)), *bounds])
    assert np.array_equal(made.value, np.clip(values, low, high))
    assert np.isfinite(made.magnitude).all()
    assert (made.magnitude >= np.abs(made.value)).all()


@pytest.mark.parametrize("op_type", ELEMENTWISE)
def test_a_magnitude_is_no_less_than_what_an_error_becomes(op_type: str) -> None:
    x, error = np.linspace(-12, 12, 4001), 1e-6
    node = helper.make_node(op_type, ["x"], ["y"])
    (made,), (moved,) = (
        track(node, {"": 20}, [Tracked(x + e, np.ones_like(x))]) for e in (0, error)
    )
    assert (np.abs(moved.value - made.value) <= error * made.magnitude).all()
