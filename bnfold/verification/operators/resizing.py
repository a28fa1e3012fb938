"""Resize and Upsample in float64: axis by axis a sum of one, two or four weighted elements.

onnx's reference evaluator computes cubic weights in float32, so they do not sum to 1: a shift then
does not pass, by more than a fold's rounding. It also takes a turn of a loop in Python for every
element.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.kernels import require_room
from bnfold.verification.operators.node import Attributes, Call, needed, optional

_ROI_OPSET = 11  # the opset from which Resize has one, and a choice of coordinates
_DEFAULT_CUBIC = -0.75


def resize(call: Call) -> Array | None:
    """Interpolate X; None for what is left to the reference evaluator.

    That is tf_crop_and_resize.
    """
    inputs, attributes = call.inputs, call.attributes
    X = needed(inputs, 0)
    if call.opset < _ROI_OPSET:
        return _interpolated(X, _by_scales(X, needed(inputs, 1)), _Way.legacy(attributes))
    way = _Way.stated(attributes)
    if way.position is None:
        return None
    axes = [axis % X.ndim for axis in attributes.get("axes") or range(X.ndim)]
    scales, sizes = optional(inputs, 2), optional(inputs, 3)
    if scales is not None:
        steps = _by_scales(X, scales, axes)
    elif sizes is not None:
        steps = _by_sizes(X, sizes, axes, _text(attributes, "keep_aspect_ratio_policy", "stretch"))
    else:
        raise ValueError("it has neither scales nor sizes")
    return _interpolated(X, steps, way)


def upsample(call: Call) -> Array | None:
    """Interpolate X by scales, which before opset 9 are an attribute."""
    X = needed(call.inputs, 0)
    scales = call.attributes.get("scales") or optional(call.inputs, 1)
    if scales is None:  # opset 1 names them otherwise
        return None
    return _interpolated(X, _by_scales(X, np.asarray(scales)), _Way.legacy(call.attributes))


def scales_of_resize(opset: int) -> int:
    """Return which of its inputs holds the scales."""
    return 1 if opset < _ROI_OPSET else 2


@frozen
class _Step:
    """What becomes of one axis."""

    axis: int
    size: int
    scale: float


def _by_scales(X: Array, scales: Array, axes: Sequence[int] | None = None) -> list[_Step]:
    """Return the steps of stated scales; lengths are products in float32, as runtimes have them."""
    listed = range(X.ndim) if axes is None else axes
    return [
        _Step(axis, int(np.floor(np.float32(X.shape[axis]) * np.float32(scale))), float(scale))
        for axis, scale in zip(listed, np.asarray(scales).tolist(), strict=True)
    ]


def _by_sizes(X: Array, sizes: Array, axes: Sequence[int], policy: str) -> list[_Step]:
    """Return the steps of stated sizes, which may be no more than bounds of what keeps a ratio."""
    lengths = [X.shape[axis] for axis in axes]
    listed = list(zip(axes, lengths, map(int, sizes), strict=True))
    if policy == "stretch":
        return [_Step(axis, size, size / length) for axis, length, size in listed]
    choose = min if policy == "not_larger" else max
    scale = choose(size / length for _, length, size in listed)
    return [_Step(axis, int(scale * length + 0.5), scale) for axis, length, _ in listed]


def _text(attributes: Attributes, name: str, default: str) -> str:
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


Position = Callable[[Array, _Step, int], Array]
"""Where the elements of the output lie on an axis of the input: of their indices, the step, and
the axis' length."""


def _half_pixel(i: Array, step: _Step, length: int) -> Array:
    del length
    return np.asarray((i + 0.5) / step.scale - 0.5)


def _half_pixel_symmetric(i: Array, step: _Step, length: int) -> Array:
    adjustment = step.size / (step.scale * length)
    return np.asarray(length / 2 * (1 - adjustment) + _half_pixel(i, step, length))


def _pytorch_half_pixel(i: Array, step: _Step, length: int) -> Array:
    return _half_pixel(i, step, length) if step.size > 1 else np.zeros(i.shape)


def _align_corners(i: Array, step: _Step, length: int) -> Array:
    if step.size == 1:
        return np.zeros(i.shape)
    return np.asarray(i * (length - 1) / (step.size - 1))


