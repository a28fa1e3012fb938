"""The AFFINE table: which channel affine *is* this node?

A row reads an `Operator` and answers with the index of its data input and the `Affine` that its
first output is of it, or refuses with a reason.

A constant operand is aligned on the right, as ONNX broadcasts: a [C] constant against an NCHW
tensor runs over W, not over C.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, any_nonzero
from bnfold.rules.operator import FLOATS, Operator, Value

AffineRow = Callable[[Operator], tuple[int, Affine]]

_CHANNEL_AXIS = 1
DEFAULT_EPSILON = float(np.float32(1e-5))
_RIGHT_ALIGNED_OPSET = 7
_FIRST_INFERENCE_OPSET = 7  # before, BatchNormalization trains unless is_test=1
_SPATIAL_GONE_OPSET = 9
_TRAINING_MODE_OPSET = 14  # of BatchNormalization
_TRAINING_MODE_INPUT_OPSET = 12  # of Dropout


def batch_normalization(op: Operator) -> tuple[int, Affine]:
    """y = γ (x − E) / √(Var + ε) + β, so s = γ / √(Var + ε) and t = β − s E.

    Source: the ONNX operator BatchNormalization, opsets 1 to 15. ε is the float32 that the
    attribute holds, 1e-5 by default.

    Raises:
        Refusal: The node is no inference-time normalization per channel, or its parameters are
            no constants, of another length than the channels, or give no finite affine.
    """
    _check_inference(op)
    x = op.required(0)
    gamma, beta, mean, var = _parameters([op.required(i) for i in (1, 2, 3, 4)], x)
    epsilon = op.number("epsilon", DEFAULT_EPSILON)
    spread = var + epsilon
    if not isfinite(epsilon) or any_nonzero(spread <= 0):
        raise Refusal(Reason.BAD_VARIANCE, at=op.required(4).name)
    scale = gamma / np.sqrt(spread)
    shift = beta - scale * mean
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise Refusal(Reason.BAD_PARAMETERS, "not finite")
    return 0, Affine.along(_CHANNEL_AXIS, x.rank, scale, shift)


def training_mode(op: Operator) -> str:
    """Return what says that a BatchNormalization trains; an empty text if nothing does.

    Until opset 6 `is_test` decides, from 14 on `training_mode`. Between the two it is the outputs:
    Y alone in test mode; with any of the statistics, read or not, it is training.
    """
    if op.opset < _FIRST_INFERENCE_OPSET:
        return "" if op.integer("is_test", 0) else "is_test=0"
    if op.opset >= _TRAINING_MODE_OPSET:
        return "training_mode=1" if op.integer("training_mode", 0) else ""
    stated = sum(value is not None for value in op.outputs)
    return f"at opset {op.opset} it has {stated} outputs" if stated > 1 else ""


def is_per_element(op: Operator) -> bool:
    """Return whether a BatchNormalization has statistics per element (`spatial=0`, to opset 8).

    Where the channels are the last axis there is one element of each, so it is all the same.
    """
    stated = op.opset < _SPATIAL_GONE_OPSET and not op.integer("spatial", 1)
    x = op.input(0)
    last = x is not None and x.shape is not None and len(x.shape) == _CHANNEL_AXIS + 1
    return stated and not last


def _check_inference(op: Operator) -> None:
    """Refuse training: by the statistics of the batch, what comes out is no fixed affine."""
    training = training_mode(op)
    if training and op.extra_outputs_used:  # so that it cannot be switched off either
        raise Refusal(Reason.EXTRA_OUTPUTS, training)
    if training:
        raise Refusal(Reason.TRAINING_MODE, training)
    if is_per_element(op):
        raise Refusal(Reason.PER_ELEMENT_STATISTICS, "spatial=0")
    if op.extra_outputs_used:
        raise Refusal(Reason.EXTRA_OUTPUTS)


def _parameters(values: Sequence[Value], x: Value) -> NDArray[np.float64]:
    """Return the parameters [C] of the normalization of x, in float64, one beside the other."""
    numbers = [value.parameters() for value in values]
    if not x.rank:
        raise Refusal(Reason.INVALID_NODE, "the input is a scalar", x.name)
    if x.rank == 1:  # legal, with one channel
        raise Refusal(Reason.OTHER_AXIS, "the input has one axis, and that is the batch", x.name)
    channels = x.dims[_CHANNEL_AXIS]
    size = channels if isinstance(channels, int) else numbers[0].size
    for value, one in zip(values, numbers, strict=True):
        if one.shape != (size,) or not size:
            shapes = f"shape {list(one.shape)}, channels {channels}"
            raise Refusal(Reason.BAD_PARAMETERS, shapes, value.name)
    together = np.array(numbers, np.float64)
    finite = np.isfinite(together)
    if not finite.all():
        culprit = values[int(np.argmin(finite.all(axis=1)))]
        raise Refusal(Reason.BAD_PARAMETERS, "not finite", culprit.name)
    return together


def _operands(op: Operator) -> tuple[int, Value, NDArray[np.float64]]:
    """Return the index of the data, the data, and the constant laid along the data's axes.

    Raises:
        Refusal: None of the two is constant, the element type is no float, or the constant
            would widen the data.
    """
    left, right = op.required(0), op.required(1)
    if left.is_constant == right.is_constant:
        raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=right.name)
    index, x, c = (1, right, left) if left.is_constant else (0, left, right)
    if c.elem_type not in FLOATS:
        raise Refusal(Reason.BAD_PARAMETERS, "no floating-point type", c.name)
    constant = _laid_along(_as_broadcast(op, c.parameters().astype(np.float64), x), x, c.name)
    if not np.isfinite(constant).all():
        raise Refusal(Reason.BAD_PARAMETERS, "not finite", c.name)
    return index, x, constant


def _as_broadcast(op: Operator, constant: NDArray[np.float64], x: Value) -> NDArray[np.float64]:
    """Before opset 7 `axis` says where the second operand lies; since then it is on the right."""
    if op.opset >= _RIGHT_ALIGNED_OPSET or op.attributes.get("axis") is None:
        return constant
    axis = op.integer("axis", 0) % x.rank
    return constant.reshape(constant.shape + (1,) * (x.rank - axis - constant.ndim))


def _laid_along(constant: NDArray[np.float64], x: Value, name: str) -> NDArray[np.float64]:
    rank = x.rank
    if constant.ndim > rank or not constant.size:
        raise Refusal(Reason.BAD_PARAMETERS, f"shape {list(constant.shape)}", name)
    constant = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    for axis, size in enumerate(constant.shape):
        if size > 1 and x.dims[axis] != size:
            reason = (
                Reason.BAD_PARAMETERS if isinstance(x.dims[axis], int) else Reason.UNKNOWN_SHAPE
            )
            raise Refusal(reason, f"axis {axis}: {size} values for {x.dims[axis]}", name)
    return constant


def _channel_affine(scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Affine:
    affine = Affine.of(scale, shift)
    if len(affine.axes) > 1:
        raise Refusal(Reason.OTHER_AXIS, f"it varies along axes {affine.axes}")
    if not affine.is_finite:
        raise Refusal(Reason.BAD_PARAMETERS, "not finite")
    return affine


def multiplication(op: Operator) -> tuple[int, Affine]:
    """y = c x, from either side."""
    index, _, c = _operands(op)
    return index, _channel_affine(c, np.zeros_like(c))


def addition(op: Operator) -> tuple[int, Affine]:
    """y = x + c, from either side."""
    index, _, c = _operands(op)
    return index, _channel_affine(np.ones_like(c), c)


def subtraction(op: Operator) -> tuple[int, Affine]:
    """y = x − c or y = c − x."""
    index, _, c = _operands(op)
    if index == 0:
        return index, _channel_affine(np.ones_like(c), -c)
    return index, _channel_affine(-np.ones_like(c), c)


def division(op: Operator) -> tuple[int, Affine]:
    """y = x / c; c / x is no affine."""
    index, _, c = _operands(op)
    if index == 1:
        raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, "the divisor is the data")
    if not c.all():
        raise Refusal(Reason.BAD_PARAMETERS, "division by zero")
    return index, _channel_affine(1.0 / c, np.zeros_like(c))


def negation(op: Operator) -> tuple[int, Affine]:
    """y = −x."""
    x = op.required(0)
    if x.elem_type not in FLOATS:
        raise Refusal(Reason.BAD_PARAMETERS, "no floating-point type", x.name)
    return 0, Affine.uniform(-1.0, 0.0, x.rank)


def identity(op: Operator) -> tuple[int, Affine]:
    """y = x."""
    return 0, Affine.identity(op.required(0).rank)


def check_dropout(op: Operator) -> None:
    """Refuse a Dropout that is not certain to be at inference.

    Raises:
        Refusal: It trains, or an input may make it train.
    """
    training = op.input(2) if op.opset >= _TRAINING_MODE_INPUT_OPSET else None
    if training is not None and np.any(training.numbers()):
        raise Refusal(Reason.TRAINING_MODE, "training_mode=1")
    if op.opset < _FIRST_INFERENCE_OPSET and not op.integer("is_test", 0):
        raise Refusal(Reason.TRAINING_MODE, "is_test=0")


def dropout(op: Operator) -> tuple[int, Affine]:
    """y = x at inference."""
    if op.extra_outputs_used:
        raise Refusal(Reason.EXTRA_OUTPUTS)
    check_dropout(op)
    return identity(op)


NORMALIZATION = "BatchNormalization"

ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
"""Operators that change nothing if their constant is 0, or 1."""

AFFINE: Mapping[str, AffineRow] = {
    NORMALIZATION: batch_normalization,
    "Mul": multiplication,
    "Add": addition,
    "Sub": subtraction,
    "Div": division,
    "Neg": negation,
    "Identity": identity,
    "Dropout": dropout,
}
