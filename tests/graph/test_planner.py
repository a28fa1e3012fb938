"""What goes together, what is merged, and that nothing is left for a second time."""

from __future__ import annotations

import onnx
from evaluation import assert_same
from invariants import check_invariants

import bnfold


def _folded(text: str) -> bnfold.Folding:
    model = onnx.parser.parse_model(text)
    folding = bnfold.fold(model)
    assert_same(model, folding.model)
    check_invariants(model, folding)
    return folding


def _operators(folding: bnfold.Folding) -> list[str]:
    return [node.op_type for node in folding.model.graph.node]


def test_of_a_merged_chain_the_scale_may_go_on() -> None:
    """Add, Mul, Add are a Mul and an Add; the Mul passes the Relu, and no second fold is needed."""
    folding = _folded("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,1,2,2] x) => (double[1,1,2,2] z)
        <double[1,1,1,1] W = {2}, double a = {1}, double b = {3}, double c = {5}>
        {
          y = Conv (x, W)
          r = Relu (y)
          p = Add (r, a)
          q = Mul (p, b)
          z = Add (q, c)
        }""")
    assert _operators(folding) == ["Conv", "Relu", "Add"]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in folding.model.graph.initializer}
    assert values["W"].item() == 6
    assert sorted(float(v.item()) for v in values.values()) == [6, 8]


def test_a_run_with_too_few_nodes_takes_nothing_up() -> None:
    """The Div alone could go into the Conv, but then one Identity would have to be Mul and Add."""
    folding = _folded("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2,2,2] x) => (double[1,2,1,1] z)
        <double[2] g = {2, 3}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {4, 9},
         double d = {4}, double[2,1,1,1] W = {1, 2}>
        {
          n = BatchNormalization (x, g, b, e, v)
          a = GlobalAveragePool (n)
          i = Identity (a)
          y = Div (i, d)
          z = Conv <auto_pad = "SAME_UPPER", group = 2> (y, W)
        }""")
    assert folding.after.nodes < folding.before.nodes


def test_a_constant_minus_the_data_is_left_as_it_is() -> None:
    folding = _folded("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2] x) => (double[1,2] z) <double[2] c = {1, 2}>
        {
          y = Relu (x)
          z = Sub (c, y)
        }""")
    assert not folding.folds