def _asymmetric(i: Array, step: _Step, length: int) -> Array:
    del length
    return np.asarray(i / step.scale)


_POSITIONS: dict[str, Position] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
}

_NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@frozen
class _Way:
    """How to interpolate.

    Attributes:
        mode: `nearest`, `linear` or `cubic`.
        position: Where an element lies; None for a way that is not known here.
        nearest: Rounds a position.
        a: The coefficient of cubic weights.
        exclude_outside: Elements beyond the end have no weight, rather than the last one's value.
        antialias: Where an axis becomes shorter, the weights reach as much farther.
    """

    mode: str
    position: Position | None
    nearest: Callable[[Array], Array]
    a: float = _DEFAULT_CUBIC
    exclude_outside: bool = False
    antialias: bool = False

    @classmethod
    def legacy(cls, attributes: Attributes) -> "_Way":
        """Return what Upsample does, and Resize before opset 11."""
        return cls(_text(attributes, "mode", "nearest").removeprefix("bi"), _asymmetric, np.floor)

    @classmethod
    def stated(cls, attributes: Attributes) -> "_Way":
        """Return what a Resize says."""
        return cls(
            _text(attributes, "mode", "nearest"),
            _POSITIONS.get(
                _text(attributes, "coordinate_transformation_mode", "half_pixel")
            ),
            _NEAREST[_text(attributes, "nearest_mode", "round_prefer_floor")],
            float(attributes.get("cubic_coeff_a", _DEFAULT_CUBIC)),
            bool(attributes.get("exclude_outside", 0)),
            bool(attributes.get("antialias", 0)),
        )  # fmt: skip

    def taps(self, step: _Step, length: int) -> "list[_Tap]":
        """Return what an axis is interpolated from; the weights of an element sum to 1."""
        assert self.position is not None  # noqa: S101 - the caller has looked
        require_room((step.size,))
        if self.mode == "nearest":  # halfway the rounding decides, and runtimes round to float32
            x = self.position(np.arange(step.size, dtype=np.float32), step, length)
            return [(self.nearest(x), np.ones(x.shape))]
        x = self.position(np.arange(step.size), step, length)
        low = np.floor(x)
        stretch = min(step.scale, 1.0) if self.antialias else 1.0
        reach = math.ceil(self.reach / stretch)
        far = range(1 - reach, reach + 1)
        taps = [(low + k, self.weight(np.abs(x - low - k) * stretch)) for k in far]
        if self.exclude_outside:
            taps = [(at, np.where((at >= 0) & (at < length), w, 0.0)) for at, w in taps]
        if self.exclude_outside or stretch < 1:
            total = sum(w for _, w in taps)
            taps = [(at, w / total) for at, w in taps]
        return taps

    @property
    def reach(self) -> int:
        """From where on an element has no weight."""
        return 1 if self.mode == "linear" else 2

    def weight(self, d: Array) -> Array:
        """Return the weights of elements at distances `d`."""
        if self.mode == "linear":
            return np.asarray(np.maximum(1 - d, 0.0))
        if self.mode != "cubic":
            raise ValueError(f"mode {self.mode}")
        return _cubic(d, self.a)


_Tap = tuple[Array, Array]
"""Which element of an axis each of the output's takes, and its weight."""


def _cubic(d: Array, a: float) -> Array:
    """Return the weights of elements at distances `d` (Keys 1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))  # noqa: PLR2004


def _interpolated(X: Array, steps: Sequence[_Step], way: _Way) -> Array:
    shape = list(X.shape)
    for step in steps:
        shape[step.axis] = step.size
    require_room(shape)
    for step in steps:
        length = X.shape[step.axis]
        if step.size != length or step.scale != 1:
            X = _along(X, step.axis, way.taps(step, length))
    return X


def _along(X: Array, axis: int, taps: "Sequence[_Tap]") -> Array:
    """Return the weighted elements along an axis; beyond an end the last element counts."""
    parts = (
        X.take(np.clip(at, 0, X.shape[axis] - 1).astype(np.intp), axis)
        * weight.reshape([-1 if i == axis else 1 for i in range(X.ndim)])
        for at, weight in taps
    )
    return np.asarray(sum(parts))
