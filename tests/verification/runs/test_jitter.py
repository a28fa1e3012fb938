from typing import Any

import ml_dtypes
import numpy as np
import pytest
from handfold import network
from onnx import helper, numpy_helper

from bnfold.files.opened import from_proto
from bnfold.verification.dtypes import Array, unit_roundoff
from bnfold.verification.runs.jitter import jittered, jittered_feeds, jittered_weights


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_elements_move_by_an_ulp_at_most(dtype: type[Any]) -> None:
    rng = np.random.default_rng(0)
    values: Array = rng.standard_normal(1000).astype(dtype)
    moved = jittered(values, rng)
    relative = np.abs(moved.astype(float) / values.astype(float) - 1)
    assert moved.dtype == values.dtype
    assert 0 < np.count_nonzero(relative) < 1000
    assert relative.max() <= 4.1 * unit_roundoff(values.dtype)


def test_overridable_weights_go_with_the_feed() -> None:
    model = network(0)
    model.graph.input.append(helper.make_tensor_value_info("c0.b", 1, [8]))
    own, overridable = jittered_weights(from_proto(model), 0)
    assert list(overridable) == ["c0.b"]
    assert len(own) == len(model.graph.initializer) - 1


def test_integers_stay() -> None:
    pixels = np.arange(64, dtype=np.float32)
    feed = {"i": np.arange(3), "x": pixels + 0.5, "w": pixels, "s": [np.ones(1)]}
    moved = jittered_feeds(feed, 0)
    assert moved["i"] is feed["i"]
    assert moved["s"] is feed["s"]
    assert moved["w"] is feed["w"]
    assert (moved["x"] != feed["x"]).any()


def test_an_exponent_stays() -> None:
    model = network(0)
    model.graph.initializer.append(numpy_helper.from_array(np.full(64, 2.0, np.float32), "two"))
    model.graph.node.append(helper.make_node("Pow", ["x", "two"], ["squared"]))
    own, _ = jittered_weights(from_proto(model), 0)
    assert "two" not in own
