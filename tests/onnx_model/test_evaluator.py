"""Nodes that only repeat numbers are computed without room for what they make."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bnfold.onnx_model.evaluator import Array, CannotEvaluateError, evaluate

OPSETS = {"": 17}


def reference(node: onnx.NodeProto, inputs: list[Array]) -> Array:
    given = [onnx.ValueInfoProto(name=name) for name in node.input]
    graph = onnx.GraphProto(name="g", node=[node], input=given)
    graph.output.add(name=node.output[0])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made = ReferenceEvaluator(model).run(None, dict(zip(node.input, inputs, strict=True)))
    assert isinstance(made, list)
    return np.asarray(made[0])


def repeating(op_type: str, names: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, names, ["y"], **attributes)


def filled(elem_type: int, number: float, dims: tuple[int, ...] = (1,)) -> onnx.NodeProto:
    value = helper.make_tensor("v", elem_type, dims, [number])
    return repeating("ConstantOfShape", ["s"], value=value)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (repeating("ConstantOfShape", ["s"]), [np.array([2, 3])]),
        (filled(TensorProto.FLOAT, 0.5), [np.array([2, 3])]),
        (filled(TensorProto.FLOAT16, 0.5), [np.array([4])]),
        (filled(TensorProto.INT64, 7), [np.array([], np.int64)]),
        (filled(TensorProto.FLOAT, 2.0), [np.array([2, 0])]),
        (repeating("Expand", ["x", "s"]), [np.array([[1], [2]], np.float32), np.array([3, 1, 4])]),
        (repeating("Expand", ["x", "s"]), [np.array([1, 2], np.float32), np.array([1])]),
        (repeating("Expand", ["x", "s"]), [np.ones((), bool), np.array([2, 2])]),
    ],
)
def test_repeated_numbers_are_those_of_the_reference(
    node: onnx.NodeProto, inputs: list[Array]
) -> None:
    (made,) = evaluate(node, OPSETS, inputs)
    expected = reference(node, inputs)
    assert made.dtype == expected.dtype
    assert made.shape == expected.shape
    np.testing.assert_array_equal(made, expected)


def test_a_million_equal_numbers_take_the_room_of_one() -> None:
    (made,) = evaluate(filled(TensorProto.FLOAT, 0.5), OPSETS, [np.array([1 << 10, 1 << 10])])
    assert made.strides == (0, 0)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (filled(TensorProto.FLOAT, 0.5), [np.array([-1])]),
        (repeating("Expand", ["x", "s"]), [np.array([1, 2], np.float32), np.array([3])]),
    ],
)
def test_what_cannot_be_repeated_so_is_refused(node: onnx.NodeProto, inputs: list[Array]) -> None:
    with pytest.raises(CannotEvaluateError):
        evaluate(node, OPSETS, inputs)
