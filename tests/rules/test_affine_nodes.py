"""Which affine a node is, and why another is none."""

from __future__ import annotations

import numpy as np
import pytest
from operators import constant, data, operator, unknown

from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.operator import Operator, Value

X = data(1, 2, 3, 4)
_ONES, _ZEROS = constant([1, 1]), constant([0, 0])


def _normalization(x: Value = X, *parameters: Value, **attributes: float) -> Operator:
    opset = int(attributes.pop("opset", 17))
    given = parameters or (constant([2, 6]), constant([1, 2]), constant([1, 1]), constant([1, 4]))
    return Operator("BatchNormalization", opset, (x, *given), (Value("y"),), attributes)


@pytest.mark.parametrize(
    ("op", "scale", "shift"),
    [
        (_normalization(epsilon=0.0), [2, 3], [-1, -1]),
        (_normalization(epsilon=0.0, opset=6, is_test=1), [2, 3], [-1, -1]),
        (_normalization(epsilon=0.0, opset=7, spatial=1), [2, 3], [-1, -1]),
        (operator("Mul", X, constant([[[2]], [[3]]])), [2, 3], [0, 0]),
        (operator("Mul", constant([[[2]], [[3]]]), X), [2, 3], [0, 0]),
        (operator("Mul", X, constant([2, 3]), opset=6, broadcast=1, axis=1), [2, 3], [0, 0]),
        (operator("Mul", X, constant(2)), [2, 2], [0, 0]),
        (operator("Add", X, constant([[[[5]], [[7]]]])), [1, 1], [5, 7]),
        (operator("Sub", X, constant([[[5]], [[7]]])), [1, 1], [-5, -7]),
        (operator("Sub", constant([[[5]], [[7]]]), X), [-1, -1], [5, 7]),
        (operator("Div", X, constant([[[2]], [[4]]])), [0.5, 0.25], [0, 0]),
        (operator("Neg", X), [-1, -1], [0, 0]),
        (operator("Identity", X), [1, 1], [0, 0]),
        (operator("Dropout", X), [1, 1], [0, 0]),
        (operator("Dropout", X, None, constant(0)), [1, 1], [0, 0]),
    ],
)
def test_a_node_is_an_affine(op: Operator, scale: list[float], shift: list[float]) -> None:
    index, affine = AFFINE[op.op_type](op)
    assert op.required(index) is X
    found = affine.vectors(1, 2)
    np.testing.assert_array_equal(found[0], scale)
    np.testing.assert_array_equal(found[1], shift)


def test_a_constant_is_aligned_on_the_right() -> None:
    _, affine = AFFINE["Mul"](operator("Mul", X, constant([1, 2, 3, 4])))
    assert affine.axes == (3,)


def test_epsilon_is_the_float32_that_the_attribute_holds() -> None:
    _, affine = AFFINE["BatchNormalization"](_normalization(X, _ONES, _ZEROS, _ZEROS, _ZEROS))
    assert affine.scale.flat[0] == 1 / np.sqrt(np.float64(np.float32(1e-5)))


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (_normalization(training_mode=1), Reason.TRAINING_MODE),
        (_normalization(opset=6), Reason.TRAINING_MODE),
        (_normalization(opset=7, spatial=0), Reason.PER_ELEMENT_STATISTICS),
        (_normalization(unknown()), Reason.UNKNOWN_SHAPE),
        (_normalization(data(2)), Reason.OTHER_AXIS),
        (_normalization(data(1, 3)), Reason.BAD_PARAMETERS),
        (_normalization(X, data(2), _ZEROS, _ZEROS, _ONES), Reason.PARAMETERS_NOT_CONSTANT),
        (_normalization(X, _ONES, _ZEROS, _ZEROS, constant([1, -1])), Reason.BAD_VARIANCE),
        (_normalization(X, _ONES, _ZEROS, _ZEROS, constant([1, np.inf])), Reason.BAD_PARAMETERS),
        (_normalization(X, constant([1, np.nan]), *[_ONES] * 3), Reason.BAD_PARAMETERS),
        (operator("Mul", X, data(1, 2, 3, 4)), Reason.PARAMETERS_NOT_CONSTANT),
        (operator("Mul", constant(1), constant(1)), Reason.PARAMETERS_NOT_CONSTANT),
        (operator("Mul", X, constant(np.ones((1, 1, 1, 1, 1)))), Reason.BAD_PARAMETERS),
        (operator("Mul", X, constant([1, 2])), Reason.BAD_PARAMETERS),
        (operator("Mul", data(1, "C", 3, 4), constant([[[1]], [[2]]])), Reason.UNKNOWN_SHAPE),
        (operator("Mul", X, constant(np.arange(8).reshape(2, 1, 4))), Reason.OTHER_AXIS),
        (operator("Add", X, constant(1, elem_type=7)), Reason.BAD_PARAMETERS),
        (operator("Div", X, constant(0)), Reason.BAD_PARAMETERS),
        (operator("Div", constant(1), X), Reason.PARAMETERS_NOT_CONSTANT),
        (operator("Neg", data(2, elem_type=7)), Reason.BAD_PARAMETERS),
        (operator("Dropout", X, None, constant(1)), Reason.TRAINING_MODE),
        (operator("Dropout", X, opset=6), Reason.TRAINING_MODE),
        (operator("Dropout", X, outputs=(X, Value("mask"))), Reason.EXTRA_OUTPUTS),
    ],
)
def test_a_node_is_none(op: Operator, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        AFFINE[op.op_type](op)
    assert caught.value.obstacle.reason is reason
