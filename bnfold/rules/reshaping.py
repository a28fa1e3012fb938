"""CARRY rows of operators that lay the same elements out along other axes.

A row moves the values of an affine in the same way as the operator moves the tensor's elements,
along the axes on which they vary. Along the other axes all values are equal, and nothing is moved.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, require_room
from bnfold.rules.operator import Dim, Operator, Shape

_CHANNEL_AXIS = 1
_AXES_INPUT_OPSET = 13  # of Squeeze and Unsqueeze


# -- Transpose, Squeeze, Unsqueeze ------------------------------------------------------------


def permutation(op: Operator, rank: int) -> tuple[int, ...]:
    """Return which input axis each axis of a Transpose's output is."""
    return op.integers("perm") or tuple(reversed(range(rank)))


def transpose_down(op: Operator, affine: Affine) -> Affine:
    """Output axis j is input axis perm[j]."""
    perm = permutation(op, affine.rank)
    return affine.moved(lambda values: values.transpose(perm))


def transpose_up(op: Operator, affine: Affine) -> Affine:
    """Input axis perm[j] is output axis j."""
    perm = np.argsort(permutation(op, affine.rank))
    return affine.moved(lambda values: values.transpose(perm))


def _axes(op: Operator) -> tuple[int, ...] | None:
    if op.opset >= _AXES_INPUT_OPSET:
        return op.constant_integers(1)
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
