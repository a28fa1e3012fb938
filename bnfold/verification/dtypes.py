"""What must be known of element types, bfloat16 and float8 included."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16,
     onnx.TensorProto.BFLOAT16}
)  # fmt: skip
"""The element types of tensors in which networks compute."""

_AT_A_TIME = 1 << 16
"""Elements of large tensors that are looked at together: a processor's cache holds them."""


@cache  # they are few, and asked for of every region
def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Return u of a floating-point dtype: half the distance from 1 to the next number."""
    return float(ml_dtypes.finfo(dtype).eps) / 2  # type: ignore[no-untyped-call]


@cache
def smallest_normal(dtype: np.dtype[Any]) -> float:
    """Return the smallest number of a dtype that has all its digits."""
    return float(ml_dtypes.finfo(dtype).smallest_normal)  # type: ignore[no-untyped-call]


def largest(dtype: np.dtype[Any]) -> float:
    """Return the largest finite number of a dtype."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def is_float(values: Array) -> bool:
    """Tell whether an array holds floating-point or complex numbers."""
    return _is_float(values.dtype)


def _is_float(dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "fc":
        return True
    if dtype.kind in "biuOSU":
        return False
    try:
        ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def wide(value: Array) -> Array:
    """Return numbers in which a difference of two neighbours is exact; other values as they are."""
    if value.dtype.kind == "c":
        return value.astype(np.complex128)
    return value.astype(np.float64) if is_float(value) else value


def wide_stretches(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield arrays of one size flattened, and as `wide` returns them, a few elements at a time."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _AT_A_TIME):
        yield tuple(wide(each[start : start + _AT_A_TIME]) for each in flat)
