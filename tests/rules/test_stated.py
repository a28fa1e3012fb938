"""The numbers that a Pad and a Clip state themselves, under a channel affine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from operators import constant, data, operator, unknown

import bnfold
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.stated import STATED
from bnfold.verification.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.rules.operator import Operator

_INFINITE = math.inf
_CLIP = STATED["Clip"]


def _affine(scale: list[float], shift: list[float]) -> Affine:
    return Affine.along(1, 4, np.asarray(scale), np.asarray(shift))


@pytest.mark.parametrize(
    ("bounds", "scale", "shift", "expected"),
    [
        ((0, 6), [2], [1], (1, 13)),
        ((0, 6), [-2], [1], (-11, 1)),
        ((0, _INFINITE), [2, 3], [0, 0], (0, _INFINITE)),
        ((0, _INFINITE), [-2, -3], [0, 0], (-_INFINITE, 0)),
        ((-_INFINITE, _INFINITE), [-2, 3], [4, 5], (-_INFINITE, _INFINITE)),
        ((1, 6), [0], [4], (4, 4)),
    ],
)
def test_bounds_take_the_affine_and_change_places_where_the_scale_is_negative(
    bounds: tuple[float, float],
    scale: list[float],
    shift: list[float],
    expected: tuple[float, float],
) -> None:
    assert _CLIP.change(bounds, _affine(scale, shift)) == expected


@pytest.mark.parametrize(
    ("bounds", "scale", "shift"),
    [
        ((0, 6), [1, 2], [0, 0]),
        ((0, 6), [1, 1], [0, 1]),
        ((0, _INFINITE), [1, -1], [0, 0]),
        ((0, _INFINITE), [0], [1]),
    ],
)
def test_bounds_that_would_differ_between_channels_are_refused(
    bounds: tuple[float, float], scale: list[float], shift: list[float]
) -> None:
    with pytest.raises(Refusal) as refused:
        _CLIP.change(bounds, _affine(scale, shift))
    assert refused.value.obstacle.reason is Reason.CLIP_BOUND


_LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (operator("Clip", data(2), constant(0.0), constant(6.0)), (0, 6)),
        (operator("Clip", data(2)), (-_INFINITE, _INFINITE)),
        (operator("Clip", data(2), None, constant([6.0])), (-_INFINITE, 6)),
        (operator("Clip", data(2), constant(0.0), constant(_LARGEST)), (0, _INFINITE)),
        (operator("Clip", data(2), opset=6, min=0.0, max=6.0), (0, 6)),
        (operator("Clip", data(2), opset=6, min=-_LARGEST), (-_INFINITE, _INFINITE)),
        (operator("Clip", data(2), opset=10, max=0.5), (-_INFINITE, 0.5)),
    ],
)
def test_bounds_are_read_where_the_opset_has_them(
    op: Operator, expected: tuple[float, float]
) -> None:
    assert _CLIP.numbers(op) == expected


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (operator("Clip", data(2), constant(6.0), constant(0.0)), Reason.BAD_PARAMETERS),
        (operator("Clip", data(2), constant(math.nan)), Reason.BAD_PARAMETERS),
        (operator("Clip", data(2), unknown()), Reason.PARAMETERS_NOT_CONSTANT),
    ],
)
def test_bounds_that_are_none_are_refused(op: Operator, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        _CLIP.numbers(op)
    assert refused.value.obstacle.reason is reason


def test_the_largest_number_of_a_type() -> None:
    half, brain = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    assert _CLIP.largest(operator("Clip", data(2, elem_type=half))) == 65504
    found = _CLIP.largest(operator("Clip", data(2, elem_type=brain)))
    bfloat16 = onnx.helper.tensor_dtype_to_np_dtype(brain)
    assert np.isfinite(np.float32(np.asarray(found).astype(bfloat16)))
    assert np.isinf(np.float32(np.asarray(_LARGEST).astype(bfloat16)))


def test_what_is_infinite_is_written_as_the_largest_number_for_a_bound_alone() -> None:
    pad = STATED["Pad"]
    for stated, expected in ((_CLIP, -_LARGEST), (pad, -_INFINITE)):
        assert stated.written(operator("Pad", data(2)), -_INFINITE) == expected
    assert pad.numbers(operator("Pad", data(2), None, constant(-_LARGEST))) == (-_LARGEST,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opset", "clip", "parameters"),
    [
        (7, "Clip <min = 0.0, max = 6.0> (c)", ""),
        (9, "Clip <min = 0.0> (c)", ""),
        (13, "Clip (c, zero, six)", "float zero = {0}, float six = {6},"),
        (13, "Clip (c, zero)", "float zero = {0},"),
    ],
)
def test_a_negative_scale_behind_a_clip_is_folded_and_verified(
    opset: int, clip: str, parameters: str, tmp_path: Path
) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[1,2,3,3] x) => (float[1,2,3,3] z)
        <{parameters} float[2,2,1,1] W = {{1, 2, 3, 4}}, float[2] B = {{-1, 1}},
         float[1] k = {{-0.3}}>
        {{ c = Conv (x, W, B)  d = {clip}  z = Mul (d, k) }}""")
    source = tmp_path / "model.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source)
    assert len(report.folds) == 1
    assert report.verification is not None
    assert report.verification.verdict is Verdict.PASSED
