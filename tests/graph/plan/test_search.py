"""Single decisions of the search; the tables are searched in test_rows and test_random_graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from evaluation import assert_same

import bnfold
from bnfold.graph.plan.planner import make_plan
from bnfold.graph.plan.spreading import Spread
from bnfold.reasons import Reason

if TYPE_CHECKING:
    from bnfold.graph.plan.plan import Plan
    from bnfold.rules.affine import Affine

_PADDED = """
<ir_version: 8, opset_import: ["" : 9]>
g (TYPE[1,1,4,4] x) => (TYPE[1,1,5,5] z)
<TYPE[1,1,1,1] W = {2}, TYPE c = {0.3}>
{
  y = Conv (x, W)
  p = Pad <mode = "constant", pads = [0, 0, 1, 1, 0, 0, 0, 0], value = 0.5> (y)
  z = Mul (p, c)
}
"""


@pytest.mark.parametrize(("elem_type", "folds"), [("float", True), ("double", False)])
def test_a_pad_value_that_is_an_attribute_must_fit_a_float32(elem_type: str, folds: bool) -> None:  # noqa: FBT001
    model = onnx.parser.parse_model(_PADDED.replace("TYPE", elem_type))
    folding = bnfold.fold(model)
    assert bool(folding.folds) == folds
    if folds:
        assert_same(model, folding.model, elem_type=onnx.TensorProto.FLOAT)
    else:
        assert folding.kept[0].above.reason == Reason.PAD_VALUE.value


def _trunk(blocks: int) -> onnx.ModelProto:
    """A trunk of residual sums, and at each a head: a pool with a normalization of its own."""
    make = onnx.helper.make_node
    nodes, outputs = [make("Conv", ["x", "W"], ["h0"])], []
    for i in range(blocks):
        nodes += [
            make("Relu", [f"h{i}"], [f"r{i}"]),
            make("Conv", [f"r{i}", "W"], [f"c{i}"]),
            make("Add", [f"h{i}", f"c{i}"], [f"h{i + 1}"]),
            make("AveragePool", [f"h{i}"], [f"p{i}"], kernel_shape=[1, 1]),
            make("BatchNormalization", [f"p{i}", "g", "b", "b", "g"], [f"n{i}"]),
        ]
        outputs.append(f"n{i}")
    info = onnx.helper.make_tensor_value_info
    values = {"W": np.ones((2, 2, 1, 1)), "g": np.array([2.0, 3.0]), "b": np.array([1.0, 2.0])}
    stored = [onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    ends = [info(name, onnx.TensorProto.FLOAT, None) for name in (*outputs, f"h{blocks}")]
    x = info("x", onnx.TensorProto.FLOAT, [1, 2, 4, 4])
    graph = onnx.helper.make_graph(nodes, "trunk", [x], ends, stored)
    imports = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.slow
def test_heads_along_a_trunk_of_sums_do_not_each_climb_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    climbed = 0
    real = Spread._go_up

    def counted(spread: Spread, tensor: int, affine: Affine) -> None:
        nonlocal climbed
        climbed += 1
        real(spread, tensor, affine)

    monkeypatch.setattr(Spread, "_go_up", counted)
    counts = []
    for blocks in (20, 80):
        climbed = 0
        bnfold.fold(_trunk(blocks))
        counts.append(climbed)
    assert counts[1] <= 5 * counts[0]


def _climbs(transposes: int, heads: int) -> onnx.ModelProto:
    """A convolution, a trunk of Transposes, and at its end normalizations that all go up it."""
    make = onnx.helper.make_node
    nodes = [make("Conv", ["x", "W"], ["t0"])]
    nodes += [
        make("Transpose", [f"t{i}"], [f"t{i + 1}"], perm=[0, 1, 3, 2]) for i in range(transposes)
    ]
    names = [f"n{i}" for i in range(heads)]
    nodes += [
        make("BatchNormalization", [f"t{transposes}", "g", "b", "b", "g"], [name]) for name in names
    ]
    nodes.append(make("Sum", names, ["s"]))
    nodes.append(make("Relu", ["s"], ["y"]))
    info = onnx.helper.make_tensor_value_info
    values = {"W": np.ones((2, 2, 1, 1)), "g": np.array([2.0, 3.0]), "b": np.array([1.0, 2.0])}
    stored = [onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", 1, [1, 2, 4, 4])], [info("y", 1, None)], stored
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_planning_that_takes_too_many_steps_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = _climbs(20, 3)
    folding = bnfold.fold(model)
    assert not folding.kept
    monkeypatch.setattr("bnfold.graph.plan.budget.STEPS", 10)
    monkeypatch.setattr("bnfold.graph.plan.budget.STEPS_PER_NODE", 0)
    given_up = bnfold.fold(model)
    assert given_up.kept
    assert {kept.above.reason for kept in given_up.kept} == {Reason.TOO_LARGE.value}
    assert_same(model, given_up.model, elem_type=onnx.TensorProto.FLOAT)


@pytest.mark.slow
def test_functions_in_a_row_are_not_inlined_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
    transpose = onnx.helper.make_node("Transpose", ["a"], ["r"], perm=[0, 1, 3, 2])
    model = _climbs(100, 1)
    names = [f"f{i}" for i in range(100)]
    model.functions.extend(
        onnx.helper.make_function("f", name, ["a"], ["r"], [transpose], opsets) for name in names
    )
    for name, node in zip(names, model.graph.node[1:101], strict=True):
        node.CopyFrom(onnx.helper.make_node(name, node.input, node.output, domain="f"))
    model.opset_import.extend(opsets[1:])
    plans = 0

    def counted(*arguments: Any, **options: Any) -> Plan:
        nonlocal plans
        plans += 1
        return make_plan(*arguments, **options)

    monkeypatch.setattr("bnfold.folding.make_plan", counted)
    folding = bnfold.fold(model)
    assert not folding.kept
    assert len(folding.inlined) == len(names)
    assert plans < 40
