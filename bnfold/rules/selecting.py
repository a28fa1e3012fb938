"""CARRY rows of operators that join, cut, pick or pad: what is at one index goes to another.

Along the axes on which the values of an affine vary they are picked as the elements are. Along the
other axes all values are equal, and nothing is picked.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, require_room
from bnfold.rules.operator import Operator, Value

_SLICE_INPUT_OPSET = 10
_PAD_INPUT_OPSET = 11


# -- Concat, Split ----------------------------------------------------------------------------


def cut(affine: Affine, axis: int, parts: Sequence[Value | None]) -> dict[int, Affine]:
    """Return the slice of an affine that each of the parts along `axis` gets; an empty one none."""
    if axis not in affine.axes:
        there = enumerate(parts)
        return {i: affine for i, part in there if part is not None and not _is_empty(part, axis)}
    result, start = {}, 0
    for i, part in enumerate(parts):
        if part is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"part {i}")
        size = part.size(axis)
        if size:
            result[i] = affine.take(axis, np.arange(start, start + size))
        start += size
    return result


def _is_empty(part: Value | None, axis: int) -> bool:
    """Whether a part has no element, so that it is every affine of itself."""
    return part is not None and part.shape is not None and part.shape[axis] == 0


def joined(affines: Mapping[int, Affine], axis: int, parts: Sequence[Value | None]) -> Affine:
    """Return the affine of the whole, of which the parts along `axis` have these."""
    first = next(iter(affines.values()))
    empty = sum(_is_empty(part, axis) for part in parts)
    alike = len(affines) + empty == len(parts) and axis not in first.axes
    if alike and all(affine.same(first) for affine in affines.values()):
        return first
    sizes = []
    for i, part in enumerate(parts):
        if part is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"part {i}")
        sizes.append(part.size(axis))
    ends = [*accumulate(sizes)]
    shape = [max(sizes) for sizes in zip(*(a.scale.shape for a in affines.values()), strict=True)]
    shape[axis] = ends[-1]
    require_room(tuple(shape))
    scale, shift = np.ones(shape), np.zeros(shape)
    for i, affine in affines.items():
        at = (*(slice(None),) * axis, slice(ends[i] - sizes[i], ends[i]))
        scale[at], shift[at] = affine.scale, affine.shift
    return Affine.of(scale, shift)


# -- Slice, Gather ----------------------------------------------------------------------------


def slices_of(op: Operator) -> dict[int, tuple[int, int, int]]:
    """Return (start, end, step) of each axis that a Slice names.

    Raises:
        Refusal: They are not constant.
    """
    data = op.required(0)
    if op.opset >= _SLICE_INPUT_OPSET:
        starts, ends, axes, steps = (op.constant_integers(i) for i in (1, 2, 3, 4))
    else:
        starts, ends, axes = (op.integers(name) for name in ("starts", "ends", "axes"))
        steps = None
    if starts is None or ends is None:
        raise Refusal(Reason.UNKNOWN_SHAPE, "slice bounds")
    axes = tuple(a % data.rank for a in axes) if axes is not None else tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))


def _taken(op: Operator, axis: int) -> NDArray[np.intp]:
    """Return which positions along an axis a Slice takes.

    Bounds are clamped to the axis as ONNX does it, which Python does not for negative steps: a
    start before the axis is its first position there.

    Raises:
        Refusal: It takes none. Runtimes disagree on that: backwards to INT_MAX is nothing by
            ONNX's text and all for ONNX Runtime.
    """
    size = op.required(0).size(axis)
    bounds = slices_of(op).get(axis)
    if bounds is None:
        return np.arange(size)
    start, end, step = bounds
    start, end = (v + size if v < 0 else v for v in (start, end))
    last = size if step > 0 else size - 1
    low = 0 if step > 0 else -1
    places = np.arange(min(max(start, 0), last), min(max(end, low), last), step)
    if not places.size:
        raise Refusal(Reason.BAD_PARAMETERS, f"it takes nothing of axis {axis}")
    return places


def slice_down(op: Operator, affine: Affine) -> Affine:
    """Take the slice of the affine."""
    for axis in affine.axes:
        affine = affine.take(axis, _taken(op, axis))
    return affine


def slice_up(op: Operator, affine: Affine) -> Affine:
    """Give the elements that the slice takes the affine; leave others where it varies."""
    return _scattered(op, affine, affine.axes)


def slice_alone_up(op: Operator, affine: Affine) -> Affine:
    """Give the elements that the slice takes the affine, and leave all others alone."""
    return _scattered(op, affine, sorted({*slices_of(op), *affine.axes}))


def _scattered(op: Operator, affine: Affine, axes: Iterable[int]) -> Affine:
    for axis in axes:
        affine = affine.scatter(axis, _taken(op, axis), op.required(0).size(axis), alone=True)
    return affine


def _indices(op: Operator, size: int) -> NDArray[np.intp]:
    indices = np.asarray(op.required(1).numbers()).astype(np.intp)
    return np.where(indices < 0, indices + size, indices)


def gather_down(op: Operator, affine: Affine) -> Affine:
    """Take the gathered positions; the axis becomes as many axes as the indices have."""
    data = op.required(0)
    axis = op.integer("axis", 0) % data.rank
    if axis in affine.axes:
        indices = _indices(op, data.size(axis))
        require_room((affine.size // data.size(axis), indices.size))
        return affine.moved(lambda values: values.take(indices, axis))
    new_axes = (1,) * op.required(1).rank
    return affine.moved(
        lambda values: values.reshape(values.shape[:axis] + new_axes + values.shape[axis + 1 :])
    )


def gather_up(op: Operator, affine: Affine) -> Affine:
    """Give the gathered positions the affine; leave the others."""
    data, indices = op.required(0), op.required(1)
    axis = op.integer("axis", 0) % data.rank
    if not any(a in affine.axes for a in range(axis, axis + indices.rank)):
        return affine.moved(
            lambda v: v.reshape((*v.shape[:axis], 1, *v.shape[axis + indices.rank :]))
        )
    return gather_alone_up(op, affine)


def gather_alone_up(op: Operator, affine: Affine) -> Affine:
    """Give the gathered positions the affine; leave all others."""
    data, indices = op.required(0), op.required(1)
    axis = op.integer("axis", 0) % data.rank
    positions = _indices(op, data.size(axis))
    outer = affine.scale.shape[:axis] + affine.scale.shape[axis + indices.rank :]
    require_room((*outer, positions.size))
    flat = affine.moved(
        lambda v: np.broadcast_to(
            v, v.shape[:axis] + positions.shape + v.shape[axis + indices.rank :]
        ).reshape((*v.shape[:axis], positions.size, *v.shape[axis + indices.rank :]))
    )
    return flat.scatter(axis, positions.reshape(-1), data.size(axis), alone=True)


# -- Pad --------------------------------------------------------------------------------------


def pads_of(op: Operator) -> dict[int, tuple[int, int]]:
    """Return how much a Pad adds before and after each axis.

    Raises:
        Refusal: That is not constant.
    """
    rank = op.required(0).rank
    if op.opset >= _PAD_INPUT_OPSET:
        amounts, axes = op.constant_integers(1), op.constant_integers(3)
    else:
        amounts, axes = op.integers("pads") or op.integers("paddings"), None
    if amounts is None:
        raise Refusal(Reason.UNKNOWN_SHAPE, "pads")
    padded = tuple(a % rank for a in axes) if axes is not None else tuple(range(rank))
    count = len(padded)
    return {axis: (amounts[i], amounts[i + count]) for i, axis in enumerate(padded)}


def pad_stated(op: Operator, affine: Affine) -> Affine | None:
    """Return the part of an affine on the output that applies to the Pad's own value, or None."""
    if op.text("mode", "constant") != "constant":
        return None
    padded = [axis for axis, amounts in pads_of(op).items() if max(amounts) > 0]
    if not padded:
        return None
    if len(padded) == 1 and padded[0] in affine.axes:
        sources = _pad_sources(op, padded[0])
        if sources is not None:
            return affine.take(padded[0], np.flatnonzero(sources < 0))
    return affine


