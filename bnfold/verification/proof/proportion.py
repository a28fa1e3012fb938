"""Every single weight of a fold: it is the original's, times what its row and its column take.

A probe sees a sum of thousands of weights at a time, and a small one can hide among them. But a
fold only ever multiplies: along the outputs of a linear operator, along its inputs, or both,

    W'[p, q, t] = a[p] · b[q] · W[p, q, t]

for output (or input) p, input (or output) q and tap t of a kernel, group by group. What a and b are
need not be known. Where the ratio r = W' / W at the largest tap is known, the other taps must have
it too; and it must be the same all along a row, or else r[p, q] r[i, j] = r[p, j] r[i, q].

Each W' has been rounded, so two ratios of the same numbers differ by two roundings at most, and
products of two by four. Below the smallest normal number nothing is known of a ratio.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.proof.cut import LINEAR, Cone, Weights
from bnfold.verification.proof.evaluate import attributes_of

_WEIGHT = 1
"""The input that holds the weight; where it is not a constant nothing was folded into it."""
_AT_A_TIME = 1 << 17
"""Elements that are looked at together."""
_CHANNELWISE = frozenset({"BatchNormalization", "Add", "Sub", "Mul", "Div", "Neg", "Identity"})
"""Operators beside which a linear operator computes the same only if its weight is as above."""


@frozen
class Rounding:
    """What a weight may be off by.

    Attributes:
        relative: Of itself.
        absolute: Besides, as numbers below the smallest normal one have fewer digits.
        tiny: The smallest normal number.
    """

    relative: float
    absolute: float
    tiny: float


@np.errstate(all="ignore")  # a ratio of zeros is unknown
def disproportion(
    old: Cone, new: Cone, weights: tuple[Weights, Weights], rounding: Rounding
) -> tuple[float, str]:
    """Return how far the candidate's weights are from being proportional, and where.

    Args:
        old: A region of the original, …
        new: … and the candidate's, of which a probe has held.
        weights: The constants of both.
        rounding: What a weight may be off by.

    Returns:
        The largest error as a fraction of what is allowed; 0 where the linear operators of the two
        regions do not correspond, so that nothing can be said.
    """
    worst = 0.0, ""
    for mine, theirs in _pairs(old, new):
        before, after = (
            _laid_out(node, known.values.get(node.input[_WEIGHT]))
            for node, known in zip((mine, theirs), weights, strict=True)
        )
        if before is None or after is None or before.shape != after.shape:
            continue
        # What an operator makes of stored numbers, a DequantizeLinear, say, it has rounded, too.
        stored = _is_stored(old, mine) and _is_stored(new, theirs)
        allowed = rounding if stored else replace(rounding, relative=2 * rounding.relative)
        fraction = worst_of(before, after, allowed)
        if fraction > worst[0]:
            name = theirs.input[_WEIGHT]
            worst = fraction, f"a weight of {name!r} is not the original's times its channel's"
    return worst


def only_channelwise(cone: Cone) -> bool:
    """Tell whether a cone is a chain, and multiplies and adds channel by channel only.

    Where branches meet a weight can take up more than factors: a sum of x and Conv(x) is another
    convolution.
    """
    varying = set(cone.leaves)
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        if sum(name in varying for name in node.input) > 1:
            return False
        if varying.intersection(node.input) and node.op_type not in LINEAR | _CHANNELWISE:
            return False
        varying.update(name for name in node.output if varying.intersection(node.input))
    return True


def _pairs(old: Cone, new: Cone) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Yield the linear operators that correspond, if all of them do."""
    mine, theirs = (
        [
            node
            for node in (cone.scope.nodes[index] for index in cone.nodes)
            if node.op_type in LINEAR and len(node.input) > _WEIGHT
        ]
        for cone in (old, new)
    )
    if [_kind(node) for node in mine] == [_kind(node) for node in theirs]:
        yield from zip(mine, theirs, strict=True)


def _is_stored(cone: Cone, node: onnx.NodeProto) -> bool:
    name = node.input[_WEIGHT]
    home = cone.scope.home(name)
    return home is not None and name in home.tensors


