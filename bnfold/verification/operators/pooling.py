"""Pooling in float64: onnx's reference takes a loop turn in Python per element."""

import itertools
from collections.abc import Sequence

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.frame import Frame, met_by
from bnfold.verification.operators.kernels import padded_by
from bnfold.verification.operators.node import Attributes, Inputs, needed


def maximum(inputs: Inputs, attributes: Attributes) -> Array:
    """Return the largest element of each window of X (N, C, d…)."""
    windows = _windows(needed(inputs, 0), attributes, fill=-np.inf)
    return np.asarray(np.max(windows.elements, axis=0))


def mean(inputs: Inputs, attributes: Attributes) -> Array:
    """Return the mean of each window of X (N, C, d…)."""
    windows = _windows(needed(inputs, 0), attributes, fill=0.0)
    return np.asarray(sum(windows.elements) / sum(windows.counted))


def norm(inputs: Inputs, attributes: Attributes) -> Array:
    """Return the p-norm of each window of X (N, C, d…)."""
    windows = _windows(needed(inputs, 0), attributes, fill=0.0)
    return _norm(np.stack(windows.elements), attributes, (0,)).squeeze(0)


def _norm(X: Array, attributes: Attributes, axes: tuple[int, ...]) -> Array:
    """Return the p-norm along axes that are kept, taken of numbers of which the largest is 1."""
    p = attributes.get("p", 2)
    largest = np.abs(X).max(axis=axes, keepdims=True)
    unit = np.where(largest > 0, largest, 1.0)
    total = (np.abs(X / unit) ** p).sum(axis=axes, keepdims=True)
    return np.asarray(largest * total ** (1 / p))


@frozen
class _Windows:
    """The windows of a pool.

    Attributes:
        elements: For each position in a window, the elements there, one a window.
        counted: The same of ones where an element counts in a mean, as (1, 1, d…).
    """

    elements: list[Array]
    counted: list[Array]


def _windows(X: Array, attributes: Attributes, *, fill: float) -> _Windows:
    kernel = list(attributes["kernel_shape"])
    if X.ndim != len(kernel) + 2:
        raise ValueError(f"X {X.shape} does not fit a kernel of {kernel}")
    frame = Frame.of(kernel, attributes)
    heads, tails = frame.pads(X.shape[2:])
    ceil = bool(attributes.get("ceil_mode"))
    out, reach = _outputs(frame, X.shape[2:], (heads, tails), ceil=ceil)
    behind = [max(r - d - h, 0) for h, r, d in zip(heads, reach, X.shape[2:], strict=True)]
    padded = padded_by(X, heads, behind, fill)
    everything = slice(None), slice(None)
    views = [
        (*everything, *met_by(tap, frame.dilations, frame.strides, out))
        for tap in itertools.product(*map(range, kernel))
    ]
    counted = _counted(attributes, X.shape[2:], padded.shape[2:], heads, tails)
    return _Windows([padded[view] for view in views], [counted[view] for view in views])


def _outputs(
    frame: Frame, sizes: Sequence[int], pads: tuple[Sequence[int], Sequence[int]], *, ceil: bool
) -> tuple[list[int], list[int]]:
    """Return the numbers of windows and how far the last window reaches."""
    extents, strides = frame.extents, frame.strides
    out: list[int] = []
    for size, head, tail, extent, stride in zip(sizes, *pads, extents, strides, strict=True):
        span = size + head + tail - extent
        if span < 0:
            raise ValueError(f"a window of {extent} does not fit {size}")
        windows = span // stride + 1
        # Rounded up only if the window that is won begins before the end padding.
        if ceil and span % stride and windows * stride < size + head:
            windows += 1
        out.append(windows)
    reach = [
        max((o - 1) * s + e, size + head + tail)
        for o, s, e, size, head, tail in zip(out, strides, extents, sizes, *pads, strict=True)
    ]
    return out, reach


def _counted(
    attributes: Attributes, sizes: Sequence[int], padded: Sequence[int],
    heads: Sequence[int], tails: Sequence[int],
) -> Array:  # fmt: skip
    """Return 1 where an element counts in a mean, as (1, 1, d…)."""
    counted = np.zeros((1, 1, *padded))
    if attributes.get("count_include_pad"):
        ends = [h + d + t for h, d, t in zip(heads, sizes, tails, strict=True)]
        counted[:, :, *(slice(0, e) for e in ends)] = 1
        return counted
    counted[:, :, *(slice(h, h + d) for h, d in zip(heads, sizes, strict=True))] = 1
    return counted


def global_maximum(X: Array) -> Array:
    """Return the largest element of each channel of X (N, C, d…), as (N, C, 1…)."""
    return np.asarray(X.max(axis=_spatial(X), keepdims=True))


def global_mean(X: Array) -> Array:
    """Return the mean of each channel of X (N, C, d…), as (N, C, 1…)."""
    return np.asarray(X.mean(axis=_spatial(X), keepdims=True))


def global_norm(inputs: Inputs, attributes: Attributes) -> Array:
    """Return the p-norm of each channel of X (N, C, d…), as (N, C, 1…)."""
    X = needed(inputs, 0)
    return _norm(X, attributes, _spatial(X))


def _spatial(X: Array) -> tuple[int, ...]:
    return tuple(range(2, X.ndim))
