"""CARRY rows of operators that only move elements about.

A row moves the values of an affine in the same way as the operator moves the tensor's elements,
along the axes on which they vary. Along the other axes all values are equal, and nothing is moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import prod

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, require_room
from bnfold.rules.operator import Dim, Operator, Shape, Value

_CHANNEL_AXIS = 1
_AXES_INPUT_OPSET = 13  # of Squeeze and Unsqueeze
_SLICE_INPUT_OPSET = 10
_PAD_INPUT_OPSET = 11


# -- Transpose, Squeeze, Unsqueeze ------------------------------------------------------------


def _permutation(op: Operator, rank: int) -> tuple[int, ...]:
    return op.integers("perm") or tuple(reversed(range(rank)))


def transpose_down(op: Operator, affine: Affine) -> Affine:
    """Output axis j is input axis perm[j]."""
    perm = _permutation(op, affine.rank)
    return affine.moved(lambda values: values.transpose(perm))


def transpose_up(op: Operator, affine: Affine) -> Affine:
    """Input axis perm[j] is output axis j."""
    perm = np.argsort(_permutation(op, affine.rank))
    return affine.moved(lambda values: values.transpose(perm))


def _axes(op: Operator) -> tuple[int, ...] | None:
    if op.opset >= _AXES_INPUT_OPSET:
        return op.constant_integers(1, "")
    return op.integers("axes")


def _squeezed(op: Operator) -> tuple[int, ...]:
    data = op.required(0)
    axes = _axes(op)
    if axes is None:  # every axis of size 1, so every size must be known
        return tuple(axis for axis in range(data.rank) if data.size(axis) == 1)
    return tuple(sorted(axis % data.rank for axis in axes))


def squeeze_down(op: Operator, affine: Affine) -> Affine:
    """Take the axes out."""
    axes = _squeezed(op)
    return affine.moved(lambda values: values.squeeze(axes))


def squeeze_up(op: Operator, affine: Affine) -> Affine:
    """Put the axes in."""
    axes = _squeezed(op)
    return affine.moved(lambda values: np.expand_dims(values, axes))


def _unsqueezed(op: Operator, rank: int) -> tuple[int, ...]:
    axes = _axes(op)
    if axes is None:
        raise Refusal(Reason.UNKNOWN_SHAPE, "axes")
    return tuple(sorted(axis % rank for axis in axes))


def unsqueeze_down(op: Operator, affine: Affine) -> Affine:
    """Put the axes in."""
    axes = _unsqueezed(op, affine.rank + len(_axes(op) or ()))
    return affine.moved(lambda values: np.expand_dims(values, axes))


def unsqueeze_up(op: Operator, affine: Affine) -> Affine:
    """Take the axes out."""
    axes = _unsqueezed(op, affine.rank)
    return affine.moved(lambda values: values.squeeze(axes))


# -- Reshape, Flatten -------------------------------------------------------------------------


def reshape_down(op: Operator, affine: Affine) -> Affine:
    """From the input's shape to the output's."""
    return _reshaped(affine, op.required(0).dims, op.output.dims)


def reshape_up(op: Operator, affine: Affine) -> Affine:
    """From the output's shape to the input's."""
    return _reshaped(affine, op.output.dims, op.required(0).dims)


def _reshaped(affine: Affine, source: Shape, target: Shape) -> Affine:
    """Push an affine through a reshape of which only parts of the shapes may be known.

    A reshape keeps the order of the elements. Where the dimensions to the left (or to the right)
    of a block have the same product on both sides, and the block itself has too, the block is
    reshaped by itself, whatever the rest is.

    Raises:
        Refusal: The shapes are not known well enough to find such a block around the axes on
            which the affine varies.
    """
    axes = affine.axes
    if not axes:
        uniform = (1,) * len(target)
        return affine.moved(lambda values: values.reshape(uniform))
    block = _left_block(source, target, axes[0], axes[-1]) or _right_block(
        source, target, axes[0], axes[-1]
    )
    if block is None:
        together = _together(source, target, axes)
        if together is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"reshape {_show(source)} to {_show(target)}")
        (first, last), size = together
        joined = affine.moved(lambda v: v.reshape((*v.shape[:first], 1, *v.shape[last:])))
        return _reshaped(joined, (*source[:first], size, *source[last:]), target)
    (begin, end), (first, last) = block
    inner = tuple(int(d) for d in source[begin:end] if isinstance(d, int))
    require_room(inner)
    before = (1,) * begin + inner + (1,) * (len(source) - end)
    after = (
        (1,) * first
        + tuple(int(d) for d in target[first:last] if isinstance(d, int))
        + (1,) * (len(target) - last)
    )
    return affine.moved(lambda values: np.broadcast_to(values, before).reshape(after))


def _together(
    source: Shape, target: Shape, axes: tuple[int, ...]
) -> tuple[tuple[int, int], int] | None:
    """Find neighbouring axes of which only the product is known, from what the whole comes to.

    Where [N, C, H, W] becomes [N, K], H W = K / C, whatever the two are. Only axes along which the
    affine does not vary may be taken together.
    """
    same = 0
    while (
        same < min(len(source), len(target))
        and _product(source[: same + 1]) == _product(target[: same + 1])
        and _product(source[: same + 1]) is not None
    ):
        same += 1
    rest = source[same:]
    free = [same + i for i, dim in enumerate(rest) if not isinstance(dim, int)]
    if not free or free != [*range(free[0], free[-1] + 1)] or set(free) & set(axes):
        return None
    whole, known = _product(target[same:]), _product([d for d in rest if isinstance(d, int)])
    if whole is None or known is None or whole[1] or not known[0] or whole[0] % known[0]:
        return None
    return (free[0], free[-1] + 1), whole[0] // known[0]


Block = tuple[tuple[int, int], tuple[int, int]]


def _product(dims: Sequence[Dim]) -> tuple[int, tuple[str, ...]] | None:
    """Return a product that can be compared, or None where a dimension is unknown."""
    if any(d is None or d == 0 for d in dims):
        return None
    numbers = prod(d for d in dims if isinstance(d, int))
    return numbers, tuple(sorted(d for d in dims if isinstance(d, str)))


def _left_block(source: Shape, target: Shape, low: int, high: int) -> Block | None:
    """Find the smallest block around axes low … high whose left sides have equal products."""
    for begin in range(low, -1, -1):
        left = _product(source[:begin])
        for first in range(len(target), -1, -1):
            if left is None or _product(target[:first]) != left:
                continue
            for end in range(high + 1, len(source) + 1):
                last = _same_product(source[begin:end], target[first:])
                if last is not None:
                    return (begin, end), (first, first + last)
    return None


def _right_block(source: Shape, target: Shape, low: int, high: int) -> Block | None:
    """Find the smallest block whose right sides have equal products; see `_left_block`."""
    flipped = _left_block(source[::-1], target[::-1], len(source) - 1 - high, len(source) - 1 - low)
    if flipped is None:
        return None
    (begin, end), (first, last) = flipped
    m, n = len(source), len(target)
    return (m - end, m - begin), (n - last, n - first)


def _same_product(block: Shape, target: Shape) -> int | None:
    """Return how many leading dimensions of `target` have the product of `block`, all numbers."""
    if not all(isinstance(d, int) and d > 0 for d in block):
        return None
    wanted = _product(block)
    for count in range(len(target) + 1):
        if _product(target[:count]) == wanted:
            return count
    return None


def _show(shape: Shape) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


# -- Concat, Split ----------------------------------------------------------------------------


def cut(affine: Affine, axis: int, parts: Sequence[Value | None]) -> dict[int, Affine]:
    """Return the slice of an affine that each of the parts along `axis` gets."""
    if axis not in affine.axes:
        return {i: affine for i, part in enumerate(parts) if part is not None}
    result, start = {}, 0
    for i, part in enumerate(parts):
        if part is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"part {i}")
        size = part.size(axis)
        result[i] = affine.take(axis, np.arange(start, start + size))
        start += size
    return result


def joined(affines: Mapping[int, Affine], axis: int, parts: Sequence[Value | None]) -> Affine:
    """Return the affine of the whole, of which the parts along `axis` have these."""
    first = next(iter(affines.values()))
    alike = len(affines) == len(parts) and axis not in first.axes
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


def _slices(op: Operator) -> dict[int, tuple[int, int, int]]:
    """Return (start, end, step) of each axis that a Slice names."""
    data = op.required(0)
    if op.opset >= _SLICE_INPUT_OPSET:
        starts, ends, axes, steps = (op.constant_integers(i, "") for i in (1, 2, 3, 4))
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
    bounds = _slices(op).get(axis)
    if bounds is None:
        return np.arange(size)
    start, end, step = bounds
    start, end = (v + size if v < 0 else v for v in (start, end))
    last = size if step > 0 else size - 1
    low = 0 if step > 0 else -1
    taken = np.arange(min(max(start, 0), last), min(max(end, low), last), step)
    if not taken.size:
        raise Refusal(Reason.BAD_PARAMETERS, f"it takes nothing of axis {axis}")
    return taken


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
    return _scattered(op, affine, sorted({*_slices(op), *affine.axes}))


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


def _pads(op: Operator) -> dict[int, tuple[int, int]]:
    """Return how much a Pad adds before and after each axis."""
    rank = op.required(0).rank
    if op.opset >= _PAD_INPUT_OPSET:
        pads, axes = op.constant_integers(1, ""), op.constant_integers(3, "")
    else:
        pads, axes = op.integers("pads") or op.integers("paddings"), None
    if pads is None:
        raise Refusal(Reason.UNKNOWN_SHAPE, "pads")
    padded = tuple(a % rank for a in axes) if axes is not None else tuple(range(rank))
    count = len(padded)
    return {axis: (pads[i], pads[i + count]) for i, axis in enumerate(padded)}


def pad_stated(op: Operator, affine: Affine) -> Affine | None:
    """Return the part of an affine on the output that applies to the Pad's own value, or None."""
    if op.text("mode", "constant") != "constant":
        return None
    padded = [axis for axis, amounts in _pads(op).items() if max(amounts) > 0]
    if not padded:
        return None
    if len(padded) == 1 and padded[0] in affine.axes:
        sources = _pad_sources(op, padded[0])
        if sources is not None:
            return affine.take(padded[0], np.flatnonzero(sources < 0))
    return affine


