from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnfold.errors import ModelError
from bnfold.files.opened import from_proto
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.scopes import Scope, graph_scope

node = helper.make_node


def scope(nodes: list[onnx.NodeProto], initializers: dict[str, np.ndarray] | None = None) -> Scope:
    tensors = [numpy_helper.from_array(v, k) for k, v in (initializers or {}).items()]
    inputs = [helper.make_tensor_value_info("x", 1, [2])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [], tensors),
        opset_imports=[helper.make_opsetid("", 15)],
    )
    return graph_scope(from_proto(model), model.graph)


def test_constants_in_all_their_forms() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", 1, [2], [3.0, 4.0]), helper.make_tensor("i", 7, [2], [1, 4]), [5]
    )
    found = scope(
        [
            node("Constant", [], ["a"], value=numpy_helper.from_array(np.ones(2, np.float16))),
            node("Constant", [], ["b"], value_float=0.5),
            node("Constant", [], ["c"], value_ints=[1, 2]),
            node("Constant", [], ["d"], sparse_value=sparse),
            node("ConstantOfShape", ["n"], ["e"]),
            node("Sqrt", ["a"], ["f"]),
            node("Identity", ["f"], ["g"]),
        ],
        {"n": np.array([3])},
    )
    assert found.constant("a").dtype == np.float16
    assert found.constant("b") == np.float32(0.5)
    assert found.constant("c").dtype == np.int64
    assert found.constant("d").tolist() == [0, 3, 0, 0, 4]
    assert found.constant("e").tolist() == [0, 0, 0]
    assert found.constant("g").dtype == np.float16, "computed in the dtype that the model says"


def test_a_constant_is_computed_once() -> None:
    found = scope([node("Neg", ["w"], ["a"]), node("Abs", ["a"], ["b"])], {"w": np.ones(2)})
    assert found.constant("a") is found.constant("a")
    assert found.constant("b").tolist() == [1, 1]


def test_a_tensor_that_two_nodes_make_is_none() -> None:
    """One that reads its own name would be sought without end."""
    constant = node("Constant", [], ["a"], value_float=0.5)
    with pytest.raises(ModelError, match="two nodes make 'a'"):
        scope([constant, node("Identity", ["a"], ["a"])])
    with pytest.raises(ModelError, match="a node makes 'w', which is given"):
        scope([node("Identity", ["n"], ["w"])], {"w": np.ones(2)})


def test_a_constant_of_another_kind_than_it_says_has_no_value() -> None:
    odd = node("Constant", [], ["a"], value_float=0.5)
    odd.attribute[0].type = onnx.AttributeProto.STRINGS
    odd.attribute[0].strings.append(b"a")
    odd.attribute[0].ClearField("f")
    with pytest.raises(EvaluationError, match="holds something else"):
        scope([odd]).constant("a")


@pytest.mark.parametrize(
    ("dims", "index", "why"),
    [
        ([1 << 40], [0], "has 1099511627776 elements, too many"),
        ([1 << 20, 1 << 20], [0], "too many"),
        ([-5], [0], "negative dimension"),
        ([1] * 65, [0], "has 65 dimensions"),
        ([5], [7], "indices that do not fit"),
        ([5], [0, 1], "indices that do not fit"),
    ],
)
def test_a_sparse_tensor_that_declares_what_it_does_not_hold_is_refused(
    dims: list[int], index: list[int], why: str
) -> None:
    sparse = onnx.SparseTensorProto(dims=dims)
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(index)))
    if len(index) > 1:
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "s"))
    with pytest.raises(ModelError, match=f"the sparse tensor 's' .*{why}"):
        scope([node("Constant", [], ["a"], sparse_value=sparse)]).constant("a")


def test_what_depends_on_inputs_or_chance_is_no_constant() -> None:
    found = scope([
        node("Neg", ["x"], ["a"]),
        node("RandomNormal", [], ["b"], shape=[2]),
        node("Neg", ["b"], ["c"]),
        node("Add", ["a", "w"], ["d"]),
    ], {"w": np.ones(2, np.float32)})  # fmt: skip
    assert [name for name in "abcdwx" if found.is_constant(name)] == ["w"]
    with pytest.raises(EvaluationError):
        found.constant("a")


def test_a_body_sees_the_constants_around_it() -> None:
    empty = [helper.make_empty_tensor_value_info("y")]
    body = helper.make_graph([node("Add", ["x", "w"], ["y"])], "b", [], empty)
    outer = scope(
        [node("If", ["flag"], ["z"], then_branch=body, else_branch=body)],
        {"w": np.ones(2, np.float32), "flag": np.array(True)},  # noqa: FBT003
    )
    inner = graph_scope(outer.model, body, (("z", "then_branch"),), outer)
    assert inner.is_constant("w")
    assert not inner.is_constant("y")
    assert inner.home("x") is outer


@pytest.mark.parametrize("inputs", [[], ["b"]])
def test_an_output_that_an_operator_does_not_have(inputs: list[str]) -> None:
    stated: dict[str, Any] = {} if inputs else {"value_float": 0.5}
    op_type = "Neg" if inputs else "Constant"
    found = scope([node(op_type, inputs, ["a", "nothing"], **stated)], {"b": np.ones(2)})
    with pytest.raises(EvaluationError):
        found.constant("nothing")
