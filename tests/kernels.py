"""Plain kernels for operators that ONNX's reference evaluator lacks or gets wrong.

They follow the text of the operators' specification as literally as possible, and take the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_resize as reference_resize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

_SPATIAL = 2


class BatchNormalization(OpRun):
    """At inference, of any opset; the reference has none for opsets 7 and 8."""

    op_domain = ""

    def _run(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, **attributes: Any
    ) -> tuple[Array]:
        epsilon = attributes.get("epsilon")
        spread = var + (np.float32(1e-5) if epsilon is None else epsilon)
        if not attributes.get("spatial", 1):
            return ((x - mean) * gamma / np.sqrt(spread) + beta,)
        along = (-1,) + (1,) * (x.ndim - 2)
        scale = gamma / np.sqrt(spread)
        return ((x - mean.reshape(along)) * scale.reshape(along) + beta.reshape(along),)


class ConvTranspose(OpRun):
    """With explicit pads; the reference is wrong for several groups, and for batches."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        sizes, kernel = x.shape[_SPATIAL:], w.shape[_SPATIAL:]
        strides = _listed(attributes, "strides", 1, len(sizes))
        dilations = _listed(attributes, "dilations", 1, len(sizes))
        extra = _listed(attributes, "output_padding", 0, len(sizes))
        pads = _listed(attributes, "pads", 0, 2 * len(sizes))
        groups = attributes.get("group") or 1
        full = [
            s * (n - 1) + d * (k - 1) + 1 + e
            for s, n, d, k, e in zip(strides, sizes, dilations, kernel, extra, strict=True)
        ]
        y = np.zeros((x.shape[0], groups, w.shape[1], *full))
        xs = x.reshape(x.shape[0], groups, -1, *sizes)
        ws = w.reshape(groups, -1, w.shape[1], *kernel)
        for at in np.ndindex(*kernel):
            steps = zip(at, dilations, strides, sizes, strict=True)
            where: Any = (..., *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, s, n in steps))
            taps: Any = (..., *at)
            y[where] += np.einsum("ngi...,gio->ngo...", xs, ws[taps])
        ends = zip(pads, pads[len(sizes) :], full, strict=False)
        inside: Any = (..., *(slice(begin, size - end) for begin, end, size in ends))
        y = y.reshape(x.shape[0], -1, *full)[inside]
        return (y if b is None else y + b.reshape((-1,) + (1,) * len(sizes)),)


def _listed(attributes: dict[str, Any], name: str, default: int, count: int) -> Sequence[int]:
    return list(attributes.get(name) or [default] * count)


class Upsample(OpRun):
    """Nearest and linear, by the rule that output i lies at i / scale; opsets 7 and 9."""

    op_domain = ""

    def _run(self, x: Array, scales: Array | None = None, **attributes: Any) -> tuple[Array]:
        factors = np.asarray(attributes.get("scales") if scales is None else scales).tolist()
        linear = attributes.get("mode") in ("linear", b"linear")
        for axis, factor in enumerate(factors):
            positions = np.arange(int(x.shape[axis] * factor)) / factor
            low = np.floor(positions).astype(int)
            high = np.minimum(low + 1, x.shape[axis] - 1)
            part = (positions - low if linear else 0 * positions).reshape(
                [-1 if i == axis else 1 for i in range(x.ndim)]
            )
            x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
        return (x,)


class _Elementwise(OpRun):
    """Of two operands; before opset 7 `axis` says where the second lies along the first."""

    op_domain = ""
    function: Callable[[Array, Array], Array]

    def _run(self, a: Array, b: Array, **attributes: Any) -> tuple[Array]:
        axis = attributes.get("axis")
        if axis is not None:
            b = b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim))
        return (type(self).function(a, b),)


class Add(_Elementwise):
    function = np.add


class Sub(_Elementwise):
    function = np.subtract


class Mul(_Elementwise):
    function = np.multiply


class Div(_Elementwise):
    function = np.true_divide


