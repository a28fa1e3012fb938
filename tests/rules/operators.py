"""Operators as the rules see them, without a graph."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.rules.operator import Attribute, Operator, Shape, Value

if TYPE_CHECKING:
    from evaluation import Array

FLOAT = onnx.TensorProto.FLOAT


def data(*shape: int | str | None, elem_type: int = FLOAT) -> Value:
    return Value("x", shape, elem_type)


def unknown() -> Value:
    return Value("x", None, FLOAT)


def constant(values: object, name: str = "c", elem_type: int = FLOAT) -> Value:
    array: Array = np.asarray(values, np.float32)
    shape: Shape = array.shape
    return Value(name, shape, elem_type, partial(np.asarray, array))


def operator(
    op_type: str,
    *inputs: Value | None,
    opset: int = 17,
    outputs: tuple[Value | None, ...] = (),
    **attributes: Attribute,
) -> Operator:
    return Operator(op_type, opset, inputs, outputs or (Value("y"),), attributes)
