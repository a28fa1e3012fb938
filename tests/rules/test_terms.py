"""Two linear maps of one tensor are one: against convolutions computed in float64."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dice import Dice
from operators import constant, data, operator, unknown

from bnfold.reasons import Reason, Refusal
from bnfold.rules.linear_maps import Term, Window, add_into, added, crop_of
from bnfold.rules.terms import TERM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation import Array

    from bnfold.rules.operator import Operator, Value

_PAIRS = 2000  # of the first 6,000 none is wrong either
_SIZES = 8


def _padded(x: Array, begin: Sequence[int], end: Sequence[int]) -> Array:
    """x, with zeros around it or cropped."""
    spread = [(max(b, 0), max(e, 0)) for b, e in zip(begin, end, strict=True)]
    wide = np.pad(x, [(0, 0), *spread])
    kept = [
        slice(max(-b, 0), n - max(-e, 0))
        for b, e, n in zip(begin, end, wide.shape[1:], strict=True)
    ]
    return wide[(slice(None), *kept)]


def _positions(window: Window, tap: Sequence[int], made: Sequence[int]) -> tuple[slice, ...]:
    """Where one tap of a kernel meets the padded x (or, transposed, the result before the crop)."""
    starts = [t * d for t, d in zip(tap, window.dilations, strict=True)]
    return tuple(
        slice(start, start + (n - 1) * step + 1, step)
        for start, n, step in zip(starts, made, window.strides, strict=True)
    )


def _dense(term: Term, kernel: Array) -> Array:
    """[Cout, Cin, taps…] with zeros between the groups."""
    outs, ins = term.out_channels // term.groups, term.in_channels // term.groups
    dense = np.zeros((term.out_channels, term.in_channels, *term.window.taps))
    for g in range(term.groups):
        rows = slice(g * outs, (g + 1) * outs)
        dense[rows, g * ins : (g + 1) * ins] = kernel[rows]
    return dense


def _at_tap(dense: Array, tap: Sequence[int]) -> Array:
    at: tuple[Any, ...] = (..., *tap)
    found: Array = dense[at]
    return found


def _applied(term: Term, kernel: Array, x: Array) -> Array:
    """What the module's formula says, tap by tap."""
    window, dense = term.window, _dense(term, kernel)
    made = window.sizes(x.shape[1:])
    if window.transposed:
        whole = [(n - 1) * s + e for n, s, e in _axes(window, x.shape[1:])]
        result = np.zeros((term.out_channels, *whole))
        for tap in product(*map(range, window.taps)):
            at = (slice(None), *_positions(window, tap, x.shape[1:]))
            result[at] += np.tensordot(_at_tap(dense, tap), x, 1)
        begin, end = ([-n for n in side] for side in (window.begin, window.end))
        return _padded(result, begin, end)
    x = _padded(x, window.begin, window.end)
    result = np.zeros((term.out_channels, *made))
    for tap in product(*map(range, window.taps)):
        at = (slice(None), *_positions(window, tap, made))
        result += np.tensordot(_at_tap(dense, tap), x[at], 1)
    return result