def _kind(node: onnx.NodeProto) -> tuple[str, Mapping[str, object]]:
    return node.op_type, attributes_of(node)


def _laid_out(node: onnx.NodeProto, weight: Array | None) -> Array | None:
    """Return a weight as (groups, p, q, taps); None where it is no constant."""
    if weight is None or weight.dtype.kind != "f" or weight.ndim < 2:  # noqa: PLR2004 - a matrix
        return None
    if node.op_type in {"Gemm", "MatMul"}:
        return weight.reshape(-1, *weight.shape[-2:], 1)
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if groups < 1 or weight.shape[0] % groups:
        return None
    taps = math.prod(weight.shape[2:])
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], taps)


def worst_of(before: Array, after: Array, rounding: Rounding) -> float:
    """Return the largest error of weights (groups, p, q, taps), in parts of what is allowed."""
    if not before.size:
        return 0.0
    long = -1, math.prod(before.shape[2:])
    if _rows_alike(before.reshape(long), after.reshape(long), rounding):
        return 0.0
    ratios = np.empty(before.shape[:3])
    worst = 0.0
    step = max(1, _AT_A_TIME // math.prod(before.shape[2:]))
    for group in range(before.shape[0]):
        for start in range(0, before.shape[1], step):
            part = group, slice(start, start + step)
            ratios[part], fraction = _ratio_of_taps(before[part], after[part], rounding)
            worst = max(worst, fraction)
    return max(worst, *(_of_rank_one(ratio, rounding.relative) for ratio in ratios))


def _rows_alike(before: Array, after: Array, rounding: Rounding) -> bool:
    """Tell whether each row has one ratio throughout, as where only outputs were multiplied."""
    step = max(1, _AT_A_TIME // before.shape[1])
    for start in range(0, before.shape[0], step):
        rows, made = before[start : start + step], after[start : start + step]
        size = np.abs(made)
        place = np.argmax(size, axis=1)[:, None]
        one, other = (np.take_along_axis(array, place, 1) for array in (rows, made))
        known = np.abs(other) >= rounding.tiny
        exact = rows * np.where(known, other / one, 0.0)
        np.subtract(exact, made, out=exact)
        np.abs(exact, out=exact)
        # Both sides of a comparison are off by one rounding each.
        size *= 2 * rounding.relative
        size += np.where(known, 2 * rounding.absolute, rounding.tiny)
        if not (exact <= size).all():
            return False
    return True


def _ratio_of_taps(before: Array, after: Array, rounding: Rounding) -> tuple[Array, float]:
    """Return W' / W per (p, q), NaN where it is unknown, and how unlike the taps have it."""
    if before.shape[-1] == 1:
        ratio = (after / before)[..., 0]
        one, other = before[..., 0], after[..., 0]
    else:
        place = np.argmax(np.abs(after), axis=-1)[..., None]
        one = np.take_along_axis(before, place, -1)[..., 0]
        other = np.take_along_axis(after, place, -1)[..., 0]
        ratio = other / one
    # What is zero in the original is zero in the candidate, whatever the factor is.
    lost = (one == 0) & (np.abs(other) > rounding.absolute)
    ratio[(np.abs(other) < rounding.tiny) | (one == 0)] = np.nan
    worst = math.inf if lost.any() else 0.0
    if before.shape[-1] > 1:
        exact = before * ratio[..., None]
        off = np.abs(after - exact)
        np.abs(exact, out=exact)
        off /= 2 * (rounding.relative * exact + rounding.absolute)
        worst = max(worst, float(np.nanmax(off, initial=0.0)))
    return ratio, worst


def _of_rank_one(ratio: Array, error: float) -> float:
    """Return how far r[p, q] r[i, j] = r[p, j] r[i, q] is from holding, as a fraction."""
    known = ~np.isnan(ratio)
    i = int(np.argmax(known.sum(axis=1)))
    j = int(np.argmax(known.sum(axis=0) * known[i]))
    one = ratio * ratio[i, j]
    other = ratio[:, j, None] * ratio[i]
    off = np.abs(one - other) / (4 * error * np.abs(other))
    return float(np.nanmax(off, initial=0.0))
