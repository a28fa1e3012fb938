"""What counts as the same node, and what does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved

from bnfold.verification.proof.identity import version_of

BULK = np.arange(2048, dtype=np.float32)
"""So many bytes that a skeleton holds a reference."""


def model(
    nodes: list[onnx.NodeProto],
    outputs: tuple[str, ...] = ("y",),
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    functions: tuple[onnx.FunctionProto, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def tensor(array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array, "t")


def sparse(array: np.ndarray) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(array.size, dtype=np.int64), "i")
    return helper.make_sparse_tensor(tensor(array), indices, [2 * array.size])


HOLDERS: dict[str, Callable[[np.ndarray], Any]] = {
    "a tensor": tensor,
    "a list of tensors": lambda array: [tensor(array[:7]), tensor(array)],
    "a sparse tensor": sparse,
    "a list of sparse tensors": lambda array: [sparse(array[:7]), sparse(array)],
    "strings": lambda array: numpy_helper.from_array(array.astype(str).astype(object), "t"),
}


def with_table(array: np.ndarray, how: str) -> onnx.ModelProto:
    node = helper.make_node("Foo", ["x"], ["y"], domain="my.ops")
    node.attribute.append(helper.make_attribute("table", HOLDERS[how](array)))
    return model([node])


@pytest.mark.parametrize("how", HOLDERS)
def test_an_attribute_counts_by_what_it_holds(tmp_path: Path, how: str) -> None:
    original = with_table(BULK, how)
    other = BULK.copy()
    other[1000] += 1
    assert proved(tmp_path, original, clone(original)).structure.proved
    assert not proved(tmp_path, original, with_table(other, how)).structure.proved


def with_default(array: np.ndarray) -> onnx.ModelProto:
    body = helper.make_node("Constant", [], ["c"])
    body.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="table")
    function = helper.make_function(
        "my.ops", "Shifted", ["a"], ["b"],
        [body, helper.make_node("Foo", ["a", "c"], ["b"], domain="my.ops")],
        [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)],
        attribute_protos=[helper.make_attribute("table", tensor(array))],
    )  # fmt: skip
    return model([helper.make_node("Shifted", ["x"], ["y"], domain="my.ops")],
                 functions=(function,))  # fmt: skip


def test_the_default_of_a_functions_attribute_counts_by_what_it_holds(tmp_path: Path) -> None:
    assert proved(tmp_path, with_default(BULK), with_default(BULK)).structure.proved
    assert not proved(tmp_path, with_default(BULK), with_default(BULK + 1)).structure.proved


def drawing(kind: str, outputs: tuple[str, str]) -> list[onnx.NodeProto]:
    nodes = []
    for output in dict.fromkeys(outputs):
        if kind == "Dropout":
            node = helper.make_node("Dropout", ["x", "", "training"], [output])
        elif kind == "If":
            value = helper.make_tensor_value_info("d", TensorProto.FLOAT, None)
            branch = helper.make_graph(
                [helper.make_node("RandomNormalLike", ["x"], ["d"])], "b", [], [value]
            )
            node = helper.make_node(
                "If", ["training"], [output], then_branch=branch, else_branch=branch
            )
        else:
            node = helper.make_node(kind, ["x"], [output])
        nodes.append(node)
    return [*nodes, helper.make_node("Sub", list(outputs), ["y"])]


@pytest.mark.parametrize("kind", ["Dropout", "RandomNormalLike", "Bernoulli", "If"])
def test_two_draws_are_not_one(tmp_path: Path, kind: str) -> None:
    training = {"training": np.ones((), bool)}
    two = model(drawing(kind, ("a", "b")), weights=training)
    one = model(drawing(kind, ("a", "a")), weights=training)
    assert proved(tmp_path, two, clone(two)).structure.proved
    assert not proved(tmp_path, two, one).structure.proved


def test_two_dropouts_that_drop_nothing_are_one(tmp_path: Path) -> None:
    testing = {"training": np.zeros((), bool)}
    two, one = (
        model(drawing("Dropout", names), weights=testing) for names in (("a", "b"), ("a", "a"))
    )
    assert proved(tmp_path, two, one).structure.proved


@pytest.mark.parametrize(
    ("op_type", "operands", "number", "gone"),
    [
        ("Add", ["h", "k"], 0.0, True),
        ("Add", ["k", "h"], 0.0, True),
        ("Sub", ["h", "k"], 0.0, True),
        ("Sub", ["k", "h"], 0.0, False),
        ("Mul", ["k", "h"], 1.0, True),
        ("Div", ["h", "k"], 1.0, True),
        ("Div", ["k", "h"], 1.0, False),
        ("Mul", ["h", "k"], 2.0, False),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_arithmetic_that_changes_nothing_may_go(
    tmp_path: Path, op_type: str, operands: list[str], number: float, shape: tuple[int, ...], *,
    gone: bool,
) -> None:  # fmt: skip
    """Unless the constant adds an axis."""
    weights = {"k": np.full(shape, number, np.float32)}
    head = helper.make_node("Softsign", ["x"], ["h"])
    with_it = model(
        [head, helper.make_node(op_type, operands, ["m"]),
         helper.make_node("Softmax", ["m"], ["y"])], weights=weights,
    )  # fmt: skip
    without = model([head, helper.make_node("Softmax", ["h"], ["y"])])
    assert proved(tmp_path, with_it, without).structure.proved is (gone and len(shape) < 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (8,), (1, 8), (3, 8), (3, 1)])
@pytest.mark.parametrize("made_by_a_node", [True, False])
def test_ones_of_any_shape_may_go_that_enlarge_nothing(
    tmp_path: Path, shape: tuple[int, ...], *, made_by_a_node: bool
) -> None:
    """What they multiply has the shape [1, 8]."""
    ones = np.ones(shape, np.float32)
    head = [helper.make_node("Softsign", ["x"], ["h"])]
    if made_by_a_node:
        head.append(helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(ones)))
    product = helper.make_node("Mul", ["h", "k"], ["m"])
    last = helper.make_node("ReduceSum", ["m"], ["y"])
    weights = {} if made_by_a_node else {"k": ones}
    with_it = model([*head, product, last], weights=weights)
    without = model([head[0], helper.make_node("ReduceSum", ["h"], ["y"])])
    assert proved(tmp_path, with_it, without).structure.proved is (shape in {(8,), (1, 8)})


@pytest.mark.parametrize(
    ("op_type", "one", "other", "alike"),
    [
        ("Relu", 12, 14, True),
        ("ArgMax", 12, 13, True),
        ("Transpose", 12, 25, True),
        ("Softmax", 12, 13, False),
        ("ReduceSum", 12, 13, False),
        ("PRelu", 6, 7, False),
        ("Resize", 10, 13, False),
        ("ArgMax", 11, 12, True),
        ("TopK", 10, 11, True),
        ("Cast", 13, 19, True),
        ("QuantizeLinear", 10, 23, True),
        ("LSTM", 7, 14, True),
        ("RoiAlign", 10, 16, False),
        ("GroupNormalization", 18, 21, False),
        ("AveragePool", 1, 7, False),
    ],
)
def test_versions_that_differ_in_types_or_by_more_attributes_are_one(
    op_type: str, one: int, other: int, *, alike: bool
) -> None:
    assert (version_of(op_type, "", one) == version_of(op_type, "", other)) is alike
    assert version_of("Foo", "my.ops", 1) != version_of("Foo", "my.ops", 2)
