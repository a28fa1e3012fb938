"""Where elements go, in the corners that random nodes hardly reach."""

from __future__ import annotations

import numpy as np
import pytest
from operators import constant, data, operator

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.carry import CARRY
from bnfold.rules.operator import Attribute, Value
from bnfold.rules.selecting import pad_down, slice_down

_SIZE = 5
_LARGEST, _SMALLEST = (1 << 63) - 1, -(1 << 63)


def _sliced(start: int, end: int, step: int) -> list[float]:
    """What is left of the numbers 0 … 4."""
    bounds = (constant([value], elem_type=7) for value in (start, end, 0, step))
    op = operator("Slice", data(_SIZE), *bounds)
    taken = slice_down(op, Affine.along(0, 1, np.arange(_SIZE), np.zeros(_SIZE)))
    return [float(number) for number in taken.scale]


@pytest.mark.parametrize(
    ("start", "end", "step", "taken"),
    [
        (1, 3, 1, [1, 2]),
        (-2, _LARGEST, 1, [3, 4]),
        (-100, 2, 1, [0, 1]),
        (0, 100, 2, [0, 2, 4]),
        (4, 1, -1, [4, 3, 2]),
        (100, -100, -2, [4, 2, 0]),
        (-1, _SMALLEST, -2, [4, 2, 0]),
        (2, -_SIZE - 1, -1, [2, 1, 0]),
        (-100, -100, -1, [0]),
        (-100, _SMALLEST, -1, [0]),
    ],
)
def test_bounds_are_clamped_as_onnx_does_it(
    start: int, end: int, step: int, taken: list[int]
) -> None:
    assert _sliced(start, end, step) == taken


@pytest.mark.parametrize("bounds", [(3, 3, 1), (2, 4, -1), (1, _LARGEST, -2), (9, 10, 1)])
def test_a_slice_of_nothing_is_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(Refusal) as caught:
        _sliced(*bounds)
    assert caught.value.obstacle.reason is Reason.BAD_PARAMETERS


_CHANNELS = Affine.along(1, 4, np.asarray([2.0, 3.0]), np.zeros(2))
_RESIZED = (Value("y", (1, 2, 4, 5), 1),)


@pytest.mark.parametrize(
    ("axes", "policy", "passes"),
    [
        ((2,), "not_larger", True),
        ((1, 2), "stretch", True),
        ((-3, -2), "stretch", True),
        ((1, 2), "not_larger", False),
        ((1, 2), "not_smaller", False),
    ],
)
def test_a_resize_by_one_scale_may_resize_what_keeps_its_size(
    axes: tuple[int, ...], policy: str, *, passes: bool
) -> None:
    """0.8 of two channels are two channels again, and yet each is made of both."""
    sizes = constant([4] if len(axes) == 1 else [2, 4], elem_type=7)
    attributes: dict[str, Attribute] = {"axes": axes, "keep_aspect_ratio_policy": policy.encode()}
    inputs = (data(1, 2, 5, 5), None, None, sizes)
    op = operator("Resize", *inputs, opset=18, outputs=_RESIZED, **attributes)
    if passes:
        assert CARRY["Resize"].up(op, 0, _CHANNELS, 0).inputs[0].same(_CHANNELS)
        return
    with pytest.raises(Refusal) as caught:
        CARRY["Resize"].up(op, 0, _CHANNELS, 0)
    assert caught.value.obstacle.reason is Reason.CHANNELS_MIX


def _padded(before: int, after: int) -> Affine:
    op = operator("Pad", data(_SIZE), constant([before, after], elem_type=7))
    return pad_down(op, Affine.along(0, 1, np.arange(_SIZE) + 1.0, np.zeros(_SIZE)))


@pytest.mark.parametrize(
    ("before", "after", "scales"),
    [
        (0, 0, [1, 2, 3, 4, 5]),
        (-2, 0, [3, 4, 5]),
        (0, -2, [1, 2, 3]),
        (1, -3, [1, 1, 2]),
        (-4, 2, [5, 1, 1]),
    ],
)
def test_a_negative_pad_takes_away(before: int, after: int, scales: list[int]) -> None:
    assert [float(scale) for scale in _padded(before, after).scale] == scales


@pytest.mark.parametrize("amounts", [(-5, 0), (0, -5), (-3, -3), (0, -8), (_SMALLEST, 0)])
def test_a_pad_that_leaves_nothing_lets_nothing_pass(amounts: tuple[int, int]) -> None:
    with pytest.raises(Refusal) as caught:
        _padded(*amounts)
    assert caught.value.obstacle.reason is Reason.BAD_PARAMETERS
