"""Which tensors are constant, in all the ways that ONNX has, and what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.errors import BnfoldError, ModelError
from bnfold.files import from_proto
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.planner import read_graph
from bnfold.reasons import Refusal

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = """
<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
g (float[2] x, float[N] y, bool k, float[2] given) => (float[2] z)
<float[2] stored = {1, 2}, float[2] given = {3, 4}, int64[1] two = {2}, float[1,2] row = {5, 6},
 int32[2] whole = {7, 8}>
{
  NODES
  z = Relu (x)
}
"""


def _constant(nodes: str, *, keep_overridable: bool = False) -> object:
    """What the tensor `c` holds, or None where it is no constant."""
    model = onnx.parser.parse_model(_TEXT.replace("NODES", nodes))
    with from_proto(model) as opened:
        graph = read_graph(opened, FoldOptions(keep_overridable=keep_overridable))
        (number,) = [t.number for t in graph.view.tensors if t.name == "c"]
        return graph.constants.value(number).tolist() if number in graph.constants else None


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("value = float[2] {1, 2}", [1, 2]),
        ("value_float = 0.5", 0.5),
        ("value_floats = [0.5, 1.5]", [0.5, 1.5]),
        ("value_int = 3", 3),
        ("value_ints = [3, 4]", [3, 4]),
        ('value_string = "s"', None),
    ],
)
def test_a_constant_node_is_constant_if_it_holds_numbers(form: str, value: object) -> None:
    assert _constant(f"c = Constant <{form}> ()") == value


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ("c = Identity (stored)", [1, 2]),
        ("c = ConstantOfShape <value = float[1] {5}> (two)", [5, 5]),
        ("c = Transpose (row)", [[5], [6]]),
        ("c = Unsqueeze (stored, two)", None),
        ("t = Constant <value_ints = [0]> () c = Squeeze (row, t)", [5, 6]),
        ("c = Add (stored, row)", [[6, 8]]),
        ("s = Shape (stored) f = CastLike (two, stored) c = Expand (f, s)", [2, 2]),
        ("s = Shape (x) c = ConstantOfShape (s)", [0, 0]),
        ("c = Size (x)", 2),
        ("c = Cast <to = 1> (whole)", [7, 8]),
        ("c = CastLike (whole, x)", [7, 8]),
        ("c = Add (given, stored)", [4, 6]),
    ],
)
def test_what_is_computed_from_constants_is_constant(nodes: str, value: object) -> None:
    if value is None:
        with pytest.raises(Refusal):
            _constant(nodes)
        return
    assert _constant(nodes) == value


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Add (x, stored)",
        "c = Shape (y)",
        "c = RandomNormalLike (stored)",
        "c = RandomUniform <shape = [2]> ()",
        "c = Bernoulli (stored)",
        "c = local.something (stored)",
    ],
)
def test_what_the_inputs_or_chance_decide_is_not(nodes: str) -> None:
    assert _constant(nodes) is None


def test_what_a_caller_may_override_is_constant_unless_that_is_insisted_on() -> None:
    assert _constant("c = Identity (given)") == [3, 4]
    assert _constant("c = Identity (given)", keep_overridable=True) is None


def test_half_floats_of_both_kinds_are_read() -> None:
    for elem_type in ("float16", "bfloat16"):
        value = _constant(f"c = Constant <value = {elem_type}[1] {{16256}}> ()")
        assert np.asarray(value).item() == (1.0 if elem_type == "bfloat16" else 1.875)


def test_a_circle_is_no_reason_to_hang() -> None:
    with pytest.raises(BnfoldError, match="circle"):
        _constant("a = Identity (c) c = Identity (a)")


def test_an_output_that_an_operator_does_not_have_is_refused() -> None:
    """And not waited for."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] W = {1, 2, 3, 4}>
        {
          c = Conv (x, W)
          shape, nothing = Shape (W)
          scale = Cast <to = 1> (nothing)
          y = Mul (c, scale)
        }""")
    with pytest.raises(ModelError, match=r"Shape 'shape' is not valid ONNX: .* output size 2"):
        bnfold.fold(model)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["initializer", "initializer by axes", "node"])
def test_a_sparse_weight_is_folded(tmp_path: Path, place: str) -> None:
    dice = np.random.default_rng(0)
    weight = dice.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[np.abs(weight) < 1] = 0
    by_axes = np.argwhere(weight)
    indices = by_axes if "axes" in place else np.flatnonzero(weight)
    sparse = onnx.helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(weight[tuple(by_axes.T)], "W"),
        onnx.numpy_helper.from_array(indices.astype(np.int64)),
        weight.shape,
    )
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,3,8,8] x) => (float[1,4,6,6] y)
        <float[4] g = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}, float[4] m = {4, 3, 2, 1},
         float[4] v = {4, 1, 9, 16}>
        { c = Conv (x, W) y = BatchNormalization <epsilon = 0.0> (c, g, b, m, v) }""")
    if place == "node":
        node = onnx.NodeProto(op_type="Constant", output=["W"])
        node.attribute.add(
            name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse
        )
        model.graph.node.insert(0, node)
    else:
        model.graph.sparse_initializer.append(sparse)
    source, target = tmp_path / "m.onnx", tmp_path / "f.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source, target)
    assert report.verification is not None
    assert report.verification.ok
    folded = onnx.ModelProto.FromString(target.read_bytes()).graph
    assert not folded.sparse_initializer
    stored = [t for t in folded.initializer if len(t.dims) == 4] or [
        a.t for node in folded.node for a in node.attribute if a.HasField("t")
    ]
    factor = np.array([1, 2, 3, 4]) / np.sqrt([4, 1, 9, 16])
    expected = weight * factor.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(onnx.numpy_helper.to_array(stored[0]), expected, rtol=1e-6)
