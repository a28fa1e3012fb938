"""What is known of shapes where ONNX's inference stops: in local functions."""

from __future__ import annotations

import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants

import bnfold
from bnfold.graph.facts.shapes import Shapes, inference
from bnfold.graph.index.view import View

_FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (double[1,1,3,3] x) => (double[1,2,3,3] z) { z = local.block (x) }
<domain: "local", opset_import: ["" : 17]>
block (x) => (z) {
  W = Constant <value = double[2,1,1,1] {5, 6}> ()
  k = Constant <value = double {2}> ()
  g = Constant <value = double[2] {6, 6}> ()
  b = Constant <value = double[2] {1, 1}> ()
  e = Constant <value = double[2] {1, 1}> ()
  v = Constant <value = double[2] {4, 4}> ()
  y = Conv (x, W)
  p = OPERATOR
  z = BatchNormalization (p, g, b, e, v)
}
"""


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
def test_a_chain_in_a_function_is_followed(op_type: str) -> None:
    model = onnx.parser.parse_model(_FUNCTION.replace("OPERATOR", f"{op_type} (y, k)"))
    folding = bnfold.fold(model)
    assert_same(model, folding.model)
    check_invariants(model, folding)
    assert [n.op_type for n in folding.model.functions[0].node if n.input] == ["Conv"]


@pytest.mark.parametrize(
    ("left", "right", "together"),
    [
        ("2,3", "2,3", (2, 3)),
        ("2,1", "1,3", (2, 3)),
        ("3", "2,3", (2, 3)),
        ("N,3", "1", ("N", 3)),
        ("N,3", "N,1", ("N", 3)),
        ("N", "4", (4,)),
        ("N", "M", (None,)),
    ],
)
def test_two_operands_are_broadcast(
    left: str, right: str, together: tuple[int | str | None, ...]
) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[{left}] a, float[{right}] b) => (float[] c) {{ c = Add (a, b) }}""")
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    view = View(model)
    shapes = Shapes(view, inference(model).result())
    (output,) = view.nodes[0].outputs
    shapes.shapes.pop(output, None)
    shapes._fill_in(view, 0)
    assert shapes.shapes[output] == together


@pytest.mark.parametrize("op_type", ["Identity", "Add", "Conv"])
def test_of_other_domains_nothing_is_known(op_type: str) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
        g (float[1,2,3,3] x) => (float z) <float[2,2,1,1] W = {{1, 2, 3, 4}}>
        {{
          y = com.example.{op_type} (x, W)
          z = Sigmoid (y)
        }}""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    view = View(model)
    (output,) = view.nodes[0].outputs
    assert output not in Shapes(view, inference(model).result()).shapes
