"""W'[o, i] = s[o] q[i] W[o, i] and Σ W r, for every way that a weight can lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from dice import Dice
from operators import constant, data, operator, unknown

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.linear import LINEAR, Border, Linear

if TYPE_CHECKING:
    from evaluation import Array

    from bnfold.rules.operator import Operator

_IMAGE = data(1, 4, 5, 5)
_W = constant(np.ones((6, 2, 3, 3)), "W")
_KERNEL_1 = constant(np.ones((4, 3, 1, 1)), "W")


def _dense(layout: Linear, weight: Array) -> Array:
    """The weight as [Cout, Cin, k…], with zeros between the groups."""
    g, kernel = layout.groups, weight.shape[2:]
    outs, ins = layout.out_channels // g, layout.in_channels // g
    sizes = (outs, ins) if layout.order == "OI" else (ins, outs)
    dense = np.zeros((layout.out_channels, layout.in_channels, *kernel))
    for group, block in enumerate(weight.reshape(g, *sizes, *kernel)):
        part = block if layout.order == "OI" else block.swapaxes(0, 1)
        dense[group * outs : (group + 1) * outs, group * ins : (group + 1) * ins] = part
    return dense


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("order", ["OI", "IO"])
@pytest.mark.parametrize(("outs", "ins"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("uniform", [(True, False), (False, True), (False, False)])
def test_the_factor_and_the_response_are_those_of_the_dense_weight(
    groups: int, order: Literal["OI", "IO"], outs: int, ins: int, uniform: tuple[bool, bool]
) -> None:
    dice = Dice("linear", groups, order, outs, ins)
    layout = Linear(1, 0, 2, groups, order, 1, 1, groups * outs, groups * ins, weight_gain=0.5)
    lead = (groups * outs, ins) if order == "OI" else (groups * ins, outs)
    weight = dice.numbers((*lead, 2, 3))
    out_scale = np.ones(groups * outs) if uniform[0] else dice.factors((groups * outs,))
    in_scale = np.ones(groups * ins) if uniform[1] else dice.factors((groups * ins,))
    factor = layout.factor(out_scale, in_scale, weight.ndim)
    dense = _dense(layout, weight)
    expected = dense * out_scale[:, None, None, None] * in_scale[None, :, None, None]
    np.testing.assert_allclose(_dense(layout, weight * factor), expected, rtol=1e-15)
    shift = dice.numbers((groups * ins,))
    response = 0.5 * np.einsum("oikl,i->o", dense, shift)
    np.testing.assert_allclose(layout.response(weight, shift), response, atol=1e-12)


@pytest.mark.parametrize(
    ("op", "border"),
    [
        (operator("Conv", _IMAGE, _W), Border.NOTHING),
        (operator("Conv", _IMAGE, _W, pads=(0, 0, 0, 0)), Border.NOTHING),
        (operator("Conv", _IMAGE, _W, pads=(0, 1, 0, 0)), Border.ZEROS),
        (operator("Conv", _IMAGE, _W, auto_pad=b"SAME_LOWER"), Border.NEVER),
        (operator("Conv", _IMAGE, _W, auto_pad=b"VALID"), Border.NOTHING),
        (operator("ConvTranspose", _IMAGE, _KERNEL_1), Border.NOTHING),
        (operator("ConvTranspose", _IMAGE, _KERNEL_1, strides=(2, 1)), Border.NEVER),
        (operator("ConvTranspose", _IMAGE, _KERNEL_1, pads=(0, 0, 0, 1)), Border.NEVER),
        (operator("ConvTranspose", _IMAGE, _W), Border.NEVER),
        (operator("DeformConv", _IMAGE, _W), Border.NEVER),
        (operator("Gemm", data(3, 2), constant(np.ones((2, 4)))), Border.NOTHING),
    ],
)
def test_what_is_read_beyond_the_input(op: Operator, border: Border) -> None:
    assert LINEAR[op.op_type](op).border is border


@pytest.mark.parametrize(
    ("op", "axes", "channels"),
    [
        (operator("Conv", _IMAGE, _W, group=2), (1, 1), (6, 4)),
        (operator("ConvTranspose", _IMAGE, _KERNEL_1, group=2), (1, 1), (6, 4)),
        (operator("DeformConv", _IMAGE, _W, group=2), (1, 1), (6, 4)),
        (operator("Gemm", data(3, 2), constant(np.ones((2, 4)))), (1, 1), (4, 2)),
        (operator("Gemm", data(3, 2), constant(np.ones((4, 2))), transB=1), (1, 1), (4, 2)),
        (operator("Gemm", data(2, 3), constant(np.ones((2, 4))), transA=1), (1, 0), (4, 2)),
        (operator("MatMul", data(5, 3, 2), constant(np.ones((2, 4)))), (-1, -1), (4, 2)),
        (operator("MatMul", constant(np.ones((4, 2))), data(5, 2, 3)), (-2, -2), (4, 2)),
        (operator("MatMul", data(2), constant(np.ones((2, 4)))), (-1, -1), (4, 2)),
        (operator("MatMul", constant(np.ones((4, 2))), data(2)), (-1, -1), (4, 2)),
    ],
)
def test_where_the_channels_lie(
    op: Operator, axes: tuple[int, int], channels: tuple[int, int]
) -> None:
    layout = LINEAR[op.op_type](op)
    assert (layout.out_axis, layout.in_axis) == axes
    assert (layout.out_channels, layout.in_channels) == channels


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (operator("Conv", _IMAGE, data(6, 4, 3, 3)), Reason.WEIGHT_NOT_CONSTANT),
        (operator("Conv", _IMAGE, constant(np.ones((6, 4)))), Reason.BAD_PARAMETERS),
        (operator("DeformConv", _IMAGE, constant(np.ones((6, 4)))), Reason.BAD_PARAMETERS),
        (operator("DeformConv", _IMAGE, data(6, 4, 3, 3)), Reason.WEIGHT_NOT_CONSTANT),
        (operator("Conv", _IMAGE, _W, group=4), Reason.BAD_PARAMETERS),
        (operator("Conv", _IMAGE, constant(np.ones((0, 4, 1, 1)))), Reason.BAD_PARAMETERS),
        (operator("Conv", _IMAGE, constant(1, elem_type=3)), Reason.WEIGHT_NOT_CONSTANT),
        (operator("MatMul", unknown(), constant(np.ones((3, 2)))), Reason.UNKNOWN_SHAPE),
        (operator("MatMul", data(2, 3), constant(np.ones(3))), Reason.OTHER_AXIS),
    ],
)
def test_what_is_refused(op: Operator, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        LINEAR[op.op_type](op)
    assert caught.value.obstacle.reason is reason


def test_an_affine_along_another_axis_is_refused() -> None:
    layout = LINEAR["Conv"](operator("Conv", _IMAGE, _W, group=2))
    along_width = Affine.along(3, 4, np.asarray([1.0, 2.0]), np.zeros(2))
    for vectors in (layout.output_vectors, layout.input_vectors):
        with pytest.raises(Refusal) as caught:
            vectors(along_width)
        assert caught.value.obstacle.reason is Reason.OTHER_AXIS
