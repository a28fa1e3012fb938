"""Scaled weights, against numpy's float64."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from handmade import FLOATS, model, save_external
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold.files import FoldOverflow, NotFinite, Scaled, from_proto, open_model, scaled

Array = NDArray[np.generic]


def product(scaled_tensor: Scaled, dtype: type) -> Array:
    data = b"".join(bytes(block) for block in scaled_tensor.blocks())
    return np.frombuffer(data, dtype).reshape(scaled_tensor.dims)


@given(st.data(), st.sampled_from(FLOATS), st.integers(1, 7))
def test_the_product_is_rounded_once_whatever_the_blocks(
    data: st.DataObject, dtype: type, elements: int
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    aligned = data.draw(hnp.broadcastable_shapes(shape, max_dims=len(shape), max_side=5))
    if np.broadcast_shapes(shape, aligned) != shape:
        aligned = shape
    rng = np.random.default_rng(0)
    weight: Array = rng.standard_normal(shape).astype(dtype)
    factor = rng.standard_normal(aligned)
    opened = from_proto(model([numpy_helper.from_array(weight, "w")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaled, "ELEMENTS", elements)
        recipe = Scaled(opened, opened.proto.graph.initializer[0], factor)
        made = product(recipe, dtype)
    expected: Array = (weight.astype(np.float64) * factor).astype(dtype)
    assert made.tobytes() == expected.tobytes()
    assert recipe.dims == shape
    assert recipe.data_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize("shape", [(300, 70, 3, 3), (3, 200_000), (1, 1, 130_000), (200_000, 2)])
@pytest.mark.parametrize("axis", [0, 1])
def test_large_weights_are_read_piece_by_piece(
    tmp_path: Path, shape: tuple[int, ...], axis: int
) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(shape).astype(np.float32)
    factor = rng.random([n if k == axis else 1 for k, n in enumerate(shape)])
    made = model([numpy_helper.from_array(weight, "w")])
    inline, external = tmp_path / "inline.onnx", tmp_path / "external.onnx"
    inline.write_bytes(made.SerializeToString())
    save_external(made, external)
    for path in (inline, external):
        with open_model(path) as opened:
            recipe = Scaled(opened, opened.proto.graph.initializer[0], factor)
            assert max(len(b) for b in recipe.blocks()) <= scaled.ELEMENTS * 4
            assert np.array_equal(product(recipe, np.float32), (weight * factor).astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "weight", "factor"),
    [
        (np.float16, 60000, 2.0),
        (np.float32, 1e38, 10.0),
        (np.float64, 1e308, 10.0),
        (ml_dtypes.bfloat16, 1e38, 10.0),
        (np.float32, 1.0, np.inf),
        (np.float32, 1.0, np.nan),
    ],
)
def test_a_weight_that_becomes_too_large_is_refused_by_name(
    dtype: type, weight: float, factor: float
) -> None:
    values: Array = np.array([1, weight, -1], dtype)
    opened = from_proto(model([numpy_helper.from_array(values, "too_large")]))
    recipe = Scaled(opened, opened.proto.graph.initializer[0], np.array([factor]))
    with pytest.raises(FoldOverflow, match="too_large"):
        list(recipe.blocks())


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    values = np.array([1, bad], np.float32)
    opened = from_proto(model([numpy_helper.from_array(values, "w")]))
    recipe = Scaled(opened, opened.proto.graph.initializer[0], np.array([2.0]), node=7)
    with pytest.raises(NotFinite, match="tensor 'w' holds NaN or infinity") as refused:
        product(recipe, np.float32)
    assert refused.value.node == 7


def test_what_is_small_may_vanish_without_a_warning() -> None:
    values = np.array([1e-30], np.float32)
    opened = from_proto(model([numpy_helper.from_array(values, "w")]))
    recipe = Scaled(opened, opened.proto.graph.initializer[0], np.array([1e-30]))
    assert product(recipe, np.float32) == [0]


def test_a_signalling_nan_is_no_warning() -> None:
    stored = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    stored.raw_data = bytes.fromhex("0000a07f") + bytes(4)
    opened = from_proto(model([stored]))
    recipe = Scaled(opened, opened.proto.graph.initializer[0], np.array([2.0]))
    with pytest.raises(NotFinite):
        product(recipe, np.float32)
