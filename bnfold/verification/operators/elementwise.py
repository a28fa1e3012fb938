"""What needs no product of matrices, in float64: elementwise operators, casts, pads, shapes."""

from collections.abc import Callable

import numpy as np
import onnx

from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators.kernels import require_room
from bnfold.verification.operators.node import (
    Attributes,
    Call,
    Inputs,
    UnsupportedError,
    needed,
    optional,
)

_LEGACY_BROADCAST = 7  # the opset from which operands broadcast as in numpy
_MODE_BY_OUTPUTS, _MODE_BY_ATTRIBUTE = 7, 14  # the opsets from which these say whether it trains
_CLIP_INPUTS = 11  # the opset from which the bounds of a Clip are inputs
_PAD_INPUTS = 11  # the opset from which the pads of a Pad are an input


def shape(call: Call) -> Array:
    """Return the sizes of the axes, or of a stretch of them."""
    sizes = needed(call.inputs, 0).shape
    return np.asarray(sizes[call.attributes.get("start", 0) : call.attributes.get("end")], np.int64)


def binary(operator: Callable[[Array, Array], Array]) -> Callable[[Call], Array]:
    """Return the kernel of an operator of two operands that broadcast together."""

    def compute(call: Call) -> Array:
        a, b = needed(call.inputs, 0), needed(call.inputs, 1)
        b = aligned(a, b, call.attributes, call.opset)
        require_room(np.broadcast_shapes(a.shape, b.shape))
        return operator(a, b)

    return compute


def aligned(a: Array, b: Array, attributes: Attributes, opset: int) -> Array:
    """Return b shaped to broadcast against a; before opset 7 an attribute says from which axis."""
    if opset >= _LEGACY_BROADCAST or not attributes.get("broadcast"):
        return b
    axis = attributes.get("axis", a.ndim - b.ndim)
    axis += a.ndim if axis < 0 else 0
    return b.reshape((*b.shape, *(1,) * (a.ndim - axis - b.ndim)))


_divide = binary(lambda a, b: np.asarray(a / b))


def concatenated(inputs: Inputs, attributes: Attributes) -> Array:
    """Return the inputs one behind the other along an axis; before opset 4 that is 1 if unsaid."""
    arrays = [needed(inputs, index) for index in range(len(inputs))]
    require_room([sum(array.size for array in arrays)])
    return np.concatenate(arrays, axis=attributes.get("axis", 1))


def division(call: Call) -> Array | None:
    """Return a / b of floats; that of integers is left to the reference evaluator."""
    if any(operand is not None and operand.dtype.kind != "f" for operand in call.inputs):
        return None
    return _divide(call)


def clip(call: Call) -> Array:
    """Return X between two bounds, which before opset 11 are attributes."""
    if call.opset >= _CLIP_INPUTS:
        low, high = optional(call.inputs, 1), optional(call.inputs, 2)
    else:
        low, high = (call.attributes.get(name) for name in ("min", "max"))
    X = needed(call.inputs, 0)
    X = X if low is None else np.maximum(X, low)
    return np.asarray(X if high is None else np.minimum(X, high))


def dropout(call: Call) -> Array:
    """Pass on the data; a Dropout that drops something gives no tensor that could be compared."""
    training = optional(call.inputs, 2)
    old = call.opset < _MODE_BY_OUTPUTS and not call.attributes.get("is_test")
    if old or (training is not None and bool(training)):
        raise UnsupportedError("this Dropout is in training mode")
    return needed(call.inputs, 0)


def trains(call: Call) -> bool:
    """Tell whether a BatchNormalization normalizes by the batch's own statistics.

    Until opset 6 `is_test` decides, from 14 on `training_mode`; between the two the number of its
    outputs: Y alone in test mode, Y and the statistics in training.
    """
    if call.opset < _MODE_BY_OUTPUTS:
        return not call.attributes.get("is_test")
    if call.opset < _MODE_BY_ATTRIBUTE:
        return call.outputs > 1
    return bool(call.attributes.get("training_mode"))


def per_channel(parameter: Array, X: Array, attributes: Attributes) -> Array:
    """Return a parameter of batch normalization, shaped to broadcast against X (N, C, …)."""
    if attributes.get("spatial", 1) == 0:
        return parameter.reshape(1, *X.shape[1:])
    return parameter.reshape(1, -1, *(1,) * (X.ndim - 2))


def batch_normalization(call: Call) -> Array:
    """Return γ (X − E) / √(Var + ε) + β, with ε the float32 that the attribute holds."""
    X = needed(call.inputs, 0)
    if trains(call):
        raise UnsupportedError("this batch normalization is in training mode")
    gamma, beta, mean, variance = (
        per_channel(needed(call.inputs, index), X, call.attributes) for index in range(1, 5)
    )
    epsilon = float(np.float32(call.attributes.get("epsilon", 1e-5)))
    if X.ndim > 1 and gamma.shape[1] != X.shape[1]:
        raise ValueError(f"X {X.shape} does not have {gamma.shape[1]} channels")
    Y = np.asarray(X - mean)  # and from here on in place: a picture can be large
    Y /= np.sqrt(variance + epsilon)
    Y *= gamma
    Y += beta
    return Y


def dequantize(inputs: Inputs, attributes: Attributes) -> Array | None:
    """Return (q − z) s in float64, for scales per tensor or per axis; None for scales per block.

    It is not rounded to the type of the scale: whether the product is, is up to the runtime.
    """
    q, scale, zero = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    if scale.ndim > 1 or attributes.get("block_size"):
        return None
    shape = [1] * q.ndim
    if scale.size > 1:
        shape[attributes.get("axis", 1)] = -1
    z = 0.0 if zero is None else zero.astype(np.float64).reshape(shape)
    return np.asarray((q.astype(np.float64) - z) * scale.astype(np.float64).reshape(shape))


def cast(X: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return X in a dtype; a floating-point one is float64."""
    return X.astype(np.float64 if is_float(np.empty(0, dtype)) else dtype)


def cast_to(inputs: Inputs, attributes: Attributes) -> Array:
    """Return what a Cast makes of X."""
    return cast(needed(inputs, 0), onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


def pad(call: Call) -> Array:
    """Return X with elements put before and behind it, or taken away where a pad is negative."""
    inputs, attributes = call.inputs, call.attributes
    X = needed(inputs, 0)
    mode = attributes.get("mode", b"constant")
    if call.opset >= _PAD_INPUTS:
        pads, value, axes = needed(inputs, 1), optional(inputs, 2), optional(inputs, 3)
        fill = 0.0 if value is None else value.reshape(-1)[0]
    else:
        pads, axes = np.asarray(attributes["pads"]), None
        fill = attributes.get("value", 0.0)
    which = range(X.ndim) if axes is None else [int(axis) % X.ndim for axis in axes]
    crop, widths = [slice(None)] * X.ndim, [(0, 0)] * X.ndim
    for axis, head, tail in zip(which, *pads.reshape(2, -1).tolist(), strict=True):
        crop[axis] = slice(max(-head, 0), max(X.shape[axis] - max(-tail, 0), 0))
        widths[axis] = max(head, 0), max(tail, 0)
    kept = X[tuple(crop)]
    require_room([size + sum(width) for size, width in zip(kept.shape, widths, strict=True)])
    if mode in {b"constant", "constant"}:
        return np.pad(kept, widths, constant_values=fill)
    if mode not in {b"edge", b"reflect", b"wrap"}:
        raise ValueError(f"mode {mode!r}")
    return np.pad(kept, widths, mode=mode.decode())