def _pad_sources(op: Operator, axis: int) -> NDArray[np.intp] | None:
    """Return where each output position along an axis comes from, -1 for the fill; or None."""
    amounts = _pads(op).get(axis, (0, 0))
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
        taken = affine.take(axis, np.maximum(sources, 0))
        affine = taken.scatter(axis, np.arange(sources.size), sources.size)
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


# -- DepthToSpace, SpaceToDepth ---------------------------------------------------------------


def _channels_only(affine: Affine) -> None:
    if any(axis != _CHANNEL_AXIS for axis in affine.axes):
        raise Refusal(Reason.CHANNELS_MIX)


def _depth_to_space(op: Operator) -> tuple[NDArray[np.intp], int]:
    """Return the output channel of each input channel, and how many output channels there are.

    DCR: input channel (b b + b') C' + c' goes to output channel c'; CRD: c' b² + k goes to c'.
    """
    block = op.integer("blocksize", 1) ** 2
    channels = op.required(0).size(_CHANNEL_AXIS)
    kept = channels // block
    numbers = np.arange(channels)
    return (numbers // block if op.text("mode", "DCR") == "CRD" else numbers % kept), kept


def depth_to_space_up(op: Operator, affine: Affine) -> Affine:
    """Every input channel has the affine of the output channel that it goes to."""
    _channels_only(affine)
    return affine.take(_CHANNEL_AXIS, _depth_to_space(op)[0])


def depth_to_space_down(op: Operator, affine: Affine) -> Affine:
    """Input channels that go to one output channel must agree."""
    _channels_only(affine)
    return affine.scatter(_CHANNEL_AXIS, *_depth_to_space(op))


def _space_to_depth(op: Operator) -> tuple[NDArray[np.intp], int]:
    """Return the input channel of each output channel k C + c, which is c, and C."""
    channels = op.required(0).size(_CHANNEL_AXIS)
    block = op.integer("blocksize", 1) ** 2
    require_room((channels, block))
    return np.arange(channels * block) % channels, channels


def space_to_depth_up(op: Operator, affine: Affine) -> Affine:
    """Output channels that come from one input channel must agree."""
    _channels_only(affine)
    return affine.scatter(_CHANNEL_AXIS, *_space_to_depth(op))


def space_to_depth_down(op: Operator, affine: Affine) -> Affine:
    """Every output channel has the affine of the input channel that it comes from."""
    _channels_only(affine)
    return affine.take(_CHANNEL_AXIS, _space_to_depth(op)[0])
