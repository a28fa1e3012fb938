"""Nodes on which nothing depends are in nobody's way; what may do more than compute stays."""

from __future__ import annotations

import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants

import bnfold
from bnfold.graph.edit.unread import without_unread

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17, "other" : 1]>
g (float[1,2,3,3] x, bool k) => (float[1,2,3,3] z)
<float[2,2,1,1] W = {1, 2, 3, 4}, float[2] c = {10, 20}, float[2] g = {2, 6}, float[2] b = {1, 2},
 float[2] e = {1, 1}, float[2] v = {1, 4}, float n = {2}>
{
  y = Conv (x, W, c)
  z = BatchNormalization <epsilon = 0.0> (y, g, b, e, v)
  READER
}
"""
_CAPTURING = """
  w = If (k) <then_branch = a () => (float[1,2,3,3] t) { t = Relu (y) },
              else_branch = b () => (float[1,2,3,3] s) { s = Identity (x) }>
"""
_INSIDE = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x, bool k) => (float[1,2,3,3] z)
<float[2,2,1,1] W = {1, 2, 3, 4}, float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1},
 float[2] v = {1, 4}>
{
  z = If (k) <
    then_branch = a () => (float[1,2,3,3] t) {
      y = Conv (x, W)
      t = BatchNormalization <epsilon = 0.0> (y, g, b, e, v)
      u = Sigmoid (y)
    },
    else_branch = b () => (float[1,2,3,3] s) { s = Identity (x) }>
}
"""


def _with(reader: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(_NETWORK.replace("READER", reader))


def _normalizations(folding: bnfold.Folding) -> int:
    return folding.after.batch_normalizations


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        _with("u = Sigmoid (y)"),
        _with("u = Pow (y, n)  w = ReduceMax (u)"),
        _with(_CAPTURING),
        onnx.parser.parse_model(_INSIDE),
    ],
    ids=["one", "chain", "captured", "inside"],
)
def test_a_reader_on_which_nothing_depends_is_none(model: onnx.ModelProto) -> None:
    folding = bnfold.fold(model)
    assert _normalizations(folding) == 0
    assert "nothing depends on" in folding.notes[-1]
    assert folding.verify().ok
    check_invariants(model, folding)
    assert_same(model, folding.model)


def test_constants_that_only_such_nodes_read_go_with_them() -> None:
    pruned, count = without_unread(_with("u = Pow (y, n)"))
    assert count == 1
    assert "n" not in {stored.name for stored in pruned.graph.initializer}


@pytest.mark.parametrize(
    "reader", ["u = other.Print (y)", _CAPTURING.replace("Relu", "other.Print")]
)
def test_an_operator_of_another_domain_may_do_more_than_compute(reader: str) -> None:
    folding = bnfold.fold(_with(reader))
    assert _normalizations(folding) == 1
    assert not folding.notes


def test_where_nothing_more_is_folded_such_nodes_stay() -> None:
    model = _with("u = Sigmoid (y)  s = Sigmoid (z)")
    model.graph.output.add().CopyFrom(onnx.helper.make_empty_tensor_value_info("y"))
    model.graph.output[-1].CopyFrom(model.graph.output[0])
    model.graph.output[-1].name = "y"
    folding = bnfold.fold(model)
    assert folding.model == model


def test_a_model_that_says_how_to_train_it_keeps_its_nodes() -> None:
    model = _with("u = Sigmoid (y)")
    model.training_info.add()
    assert without_unread(model) == (model, 0)