def _pad_sources(op: Operator, axis: int) -> NDArray[np.intp] | None:
    """Return where each output position along an axis comes from, -1 for the fill; or None."""
    amounts = pads_of(op).get(axis, (0, 0))
    if not any(amounts):
        return None
    mode = op.text("mode", "constant")
    if min(amounts) < 0 and mode != "constant":
        raise Refusal(Reason.NOT_LINEAR, f"a negative pad in mode {mode}")
    size = op.required(0).size(axis)
    require_room((size + sum(max(amount, 0) for amount in amounts),))
    positions = np.arange(size)
    if mode == "constant":
        before, after = amounts
        padded = np.pad(positions, [max(amount, 0) for amount in amounts], constant_values=-1)
        return padded[max(-before, 0) : max(padded.size - max(-after, 0), 0)]
    if mode == "edge":
        return np.pad(positions, amounts, mode="edge")
    if mode in ("reflect", "wrap"):
        return np.pad(positions, amounts, mode="reflect" if mode == "reflect" else "wrap")
    raise Refusal(Reason.NOT_LINEAR, f"mode {mode}")


def pad_down(op: Operator, affine: Affine) -> Affine:
    """Give each output position the affine of its source; where the Pad fills in, the identity."""
    for axis in affine.axes:
        sources = _pad_sources(op, axis)
        if sources is None:
            continue
        spread = affine.take(axis, np.maximum(sources, 0))
        affine = spread.scatter(axis, np.arange(sources.size), sources.size)
        filled = np.flatnonzero(sources < 0)
        if filled.size:
            scale, shift = affine.scale.copy(), affine.shift.copy()
            where = tuple(filled if i == axis else slice(None) for i in range(affine.rank))
            scale[where], shift[where] = 1.0, 0.0
            affine = Affine.of(scale, shift)
    return affine


def pad_up(op: Operator, affine: Affine) -> Affine:
    """Give each input position the affine of its output position; the pad value has its own."""
    for axis in affine.axes:
        sources = _pad_sources(op, axis)
        if sources is None:
            continue
        inside = np.flatnonzero(sources >= 0)
        size = op.required(0).size(axis)
        affine = affine.take(axis, inside).scatter(axis, sources[inside], size)
    return affine
