"""Converting between a tensor's bytes, as ONNX stores them, and its numbers."""

import sys
from collections.abc import Iterable
from functools import cache
from math import prod
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import ModelError, first_sentence
from bnfold.limits import RANK

LARGEST: Final = sys.maxsize
"""No tensor can have more bytes than an address can count."""

SMALL: Final = 1024
"""Tensors of fewer bytes are put into the model rather than a data file, as onnx does it."""

_NARROW: Final = {
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
}
"""The element types that share bytes, by name (some are newer than the oldest onnx we run on)."""


@cache
def bits(data_type: int) -> int | None:
    """Return how many bits an element takes, None for types without a fixed width."""
    values = onnx.TensorProto.DataType
    if data_type not in values.values() or data_type in (values.Value("UNDEFINED"), 8):  # 8: STRING
        return None
    name = values.Name(data_type)
    if name in _NARROW:
        return _NARROW[name]
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


@cache
def _is_packed(data_type: int) -> bool:
    return onnx.TensorProto.DataType.Name(data_type) in _NARROW


@cache
def _dtype(data_type: int) -> np.dtype[np.generic]:
    return onnx.helper.tensor_dtype_to_np_dtype(data_type)


def require_rank(rank: int, what: str) -> None:
    """Raise `ModelError` if `what` has more axes than an array can have."""
    if rank > RANK:
        raise ModelError(f"{what} has {rank} dimensions; no array has more than {RANK}")


def byte_count(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the elements of `tensor` take.

    Raises:
        ModelError: The tensor has no such number, or one that no machine could hold.
    """
    width = bits(tensor.data_type)
    if width is None:
        raise ModelError(f"tensor {tensor.name!r} has bytes of element type {tensor.data_type}")
    dims = tuple(tensor.dims)
    if len(dims) > RANK:
        require_rank(len(dims), f"tensor {tensor.name!r}")
    if dims and min(dims) < 0:
        raise ModelError(f"tensor {tensor.name!r} has a negative dimension")
    size: int = (prod(dims) * width + 7) // 8
    if size > LARGEST:
        raise ModelError(f"tensor {tensor.name!r} is larger than any memory: {list(dims)}")
    return size


def decode(tensor: onnx.TensorProto, data: memoryview) -> NDArray[np.generic]:
    """Return `data` as the numbers of `tensor`, which gives the type and the shape.

    Raises:
        ModelError: There are fewer or more bytes than the shape says.
    """
    expected, data_type = byte_count(tensor), tensor.data_type
    if len(data) != expected:
        raise ModelError(f"tensor {tensor.name!r} has {len(data)} bytes, not {expected}")
    if _is_packed(data_type):
        packed = onnx.TensorProto(
            dims=tensor.dims, data_type=tensor.data_type, raw_data=bytes(data)
        )
        return onnx.numpy_helper.to_array(packed)
    values = np.frombuffer(data, _dtype(data_type))
    if sys.byteorder == "big":
        values = values.byteswap()
    return values.reshape(tuple(tensor.dims))


def widen(tensor: onnx.TensorProto, blocks: Iterable[memoryview]) -> NDArray[np.float64]:
    """Return the numbers of a floating-point tensor in float64, without a copy in its own type.

    Args:
        tensor: Gives the type and the shape.
        blocks: As many bytes as these say, in pieces of whole numbers.
    """
    wide = np.empty(tuple(tensor.dims), np.float64)
    flat, done = wide.reshape(-1), 0
    for block in blocks:
        count = len(block) * 8 // (bits(tensor.data_type) or 8)
        piece = onnx.TensorProto(data_type=tensor.data_type, dims=[count])
        flat[done : done + count] = decode(piece, block)
        done += count
    return wide


def decode_inline(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    """Return the numbers of a tensor that holds them itself, in whichever field.

    Raises:
        ModelError: They are not as many as the shape says, or of no known type.
    """
    if tensor.HasField("raw_data"):
        return decode(tensor, memoryview(tensor.raw_data))
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has a negative dimension")
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError(
            f"tensor {tensor.name!r} cannot be read: {first_sentence(error)}"
        ) from error


def encode(values: NDArray[np.generic]) -> memoryview:
    """Return the bytes that ONNX stores for `values`: little-endian, in C order."""
    data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    if _is_packed(data_type):
        return memoryview(onnx.numpy_helper.from_array(values).raw_data)
    contiguous = np.ascontiguousarray(values)
    if sys.byteorder == "big":
        contiguous = contiguous.byteswap()
    return contiguous.reshape(-1).view(np.uint8).data
