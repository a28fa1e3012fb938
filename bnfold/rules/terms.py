"""The TERM table: which linear map of its input *is* this node, as a term of a sum?

A convolution is one, and so are a bare x, a channel affine of it, an average of neighbours, and a
crop. `linear_maps` has the rule by which two of the same tensor add up to one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.branching import Sum
from bnfold.rules.carry import BARRIERS, CARRY
from bnfold.rules.linear import LINEAR, Linear
from bnfold.rules.linear_maps import Term, Window
from bnfold.rules.operator import Operator
from bnfold.rules.orders import TURNED
from bnfold.rules.selecting import pads_of, slices_of
from bnfold.rules.stated import STATED

_SPATIAL = 2  # the first spatial axis
_TO_THE_END = 1 << 31  # exporters write INT_MAX or INT64_MAX for "all of it"


def convolution(op: Operator) -> Term:
    """Conv: its kernel, dilated or strided, with whatever pads are known."""
    layout = LINEAR["Conv"](op)
    return _of_layout(layout, _window(op, _kernel_shape(op)))


def transposed_convolution(op: Operator) -> Term:
    """ConvTranspose: its kernel, added into the result; no stated size of the result."""
    layout = LINEAR["ConvTranspose"](op)
    if op.pads is None or op.integers("output_shape"):
        raise Refusal(Reason.UNKNOWN_SHAPE, "the size of the result decides the pads")
    window = _window(op, _kernel_shape(op))
    more = op.integers("output_padding") or (0,) * len(window.end)
    end = tuple(pad - extra for pad, extra in zip(window.end, more, strict=True))
    return _of_layout(layout, replace(window, end=end, transposed=True))


def general_product(op: Operator) -> Term:
    """Gemm: its matrix, where it is the second."""
    layout = LINEAR["Gemm"](op)
    if not layout.weight:
        raise Refusal(Reason.OTHER_GEOMETRY, "the matrix comes first")
    return _of_layout(layout, _POINT)


def matrix_product(op: Operator) -> Term:
    """MatMul: its matrix, where it has only one."""
    layout = LINEAR["MatMul"](op)
    if layout.stacked:
        raise Refusal(Reason.OTHER_GEOMETRY, "several matrices are stacked")
    return _of_layout(layout, _POINT)


def average(op: Operator) -> Term:
    """AveragePool: one over their number for each tap, unless padding is left out of the count."""
    taps = op.integers("kernel_shape")
    if not taps:
        raise Refusal(Reason.BAD_PARAMETERS, "no kernel_shape")
    window = _window(op, taps)
    if op.integer("ceil_mode", 0):
        raise Refusal(Reason.OTHER_GEOMETRY, "ceil_mode=1")
    if any((*window.begin, *window.end)) and not op.integer("count_include_pad", 0):
        raise Refusal(Reason.OTHER_GEOMETRY, "padding is left out of the average")
    return Term(0, window, value=1.0 / prod(taps))


def crop(op: Operator) -> Term:
    """Slice: a stretch of the spatial axes, as pads below zero."""
    cuts = slices_of(op)
    steps = [step for _, _, step in cuts.values()]
    if any(step != 1 for step in steps):
        raise Refusal(Reason.OTHER_GEOMETRY, f"steps {steps}")
    sides = np.zeros((2, op.required(0).rank), np.int64)
    for axis, (start, end, _) in cuts.items():
        sides[:, axis] = _cropped(op, axis, start, end)
    return _only_spatial(sides)


def _cropped(op: Operator, axis: int, start: int, end: int) -> tuple[int, int]:
    """Return begin and end of a stretch, both at most zero."""
    x = op.required(0)
    if start < 0 or 0 <= end < _TO_THE_END:
        size = x.size(axis)
        start = min(start, size) if start >= 0 else max(size + start, 0)
        end = min(end, size) - size if end >= 0 else end
    return -start, min(end, 0) if end < _TO_THE_END else 0


def zeros(op: Operator) -> Term:
    """Pad: zeros around the spatial axes."""
    if op.text("mode", "constant") != "constant":
        raise Refusal(Reason.OTHER_GEOMETRY, "it pads with something else than zeros")
    (value,) = STATED["Pad"].numbers(op)
    if value:
        raise Refusal(Reason.OTHER_GEOMETRY, f"it pads with {value:.3g}")
    sides = np.zeros((2, op.required(0).rank), np.int64)
    for axis, amounts in pads_of(op).items():
        sides[:, axis] = amounts
    return _only_spatial(sides)


def _only_spatial(sides: NDArray[np.int64]) -> Term:
    """Return a point with begin and end of each axis; none for samples and channels."""
    if sides[:, :_SPATIAL].any():
        raise Refusal(Reason.CHANNELS_MIX, "samples or channels are cropped or added")
    begin, end = (tuple(int(n) for n in side[_SPATIAL:]) for side in sides)
    return Term(0, Window.point(begin, end))


_POINT = Window.point((), ())


def _of_layout(layout: Linear, window: Window) -> Term:
    groups, outs, ins = layout.groups, layout.out_channels, layout.in_channels
    return Term(layout.data, window, groups, outs, ins, layout)


def _kernel_shape(op: Operator) -> tuple[int, ...]:
    weight = op.required(1)
    return tuple(weight.size(axis) for axis in range(_SPATIAL, weight.rank))


def _window(op: Operator, taps: tuple[int, ...]) -> Window:
    """Return the window of an operator with strides, dilations and pads."""
    count = len(taps)
    strides = op.integers("strides") or (1,) * count
    dilations = op.integers("dilations") or (1,) * count
    window = Window(taps, strides, dilations, (0,) * count, (0,) * count)
    if op.pads is None:
        return _same(op, window)
    pads = op.pads or (0,) * (2 * count)
    if len(pads) != 2 * count or min(len(strides), len(dilations)) != count:
        raise Refusal(Reason.INVALID_NODE, f"{count} axes, pads {list(pads)}")
    return replace(window, begin=pads[:count], end=pads[count:])


def _same(op: Operator, window: Window) -> Window:
    """Return a window whose pads make ⌈n / stride⌉ elements of n; the odd one goes to one side.

    With stride 1 these are k − 1, whatever n is.
    """
    begin, end = [], []
    at_the_end = op.text("auto_pad", "") == "SAME_UPPER"
    for axis, (stride, extent) in enumerate(zip(window.strides, window.extent, strict=True)):
        size = op.required(0).size(_SPATIAL + axis) if stride > 1 else 1
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        begin.append(less if at_the_end else more)
        end.append(more if at_the_end else less)
    return replace(window, begin=tuple(begin), end=tuple(end))


TermRow = Callable[[Operator], Term]

TERM: Mapping[str, TermRow] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": general_product,
    "MatMul": matrix_product,
    "AveragePool": average,
    "Slice": crop,
    "Pad": zeros,
}
"""What is a linear map, besides the channel affines of `AFFINE`, which are points."""

BETWEEN: Mapping[str, Obstacle] = {
    "Transpose": Obstacle(Reason.OTHER_GEOMETRY, detail=TURNED),
    "ScatterND": Obstacle(Reason.OTHER_GEOMETRY, detail="it writes a border of other numbers"),
    **{name: Obstacle(reason) for name, reason in BARRIERS.items()},
}
"""What stands between linear maps that would add up without it, and what is said of it."""

ADDED: Mapping[str, Sum] = {name: row for name, row in CARRY.items() if isinstance(row, Sum)}
"""What adds terms up, and with which signs."""
