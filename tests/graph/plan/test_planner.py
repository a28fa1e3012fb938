"""What goes together, what is merged, and that nothing is left for a second time."""

from __future__ import annotations

import onnx
import pytest
from invariants import checked, operators


def test_of_a_merged_chain_the_scale_may_go_on() -> None:
    """Add, Mul, Add are a Mul and an Add; the Mul passes the Relu, and no second fold is needed."""
    folding = checked("""
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
    assert operators(folding) == ["Conv", "Relu", "Add"]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in folding.model.graph.initializer}
    assert values["W"].item() == 6
    assert sorted(float(v.item()) for v in values.values()) == [6, 8]


def test_a_run_with_too_few_nodes_takes_nothing_up() -> None:
    """The Div alone could go into the Conv, but then one Identity would have to be Mul and Add."""
    folding = checked("""
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
    folding = checked("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2] x) => (double[1,2] z) <double[2] c = {1, 2}>
        {
          y = Relu (x)
          z = Sub (c, y)
        }""")
    assert not folding.folds


def test_affines_along_two_axes_are_not_put_together() -> None:
    """Their sum is no channel affine: as Mul and Add they would fold otherwise the next time."""
    folding = checked("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2,3] x) => (double[1,2,3] z, double[1,2,3] u)
        <double[2] g = {2, 3}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {4, 9},
         double[1,3] k = {1, 2, 3}>
        {
          y = Sigmoid (x)
          p = BatchNormalization (y, g, b, e, v)
          q = Add (k, p)
          r = BatchNormalization (q, g, b, e, v)
          s = Relu (r)
          z = BatchNormalization (s, g, b, e, v)
          u = BatchNormalization (p, v, b, e, g)
        }""")
    assert "Mul" not in operators(folding)


def test_runs_that_come_together_become_one() -> None:
    """The Mul goes into the Gemm; the Identity before it and the Sub behind it are neighbours."""
    folding = checked("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[2,2] x) => (double[2,2] z)
        <double[2,2] W = {1, 2, 3, 4}, double[1] c = {3}, double[2,1] k = {1, 2}>
        {
          y = Gemm <beta = 0.5> (x, W)
          i = Identity (y)
          s = Shape (i)
          e = Expand (c, s)
          m = Mul (i, e)
          z = Sub (m, k)
        }""")
    assert len(operators(folding)) == 2


def test_who_reads_a_shape_between_merged_nodes_goes_on_reading_it() -> None:
    folding = checked("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2,2,2] x) => (double[1,2,2,2] z, int64[4] s)
        <double[2] g = {2, 3}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {4, 9}>
        {
          p = BatchNormalization (x, g, b, e, v)
          s = Shape (p)
          z = BatchNormalization (p, v, b, e, g)
        }""")
    assert sorted(operators(folding)) == ["BatchNormalization", "Shape"]


def test_looking_closer_forgets_nothing() -> None:
    """What is computed to find a shape keeps its own shape and type: `k` is an operand."""
    folding = checked("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[2] x, double[1,2,3,3] y) => (double[1,2] z, double[1,2,3,3] w)
        <double[2,2] W = {1, 2, 3, 4}, double[1,2,1,1] row = {5, 6}, double[2] d = {2, 3},
         int64[2] shape = {-1, 2}, int64[2] ones = {1, 1}, double[2] g = {2, 3},
         double[2,2,1,1] V = {1, 2, 3, 4}>
        {
          r = Reshape (x, shape)
          n = Neg (shape)
          t = Mul (n, ones)
          u = Neg (t)
          p = Reshape (r, u)
          m = MatMul (p, W)
          z = Mul (m, d)
          k = Neg (row)
          c = Conv (y, V)
          w = Mul (k, c)
        }""")
    assert not folding.kept


@pytest.mark.parametrize("rows", [2, 99])
def test_a_shape_that_a_fold_would_bring_to_light_is_known_before(rows: int) -> None:
    """The Expand hides the shape of `m`; without its Mul, `o` would be a constant operand."""
    folding = checked(
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (double[ROWS,2] x) => (double[ROWS,2] z, double[ROWS,2] u)
        <double[2,2] W = {1, 2, 3, 4}, double[1] c = {3}, double[2] g = {2, 3},
         double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {4, 9}>
        {
          y = MatMul (x, W)
          s = Shape (y)
          k = Expand (c, s)
          m = Mul (y, k)
          u = Sigmoid (m)
          n = BatchNormalization (m, g, b, e, v)
          t = Shape (n)
          o = ConstantOfShape (t)
          p = Cast <to = 11> (o)
          q = Sub (n, p)
          z = Tanh (q)
        }""".replace("ROWS", str(rows))
    )
    assert "Sub" not in operators(folding)


@pytest.mark.parametrize("nodes", ["y = Conv (x, W)", "y = Sigmoid (x)"])
def test_a_shape_that_a_subgraph_reads_keeps_a_tensor_where_it_is(nodes: str) -> None:
    """The subgraph would have to name another tensor; a fold changes nothing in there."""
    folding = checked(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[1,2,2,2] x, bool k) => (double[1,2,2,2] z, int64[4] s)
        <double[2,2,1,1] W = {1, 2, 3, 4}, double[2] g = {2, 3}, double[2] b = {1, 2},
         double[2] e = {1, 1}, double[2] v = {4, 9}>
        {
          NODES
          m = BatchNormalization (y, g, b, e, v)
          z = BatchNormalization (m, g, b, e, v)
          s = If (k) <then_branch = g1 () => (int64[4] t) { t = Shape (m) },
                      else_branch = g2 () => (int64[4] u) { o = Shape (m) u = Neg (o) }>
        }""".replace("NODES", nodes)
    )
    assert "m" in {output for node in folding.model.graph.node for output in node.output}
