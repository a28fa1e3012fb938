"""How much memory computing one node may take: ONNX says how large its outputs are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import first_sentence
from bnfold.limits import ELEMENTWISE

_BY_ARRAYS: Final = frozenset(
    {"Abs", "Add", "And", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "Concat",
     "ConstantOfShape", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten",
     "Floor", "Gather", "Gemm", "Greater", "Identity", "Less", "Log", "MatMul", "Max", "Min",
     "Mul", "Neg", "Not", "Or", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1",
     "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
     "ReduceSumSquare", "Relu", "Reshape", "Round", "Sigmoid", "Sign", "Slice", "Softmax", "Split",
     "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"}
)  # fmt: skip
"""Operators that the reference evaluator computes with whole arrays, in memory of the size of
what they read and make."""


_NO_LARGER: Final = frozenset(
    {"Abs", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Erf", "Exp", "Flatten", "Floor",
     "Identity", "Log", "Neg", "Not", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin",
     "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "Sigmoid", "Sign", "Slice", "Softmax",
     "Split", "Sqrt", "Squeeze", "Tanh", "Transpose", "Trilu", "Unsqueeze"}
)  # fmt: skip
"""Operators of those whose outputs have no more elements than all that they read."""


_WIDEST: Final = 16
"""Bytes of an element of the widest type."""


_MEASURING: Final = frozenset({"Shape", "Size"})
"""Operators that see how large a tensor is, and none of its elements."""


_AS_LARGE_AS_READ: Final = frozenset({"Compress", "NonZero", "Reshape", "Unique"})
"""Operators of whose output ONNX does not tell the size, but which is no larger than the rank
times the input's."""


_FILLING: Final = "ConstantOfShape"
"""Its input says how large its output is."""


_TOLD: Final = 1 << 10
"""Elements; shapes, sizes and amounts are smaller, and what is larger tells no shape."""


class TooLargeError(Exception):
    """What a node would compute is too large; the text says how large, or that it is unknown."""


def require_computable(
    node: onnx.NodeProto, opset: int, inputs: Sequence[NDArray[np.generic] | None], room: int
) -> None:
    """Refuse a node whose outputs are too large, or of unknown size, for these inputs.

    Args:
        node: A node of the default domain, without subgraphs.
        opset: The version of its operator.
        inputs: Its inputs; None for one that is left out.
        room: Bytes that its outputs may take.

    Raises:
        TooLargeError: They take more, or nobody knows how many.
    """
    if node.op_type in _NO_LARGER and _WIDEST * _elements(inputs, ()) <= room:
        return  # ONNX need not be asked, which takes longer than computing a small node
    read = 0 if node.op_type in _MEASURING else sum(a.size for a in inputs if a is not None)
    sizes = _output_sizes(node, opset, inputs)
    _check_room(sizes, room)
    work = read + sum(count for count, _ in sizes)
    if node.op_type not in _BY_ARRAYS and work * _growth(node) > ELEMENTWISE:
        raise TooLargeError(f"{node.op_type} of {work} elements")


def require_room_for_outputs(
    node: onnx.NodeProto, opset: int, inputs: Sequence[NDArray[np.generic] | None], room: int
) -> None:
    """Refuse a node whose outputs are known to have no room, or, in `limited_work`, to take long.

    What is unknown is let pass; else see `require_computable`.

    Raises:
        TooLargeError: They take more.
    """
    if node.op_type in _NO_LARGER and _WIDEST * _elements(inputs, ()) <= room:
        return
    try:
        sizes = _output_sizes(node, opset, inputs)
    except TooLargeError:
        return
    _check_room(sizes, room)
    _spend(node, _elements(inputs, sizes))


def _check_room(sizes: Sequence[tuple[int, int]], room: int) -> None:
    """Refuse outputs that need more bytes than there is room for."""
    if sum(count * width for count, width in sizes) > room:
        raise TooLargeError(f"it would have {sum(count for count, _ in sizes)} elements")


def _elements(
    inputs: Sequence[NDArray[np.generic] | None], sizes: Sequence[tuple[int, int]]
) -> int:
    """Return how many elements are read and made."""
    return sum(a.size for a in inputs if a is not None) + sum(count for count, _ in sizes)


