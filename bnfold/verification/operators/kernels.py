"""Linear operators in float64, written from the operators' specifications.

onnx's reference evaluator is the yardstick for everything else, but its transposed convolution
is wrong for more than one group and takes a second per layer. The convolution is one matrix product
per group, over the windows of the input; the transposed one is a sum over the positions of the
kernel, each a matrix product over a strided view.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bnfold.limits import COMPUTED
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.frame import Frame, met_by
from bnfold.verification.operators.node import Attributes, Inputs, needed, optional

_LARGE_KERNEL = 49
"""Elements from which it is worth looking for those that are zero in all channels."""
_LARGE_PRODUCT = 3 << 18
"""Multiplications from which it pays to pick the weights that a sample meets."""
_WINDOWS = 1 << 23
"""Elements of the input's windows that are in memory at a time."""


def padded_by(X: Array, heads: Sequence[int], tails: Sequence[int], value: float = 0.0) -> Array:
    """Return X (N, C, d…) with its spatial axes padded.

    Raises:
        ValueError: It would be larger than any picture that a probe looks at.
    """
    sizes = _padded_sizes(X, heads, tails)
    if not (any(heads) or any(tails)):
        return X
    # Much quicker than np.pad, where little is padded.
    padded = np.full((*X.shape[:2], *sizes), value, X.dtype)
    inside = (slice(h, h + d) for h, d in zip(heads, X.shape[2:], strict=True))
    padded[(slice(None), slice(None), *inside)] = X
    return padded


def _padded_sizes(X: Array, heads: Sequence[int], tails: Sequence[int]) -> list[int]:
    """Return how long the spatial axes of X (N, C, d…) are when they are padded."""
    sizes = [d + h + t for d, h, t in zip(X.shape[2:], heads, tails, strict=True)]
    require_room((*X.shape[:2], *sizes))
    if min((*heads, *tails), default=0) < 0:
        raise ValueError(f"{[*heads, *tails]} would take elements away")
    return sizes


def require_room(shape: Sequence[int]) -> None:
    """Raise ValueError if a tensor of this shape is more than a probe may take."""
    if math.prod(shape) > COMPUTED // 8:
        raise ValueError(f"{list(shape)} is too large for a probe")


def _with_bias(Y: Array, b: Array | None) -> Array:
    """Add a bias to what is nobody else's yet."""
    if b is not None:
        Y += b.reshape(1, -1, *(1,) * (Y.ndim - 2))
    return Y