class GlobalMaxPool(OpRun):
    """The reference loses an axis where there is but one to reduce."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(_SPATIAL, x.ndim)), keepdims=True),)


@dataclass(frozen=True)
class _Windows:
    """Where the windows of a pool lie along one axis, padding included."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    ceil: bool

    @property
    def starts(self) -> range:
        room = self.size + self.begin + self.end - self.dilation * (self.kernel - 1) - 1
        count = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        if self.ceil and (count - 1) * self.stride >= self.size + self.begin:
            count -= 1  # no window starts in the padding at the end
        first = -self.begin
        return range(first, first + count * self.stride, self.stride)

    def positions(self, start: int) -> list[int]:
        """The positions of a window that are input or stated padding."""
        steps = range(start, start + self.dilation * self.kernel, self.dilation)
        return [i for i in steps if i < self.size + self.end]


def _windows(attributes: dict[str, Any], sizes: Sequence[int]) -> list[_Windows]:
    count = len(sizes)
    kernel = _listed(attributes, "kernel_shape", 1, count)
    strides = _listed(attributes, "strides", 1, count)
    dilations = _listed(attributes, "dilations", 1, count)
    pads = list(_listed(attributes, "pads", 0, 2 * count))
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    if auto_pad.startswith("SAME"):
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        steps = zip(sizes, strides, reach, strict=True)
        totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in steps]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = less + more if auto_pad == "SAME_UPPER" else more + less
    ceil = bool(attributes.get("ceil_mode"))
    rows = zip(sizes, kernel, strides, dilations, pads[:count], pads[count:], strict=True)
    return [_Windows(n, k, s, d, b, e, ceil) for n, k, s, d, b, e in rows]


def _pooled(x: Array, attributes: dict[str, Any], combine: Callable[[Array, int], Array]) -> Array:
    """Combine the elements of each window; `combine` is told how many positions it has."""
    windows = _windows(attributes, x.shape[_SPATIAL:])
    y = np.zeros([*x.shape[:_SPATIAL], *(len(w.starts) for w in windows)])
    for at in np.ndindex(y.shape[_SPATIAL:]):
        positions = [w.positions(w.starts[i]) for w, i in zip(windows, at, strict=True)]
        sizes = zip(positions, windows, strict=True)
        inside = [[i for i in found if 0 <= i < w.size] for found, w in sizes]
        where: Any = (slice(None), slice(None), *np.ix_(*inside))
        part = x[where]
        values = part.reshape(*x.shape[:_SPATIAL], -1)
        place: Any = (..., *at)
        y[place] = combine(values, prod(len(found) for found in positions))
    return y


class MaxPool(OpRun):
    """Of any rank and rounding; the reference fails on some."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        return (_pooled(x, attributes, lambda values, _: values.max(axis=2)),)


class AveragePool(OpRun):
    """Of any rank and rounding; padding is counted where the node says so."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        counts_padding = attributes.get("count_include_pad")

        def mean(values: Array, positions: int) -> Array:
            total: Array = values.sum(axis=2)
            return total / (positions if counts_padding else values.shape[2])

        return (_pooled(x, attributes, mean),)


class Resize(reference_resize.Resize):
    """The reference does not take an empty tensor for an input that is left out, and rounds."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, *inputs: Array | None, **attributes: Any
    ) -> tuple[Array]:
        given = [None if i is None or not i.size else i for i in inputs]
        if len(given) == 1:  # opset 10 has no roi
            given.insert(0, None)
        if attributes.get("cubic_coeff_a") is not None:  # a float32 would make all of it one
            attributes["cubic_coeff_a"] = float(attributes["cubic_coeff_a"])
        run: Any = super()._run
        result: tuple[Array] = run(x, *given, **attributes)
        return result


KERNELS = [
    Add,
    Div,
    Mul,
    Sub,
    AveragePool,
    BatchNormalization,
    ConvTranspose,
    GlobalMaxPool,
    MaxPool,
    Resize,
    Upsample,
]