def _axes(window: Window, sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    return list(zip(sizes, window.strides, window.extent, strict=True))


def _kernel(dice: Dice, term: Term) -> Array:
    if term.layout is None and term.value != 1.0:
        return term.own_kernel()
    return dice.numbers((term.out_channels, term.in_channels // term.groups, *term.window.taps))


def _summed(target: Term, terms: Sequence[Term], kernels: Sequence[Array], step: int) -> Array:
    """The kernel of a sum, made a few rows at a time."""
    total = np.zeros(
        (target.out_channels, target.in_channels // target.groups, *target.window.taps)
    )
    for start in range(0, target.out_channels, step):
        rows = slice(start, start + step)
        for term, kernel in zip(terms, kernels, strict=True):
            add_into(total[rows], start, target, term, kernel[rows])
    return total


def _drawn(dice: Dice, axes: int, channels: tuple[int, int], *, transposed: bool) -> Term:
    """Any term: kernels of even and odd sizes, dilated, with unlike pads on the two sides."""
    outs, ins = channels

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(dice.integer(low, high) for _ in range(axes))

    stride = each(1, 2) if dice.chance(0.3) else (1,) * axes
    taps = each(1, 5 - axes)
    window = Window(taps, stride, each(1, 2), each(0, 2), each(0, 2), transposed)
    groups = dice.choose([g for g in range(1, 7) if not outs % g and not ins % g])
    return Term(0, window, groups, outs, ins)


def _like(dice: Dice, term: Term, other: Term) -> Term:
    """The term with pads under which it often fits the other."""
    window = other.window
    if dice.chance(0.5):
        extent = window.extent
        begin = tuple(dice.integer(0, 3) for _ in extent)
        end = tuple(
            max(e + k - b, 0) for e, k, b in zip(term.window.excess, extent, begin, strict=True)
        )
        window = Window(window.taps, term.window.strides, window.dilations, begin, end)
    transposed = term.window.transposed
    made = Window(
        window.taps, window.strides, window.dilations, window.begin, window.end, transposed
    )
    return Term(0, made, other.groups, other.out_channels, other.in_channels)


def _pair(dice: Dice) -> tuple[Term, Term]:
    axes = dice.choose([1, 1, 1, 1, 1, 2, 3])
    width = dice.integer(1, 3)
    channels = (width * dice.integer(1, 3), width * dice.integer(1, 2))
    transposed = dice.chance(0.2)
    first, second = (_drawn(dice, axes, channels, transposed=transposed) for _ in range(2))
    return first, _like(dice, first, second)


@pytest.mark.slow
def test_a_sum_of_two_linear_maps_is_one() -> None:
    dice = Dice("terms")
    accepted = 0
    for _ in range(_PAIRS):
        pair = _pair(dice)
        axes = len(pair[0].window.taps)
        crop = 5 if pair[0].window.transposed else 0  # of the result, by begin and end
        least = max(max(term.window.extent) for term in pair) + crop
        try:
            target = added(pair)
        except Refusal:
            tried = [(n,) * axes for n in range(least, least + _SIZES)]
            assert any(pair[0].window.sizes(n) != pair[1].window.sizes(n) for n in tried)
            continue
        accepted += 1
        kernels = [_kernel(dice, term) for term in pair]
        total = _summed(target, pair, kernels, dice.integer(1, 4))
        sizes = tuple(dice.integer(least, least + 2) for _ in range(axes))
        x = dice.numbers((pair[0].in_channels, *sizes))
        expected = sum(_applied(term, k, x) for term, k in zip(pair, kernels, strict=True))
        np.testing.assert_allclose(_applied(target, total, x), expected, rtol=0, atol=1e-12)
        assert np.count_nonzero(total) >= max(np.count_nonzero(kernel) for kernel in kernels)
    assert accepted > _PAIRS // 4


def test_where_a_stride_skips_the_rest_a_known_size_decides() -> None:
    wide = Term(0, Window((3,), (2,), (1,), (0,), (1,)), 1, 1, 1)
    point = Term(0, Window((1,), (2,), (1,), (0,), (0,)), 1, 1, 1)
    with pytest.raises(Refusal) as caught:
        added([wide, point])
    assert caught.value.obstacle.reason is Reason.OTHER_GEOMETRY
    dice = Dice("known size")
    kernels = [_kernel(dice, term) for term in (wide, point)]
    for size in (4, 6, 8):
        target = added([wide, point], [size])
        x = dice.numbers((1, size))
        total = _summed(target, [wide, point], kernels, 1)
        expected = _applied(wide, kernels[0], x) + _applied(point, kernels[1], x)
        np.testing.assert_allclose(_applied(target, total, x), expected, atol=1e-12)
    with pytest.raises(Refusal):
        added([wide, point], [5])


def test_one_dilation_for_all_is_kept() -> None:
    terms = [
        Term(0, Window((3,), (1,), (4,), (4,), (4,)), 2, 4, 4),
        Term(0, Window((2,), (1,), (8,), (4,), (4,)), 4, 4, 4),
        Term(0, Window.point((0,), (0,))),
    ]
    target = added(terms)
    assert target.window == Window((3,), (1,), (4,), (4,), (4,))
    assert target.groups == 2
    assert target.weights == 4 * 2 * 3


def test_terms_without_channels_of_their_own_have_those_of_the_others() -> None:
    dense = Term(0, Window.point((0,), (0,)), 1, 6, 4)
    bare = Term(0, Window.point((0,), (0,)))
    assert added([bare, Term(0, Window.point((0,), (0,)), 2, 4, 4)]).groups == 2
    with pytest.raises(Refusal):
        added([bare, dense])


_IMAGE = data(1, 4, 9, 8)
_UNSIZED = data(None, 4, None, None)
_W = constant(np.ones((6, 2, 3, 2)), "W")
_INTS = 7


def _ints(*values: int) -> Value:
    return constant(values, "i", _INTS)


_POINTS = (1, 1)


_READS = [
    (
        operator("Conv", _UNSIZED, _W, group=2, pads=(1, 0, 2, 1), dilations=(2, 1)),
        Window((3, 2), _POINTS, (2, 1), (1, 0), (2, 1)),
    ),
    (
        operator("Conv", _UNSIZED, _W, auto_pad=b"VALID", strides=(2, 1)),
        Window((3, 2), (2, 1), _POINTS, (0, 0), (0, 0)),
    ),
    (
        operator("Conv", _UNSIZED, _W, auto_pad=b"SAME_UPPER"),
        Window((3, 2), _POINTS, _POINTS, (1, 0), (1, 1)),
    ),
    (
        operator("Conv", _IMAGE, _W, auto_pad=b"SAME_LOWER", strides=(2, 2)),
        Window((3, 2), (2, 2), _POINTS, (1, 0), (1, 0)),
    ),
    (
        operator(
            "ConvTranspose",
            _IMAGE,
            _W,
            pads=(1, 1, 1, 1),
            strides=(2, 2),
            output_padding=(1, 0),
        ),
        Window((3, 2), (2, 2), _POINTS, (1, 1), (0, 1), transposed=True),
    ),
    (operator("Gemm", data(3, 2), constant(np.ones((2, 4)))), Window.point((), ())),
    (operator("MatMul", data(5, 3, 2), constant(np.ones((2, 4)))), Window.point((), ())),
    (
        operator("AveragePool", _UNSIZED, kernel_shape=(3, 3), pads=(1,) * 4, count_include_pad=1),
        Window((3, 3), _POINTS, _POINTS, _POINTS, _POINTS),
    ),
    (
        operator("Slice", _UNSIZED, _ints(1, 0), _ints(-2, 2**31 - 1), _ints(2, 3)),
        Window.point((-1, 0), (-2, 0)),
    ),
    (
        operator("Slice", _IMAGE, _ints(-8), _ints(5), _ints(2), _ints(1)),
        Window.point((-1, 0), (-4, 0)),
    ),
    (
        operator("Slice", _IMAGE, opset=9, starts=(0, 0, 2), ends=(1, 4, 99), axes=(0, 1, 3)),
        Window.point((0, -2), (0, 0)),
    ),
    (
        operator("Pad", _UNSIZED, _ints(0, 0, 1, 2, 0, 0, 3, -1)),
        Window.point((1, 2), (3, -1)),
    ),
    (
        operator("Pad", _UNSIZED, opset=2, pads=(0, 0, 1, 2, 0, 0, 3, 0)),
        Window.point((1, 2), (3, 0)),
    ),
    (
        operator("Pad", _UNSIZED, _ints(1, 2), None, _ints(-1), opset=18),
        Window.point((0, 1), (0, 2)),
    ),
]


@pytest.mark.parametrize(("op", "window"), _READS)
def test_what_a_node_reads(op: Operator, window: Window) -> None:
    assert TERM[op.op_type](op).window == window


def test_every_row_is_shown() -> None:
    assert {op.op_type for op, _ in _READS} == TERM.keys()


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (operator("Conv", _IMAGE, data(6, 4, 3, 3)), Reason.WEIGHT_NOT_CONSTANT),
        (
            operator("Conv", _UNSIZED, _W, auto_pad=b"SAME_UPPER", strides=(2, 2)),
            Reason.UNKNOWN_SHAPE,
        ),
        (operator("Conv", _IMAGE, _W, group=2, pads=(1, 1)), Reason.INVALID_NODE),
        (
            operator("ConvTranspose", _IMAGE, _W, output_shape=(9, 9)),
            Reason.UNKNOWN_SHAPE,
        ),
        (
            operator("MatMul", data(2, 3, 2), constant(np.ones((2, 2, 4)))),
            Reason.OTHER_GEOMETRY,
        ),
        (
            operator("AveragePool", _IMAGE, kernel_shape=(3, 3), pads=(1,) * 4),
            Reason.OTHER_GEOMETRY,
        ),
        (
            operator("AveragePool", _IMAGE, kernel_shape=(3, 3), ceil_mode=1),
            Reason.OTHER_GEOMETRY,
        ),
        (operator("Slice", unknown(), _ints(1), _ints(-1), _ints(2)), Reason.UNKNOWN_SHAPE),
        (operator("Slice", _UNSIZED, _ints(-3), _ints(-1), _ints(2)), Reason.UNKNOWN_SHAPE),
        (operator("Slice", _IMAGE, _ints(1), _ints(3), _ints(1)), Reason.CHANNELS_MIX),
        (
            operator("Slice", _IMAGE, _ints(0), _ints(9), _ints(2), _ints(2)),
            Reason.OTHER_GEOMETRY,
        ),
        (operator("Pad", _IMAGE, _ints(*(1,) * 8)), Reason.CHANNELS_MIX),
        (operator("Pad", _IMAGE, _ints(*(0,) * 8), constant(1.0)), Reason.OTHER_GEOMETRY),
        (operator("Pad", _IMAGE, _ints(*(0,) * 8), mode=b"edge"), Reason.OTHER_GEOMETRY),
    ],
)
def test_what_is_no_term(op: Operator, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        TERM[op.op_type](op)
    assert caught.value.obstacle.reason is reason


@pytest.mark.parametrize("begin", [-2, -1, 0, 1])
@pytest.mark.parametrize("end", [-1, 0, 2])
@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("inside", [True, False])
def test_a_crop_before_or_behind_a_kernel_is_a_pad_below_zero(
    begin: int, end: int, pads: int, *, inside: bool
) -> None:
    dice = Dice(f"crop {begin} {end} {pads} {inside}")
    point = Term(0, Window.point((begin,), (end,)))
    kernel = Term(0, Window((3,), (2,), (1,), (pads,), (pads,)), 1, 2, 2)
    numbers, x = _kernel(dice, kernel), dice.numbers((2, 13))
    outer, inner = (kernel, point) if inside else (point, kernel)
    try:
        both = crop_of(outer, inner)
    except Refusal:
        cropped_then_padded = inside and pads and min(begin, end) < 0
        padded_afterwards = not inside and max(begin, end) > 0
        assert cropped_then_padded or padded_afterwards
        return
    sides = (begin,), (end,)
    if inside:
        expected = _applied(kernel, numbers, _padded(x, *sides))
    else:
        expected = _padded(_applied(kernel, numbers, x), *sides)
    np.testing.assert_allclose(_applied(both, numbers, x), expected, atol=1e-12)


def test_pads_that_come_out_below_zero_are_refused() -> None:
    kernel = Term(0, Window((3,), (1,), (1,), (-1,), (-1,)), 1, 1, 1)
    with pytest.raises(Refusal) as caught:
        added([kernel, kernel])
    assert "pads -1 and -1" in str(caught.value.obstacle)