def conv(inputs: Inputs, attributes: Attributes) -> Array:
    """Convolve X (N, Cin, d…) with W (Cout, Cin/g, k…) and add b (Cout)."""
    X, W, b = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    g = int(attributes.get("group") or 1)
    frame = Frame.of(W.shape[2:], attributes)
    if X.ndim != W.ndim or X.shape[1] != W.shape[1] * g:
        raise ValueError(f"X {X.shape} does not fit W {W.shape} in {g} groups")
    pads = frame.pads(X.shape[2:])
    padded = _samples_last(X, *pads)
    out = frame.places(X.shape[2:], pads)
    if min(out) < 1:
        raise ValueError(f"X {X.shape} is smaller than the kernel of W {W.shape}")
    channels = W.shape[1]
    grouped = W.reshape(g, W.shape[0] // g, channels, -1)
    spread = padded.reshape(g, channels, *padded.shape[1:])
    views = _windows(W.shape[2:], tuple(frame.dilations), tuple(frame.strides), tuple(out))
    if len(views) > _LARGE_KERNEL:  # perhaps a dilated one that was written out
        kept = np.flatnonzero(grouped.any(axis=(0, 1, 2)))
        grouped, views = grouped[..., kept], tuple(views[k] for k in kept)
    Y = _summed(grouped, spread, views, out).reshape(W.shape[0], *out, X.shape[0])
    return _with_bias(Y.transpose(-1, *range(Y.ndim - 1)), b)


def _samples_last(X: Array, heads: Sequence[int], tails: Sequence[int]) -> Array:
    """Return X (N, C, d…) padded with zeros, as (C, d…, N).

    Side by side are the samples, of which there are often more than elements along any axis.
    """
    sizes = _padded_sizes(X, heads, tails)
    last = X.transpose(*range(1, X.ndim), 0)
    if not (any(heads) or any(tails)):
        return np.ascontiguousarray(last)
    padded = np.zeros((X.shape[1], *sizes, X.shape[0]), X.dtype)
    inside = (slice(h, h + d) for h, d in zip(heads, X.shape[2:], strict=True))
    padded[(slice(None), *inside)] = last
    return padded


def _summed(
    grouped: Array, spread: Array, views: Sequence[tuple[slice, ...]], out: Sequence[int]
) -> Array:
    """Return the weights times the windows, as (g, Cout/g, out…, N); of zeros only what is met."""
    pays = grouped.size * math.prod(out) >= _LARGE_PRODUCT
    if not pays or not np.isfinite(grouped.sum()):  # infinity times zero is no number
        return _product(grouped, spread, views, out)
    alive = np.asarray(spread.any(axis=(0, *range(2, spread.ndim - 1))))
    first, last = np.argmax(alive, axis=0), alive.shape[0] - np.argmax(alive[::-1], axis=0)
    count = np.where(alive.any(axis=0), last - first, 0)
    wide = count * 2 > alive.shape[0]
    if wide.all():
        return _product(grouped, spread, views, out)
    Y = np.zeros((*grouped.shape[:2], math.prod(out), spread.shape[-1]))
    if wide.any():
        part = _product(grouped, spread[..., wide], views, out)
        Y[..., wide] = part.reshape(*Y.shape[:3], -1)
    # Most samples of a probe have elements in a few channels only, and need few of a large weight.
    for sample in np.flatnonzero(~wide & (count > 0)):
        met = slice(first[sample], last[sample])
        part = _product(grouped[:, :, met], spread[:, met, ..., sample, None], views, out)
        Y[..., sample] = part.reshape(Y.shape[:3])
    return Y


def _product(
    grouped: Array, spread: Array, views: Sequence[tuple[slice, ...]], out: Sequence[int]
) -> Array:
    """Return weights (g, Cout/g, Cin/g, positions) times windows of (g, Cin/g, d…, samples).

    It is one product per group: the samples lie side by side in its columns.
    """
    g, channels, samples = *spread.shape[:2], spread.shape[-1]
    columns = math.prod(out) * samples
    step = max(_WINDOWS // max(g * channels * columns, 1), 1)
    Y: Array | None = None
    for first in range(0, len(views), step):
        some = views[first : first + step]
        windows = _stacked([spread[(slice(None), slice(None), *view)] for view in some])
        weights = grouped[..., first : first + step].reshape(*grouped.shape[:2], -1)
        part = weights @ windows.reshape(g, -1, columns)
        Y = part if Y is None else np.add(Y, part, out=Y)
    if Y is None:  # a large kernel of zeros
        Y = np.zeros((g, grouped.shape[1], columns))
    return Y


def _stacked(views: Sequence[Array]) -> Array:
    """Return arrays beside one another, along a new axis 2; a single one as it is."""
    if len(views) == 1:
        return views[0]
    g, channels, *rest = views[0].shape
    stacked = np.empty((g, channels, len(views), *rest))
    for number, view in enumerate(views):  # np.stack takes twice as long
        stacked[:, :, number] = view
    return stacked


@lru_cache(maxsize=1 << 8)
def _windows(
    kernel: tuple[int, ...], dilations: tuple[int, ...], strides: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[tuple[slice, ...], ...]:  # fmt: skip
    """Return the elements that each position of a kernel meets."""
    positions = itertools.product(*map(range, kernel))
    return tuple(met_by(position, dilations, strides, out) for position in positions)


def conv_transpose(inputs: Inputs, attributes: Attributes) -> Array:
    """Convolve X (N, Cin, d…) transposedly with W (Cin, Cout/g, k…) and add b (Cout)."""
    X, W, b = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    g = int(attributes.get("group") or 1)
    n, frame = W.ndim - 2, Frame.of(W.shape[2:], attributes)
    strides, (heads, tails) = frame.strides, frame.stated
    if X.ndim != W.ndim or X.shape[1] != W.shape[0]:
        raise ValueError(f"X {X.shape} does not fit W {W.shape}")
    extra = list(attributes.get("output_padding") or [0] * n)
    full = [(d - 1) * s + e for d, s, e in zip(X.shape[2:], strides, frame.extents, strict=True)]
    wanted = attributes.get("output_shape")
    if wanted or frame.sizes_decide:
        target = list(wanted or [d * s for d, s in zip(X.shape[2:], strides, strict=True)])[-n:]
        total = [f + e - t for f, e, t in zip(full, extra, target, strict=True)]
        heads, tails = frame.split(total)
        extra = [e + max(-t, 0) for e, t in zip(extra, total, strict=True)]
    samples, size = X.shape[0], math.prod(X.shape[2:])
    grouped = np.moveaxis(W.reshape(g, W.shape[0] // g, W.shape[1], -1), -1, 0)
    grouped = grouped.swapaxes(2, 3).copy()
    columns = np.moveaxis(X.reshape(samples, g, W.shape[0] // g, size), 0, 2).reshape(
        g, W.shape[0] // g, samples * size
    )
    shape = (samples, g * W.shape[1], *(f + e for f, e in zip(full, extra, strict=True)))
    require_room(shape)
    Y = np.zeros(shape)
    for index, position in enumerate(itertools.product(*map(range, W.shape[2:]))):
        window = met_by(position, frame.dilations, strides, X.shape[2:])
        part = (grouped[index] @ columns).reshape(g * W.shape[1], samples, *X.shape[2:])
        Y[(slice(None), slice(None), *window)] += np.moveaxis(part, 1, 0)
    ends = [size - p for size, p in zip(Y.shape[2:], tails, strict=True)]
    kept = tuple(slice(p, e) for p, e in zip(heads, ends, strict=True))
    return _with_bias(Y[(slice(None), slice(None), *kept)], b)


def matmul(inputs: Inputs) -> Array:
    """Return A B, stacked as numpy does it."""
    A, B = needed(inputs, 0), needed(inputs, 1)
    stack = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    require_room((*stack, *A.shape[-2:-1], *(B.shape[-1:] if B.ndim > 1 else ())))
    return np.asarray(A @ B)


def gemm(inputs: Inputs, attributes: Attributes) -> Array:
    """Return alpha · A' B' + beta · C."""
    A, B, C = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    if A.ndim != 2 or B.ndim != 2:  # noqa: PLR2004 - matrices
        raise ValueError(f"A {A.shape} and B {B.shape} are no matrices")
    A = A.T if attributes.get("transA") else A
    B = B.T if attributes.get("transB") else B
    Y = np.asarray(attributes.get("alpha", 1.0) * matmul((A, B)))
    return Y if C is None else np.asarray(Y + attributes.get("beta", 1.0) * C)