_BY_AXES: Final = {"Resize": 16}
"""Operators that the reference evaluator computes axis by axis, so many times faster."""

_left: ContextVar[int] = ContextVar("_left")
"""Elements that the reference evaluator may still go through one by one, where that is limited."""


@contextmanager
def limited_work(elements: int) -> Iterator[None]:
    """Limit how many elements `require_room_for_outputs` lets nodes compute in this context."""
    token = _left.set(elements)
    try:
        yield
    finally:
        _left.reset(token)


def _spend(node: onnx.NodeProto, elements: int) -> None:
    left = _left.get(None)
    if left is None or node.op_type in _BY_ARRAYS:
        return
    elements //= _BY_AXES.get(node.op_type, 1)
    if elements > left:
        raise TooLargeError(f"{elements} elements more would take too long")
    _left.set(left - elements)


def _output_sizes(
    node: onnx.NodeProto, opset: int, inputs: Sequence[NDArray[np.generic] | None]
) -> list[tuple[int, int]]:
    """Return how many elements each output has, and the bytes that one takes."""
    if node.op_type == _FILLING and len(inputs) == 1 and inputs[0] is not None:
        return [(prod(map(int, inputs[0].reshape(-1))), _width_of_filling(node))]
    named = {n: a for n, a in zip(node.input, inputs, strict=False) if n and a is not None}
    wide = any(map(_is_wide, named.values()))
    # Some inputs are float32 by definition, as scales are, also where a verifier has float64.
    dtypes = {n: np.dtype(np.float32) if _is_wide(a) else a.dtype for n, a in named.items()}
    types = {name: _type_of(array.shape, dtypes[name]) for name, array in named.items()}
    small = {
        name: onnx.numpy_helper.from_array(array.astype(dtypes[name]))
        for name, array in named.items()
        if array.size <= _TOLD and array.dtype.kind in "biuf"
    }
    opsets = [onnx.OperatorSetIdProto(domain="", version=opset)]
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, node, types, small, opset_imports=opsets, ir_version=onnx.IR_VERSION
        )
    except Exception as error:
        raise TooLargeError(f"its size is unknown: {first_sentence(error)}") from error
    largest = max((array.size * max(array.ndim, 1) for array in named.values()), default=0)
    sizes = [_size(node, inferred.get(name), largest) for name in node.output if name]
    return [(count, width * (2 if wide else 1)) for count, width in sizes]


def _width_of_filling(node: onnx.NodeProto) -> int:
    """Return the bytes of an element of what a ConstantOfShape makes."""
    types = [attribute.t.data_type for attribute in node.attribute] or [onnx.TensorProto.FLOAT]
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(types[0]).itemsize)
    except KeyError as error:
        raise TooLargeError("its element type is unknown") from error


def _is_wide(array: NDArray[np.generic]) -> bool:
    return array.dtype == np.float64


def _size(node: onnx.NodeProto, inferred: onnx.TypeProto | None, largest: int) -> tuple[int, int]:
    dims = [] if inferred is None else list(inferred.tensor_type.shape.dim)
    known = inferred is not None and inferred.tensor_type.HasField("shape")
    if known and all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return prod(dim.dim_value for dim in dims), _width(inferred)
    if node.op_type in _AS_LARGE_AS_READ:
        return largest, _width(inferred)
    raise TooLargeError("its size is unknown")


def _width(inferred: onnx.TypeProto | None) -> int:
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(inferred.tensor_type.elem_type).itemsize)  # type: ignore[union-attr]
    except (AttributeError, KeyError):
        return _WIDEST


def _type_of(shape: Sequence[int], dtype: np.dtype[np.generic]) -> onnx.TypeProto:
    text = dtype.kind in "OSU"
    elem_type = onnx.TensorProto.STRING if text else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_type_proto(elem_type, shape)


def _growth(node: onnx.NodeProto) -> int:
    """Return by how much what an operator holds on the way is larger than what it reads.

    A window's pads and dilations, and the indices that an Einsum runs over, do not show in the
    size of the output.
    """
    if node.op_type == "Einsum":
        return ELEMENTWISE
    return prod(1 + abs(v) for a in node.attribute if a.name in _WINDOW for v in a.ints)


_WINDOW: Final = frozenset({"dilations", "kernel_shape", "output_padding", "pads"})
