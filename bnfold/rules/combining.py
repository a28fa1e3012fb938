"""CARRY rows of operators that combine elements: pools, reductions, interpolation.

Each is a sum with weights that add up to one (then every affine that is constant over the
combined elements passes), a plain sum (then the shift is multiplied by their number), a maximum
(then the scale must be positive), or a norm (then the scale must be positive and there is no
shift).
"""

from math import prod

import numpy as np

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.operator import Operator

_SPATIAL = 2  # the first spatial axis
_AXES_INPUT_OPSET = {"ReduceSum": 13}
_OTHER_AXES_INPUT_OPSET = 18
_ROI_OPSET = 11


def positive_scale(affine: Affine) -> Affine:
    """Let x ↦ s x with s > 0 pass, as a norm does: ‖s x‖ = s ‖x‖, of padding with zeros, too."""
    if affine.has_shift:
        raise Refusal(Reason.NEEDS_ZERO_SHIFT)
    return keeping_order(affine)


def keeping_order(affine: Affine) -> Affine:
    """Let x ↦ s x + t with s > 0 pass, as a maximum does."""
    if not affine.is_positive:
        raise Refusal(Reason.NEEDS_POSITIVE_SCALE)
    return affine


def _uniform_along(affine: Affine, axes: "range | tuple[int, ...]") -> None:
    if any(axis in axes for axis in affine.axes):
        raise Refusal(Reason.CHANNELS_MIX)


def mean(op: Operator, affine: Affine) -> Affine:
    """GlobalAveragePool: weights that sum to one."""
    del op
    _uniform_along(affine, range(_SPATIAL, affine.rank))
    return affine


def average(op: Operator, affine: Affine) -> Affine:
    """AveragePool: weights that sum to one, unless padding is averaged in as zeros."""
    padded = op.pads is None or any(op.pads) or op.integer("ceil_mode", 0)
    # With count_include_pad the zeros of the padding are averaged in, and those of ceil_mode, too.
    # Without it the pool divides by the number of real elements, and any shift passes.
    if affine.has_shift and padded and op.integer("count_include_pad", 0):
        raise Refusal(Reason.ZERO_PADDING, "count_include_pad=1")
    return mean(op, affine)


def _reduced(op: Operator) -> tuple[int, ...]:
    """Return the axes that a reduction reduces."""
    rank = op.required(0).rank
    # ReduceSum got its axes as an input in opset 13, the other reductions in opset 18.
    first_with_input = _AXES_INPUT_OPSET.get(op.op_type, _OTHER_AXES_INPUT_OPSET)
    axes = op.constant_integers(1) if op.opset >= first_with_input else op.integers("axes")
    if axes:
        return tuple(sorted({axis % rank for axis in axes}))
    return () if op.integer("noop_with_empty_axes", 0) else tuple(range(rank))


def _with_axes(op: Operator, affine: Affine) -> Affine:
    """Return an affine on the output with the reduced axes put back."""
    if op.integer("keepdims", 1):
        return affine
    axes = _reduced(op)
    return affine.moved(lambda values: np.expand_dims(values, axes))


def _without_axes(op: Operator, affine: Affine) -> Affine:
    if op.integer("keepdims", 1):
        return affine
    axes = _reduced(op)
    return affine.moved(lambda values: values.squeeze(axes))


def reduce_mean_up(op: Operator, affine: Affine) -> Affine:
    """ReduceMean, upwards."""
    wide = _with_axes(op, affine)
    _uniform_along(wide, _reduced(op))
    return wide


def reduce_mean_down(op: Operator, affine: Affine) -> Affine:
    """ReduceMean, downwards."""
    _uniform_along(affine, _reduced(op))
    return _without_axes(op, affine)


def _count(op: Operator, affine: Affine) -> int:
    """Return how many elements a ReduceSum adds up; 1 if there is no shift that it multiplies."""
    if not affine.has_shift:
        return 1
    count = prod(op.required(0).size(axis) for axis in _reduced(op))
    if not count:
        raise Refusal(Reason.UNKNOWN_SHAPE, "nothing is added up")
    return count


def reduce_sum_up(op: Operator, affine: Affine) -> Affine:
    """ReduceSum over n elements: Σ (s x + t/n) = s Σ x + t."""
    wide = reduce_mean_up(op, affine)
    return Affine.of(wide.scale, wide.shift / _count(op, affine))


def reduce_sum_down(op: Operator, affine: Affine) -> Affine:
    """ReduceSum over n elements: Σ (s x + t) = s Σ x + n t."""
    narrow = reduce_mean_down(op, affine)
    return Affine.of(narrow.scale, narrow.shift * _count(op, affine))


def resize(op: Operator, affine: Affine) -> Affine:
    """Resize, Upsample: nearest, linear and cubic weights sum to one.

    The exception is tf_crop_and_resize, which brings in a value from outside. An axis on which
    the affine varies must not be resized.
    """
    if op.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refusal(Reason.CHANNELS_MIX, "tf_crop_and_resize")
    for axis in affine.axes:
        if not _untouched(op, axis):
            raise Refusal(Reason.CHANNELS_MIX, f"axis {axis} is resized")
    return affine


def _untouched(op: Operator, axis: int) -> bool:
    """Whether a Resize leaves an axis alone: scale 1, or stated sizes equal to the input's.

    Where one scale for all axes is made of the sizes, an equal size may be what a scale was
    rounded to.
    """
    stated = op.integers("axes")
    rank = op.required(0).rank
    axes = tuple(a % rank for a in stated) if stated is not None else tuple(range(rank))
    if axis not in axes:
        return True
    scales = op.input(2 if op.op_type == "Resize" and op.opset >= _ROI_OPSET else 1)
    if scales is not None and scales.shape != (0,):
        numbers = np.asarray(scales.numbers()).reshape(-1)
        return numbers.size == len(axes) and bool(numbers[axes.index(axis)] == 1)
    listed = op.attributes.get("scales")
    if isinstance(listed, list | tuple):
        return bool(listed[axes.index(axis)] == 1)
    stretches = op.text("keep_aspect_ratio_policy", "stretch") == "stretch"
    return stretches and op.required(0).size(axis) == op.output.size(axis)
