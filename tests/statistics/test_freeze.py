"""Switching training mode off, with the statistics that are stored."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from trained import model, normalization, parameters, two_layers

from bnfold.files import from_proto, materialize
from bnfold.graph.plan.planner import read_graph
from bnfold.statistics.freeze import freeze
from bnfold.statistics.normalizations import find


def frozen(net: onnx.ModelProto) -> onnx.ModelProto:
    with from_proto(net) as opened:
        graph = read_graph(opened)
        made = freeze(graph, find(graph))
        return materialize(opened, made.proto, made.recipes)


@pytest.mark.parametrize("opset", [6, 7, 13, 14, 17])
def test_in_the_words_of_the_opset(opset: int) -> None:
    net = two_layers(opset, training=True)
    assert all(each.training for each in find(read_graph(from_proto(net))))
    made = frozen(net)
    assert not any(each.training for each in find(read_graph(from_proto(made))))
    for before, after in zip(net.graph.node, made.graph.node, strict=True):
        if after.op_type != "BatchNormalization":
            assert before == after
            continue
        stated = {a.name: a for a in after.attribute}
        assert list(after.output) == list(before.output[:1])
        assert ("is_test" in stated) == (opset < 7)
        assert "training_mode" not in stated
        assert stated["epsilon"].f == pytest.approx(1e-3) if after.name == "one" else True
    assert made.graph.initializer == net.graph.initializer


def test_what_is_in_inference_mode_stays_to_the_byte() -> None:
    net = two_layers()
    assert frozen(net).SerializeToString() == net.SerializeToString()


def test_who_reads_the_statistics_keeps_them() -> None:
    net = two_layers(training=True)
    net.graph.output.append(helper.make_tensor_value_info("one.2", TensorProto.FLOAT, [4]))
    one, two = (node for node in frozen(net).graph.node if node.op_type == "BatchNormalization")
    assert len(one.output) == 3
    assert len(two.output) == 1


def test_inside_of_functions_and_subgraphs() -> None:
    rng = np.random.default_rng(0)
    stored = parameters("one", 2, rng)
    branches = [
        helper.make_graph(
            [normalization("x", name, "one", training_mode=1)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("yes", "no")
    ]
    which = numpy_helper.from_array(np.array(1, bool), "which")
    nodes = [
        helper.make_node("Constant", [], ["which"], value=which),
        helper.make_node("If", ["which"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    made = frozen(model(nodes, stored))
    for attribute in made.graph.node[1].attribute:
        assert not attribute.g.node[0].attribute
    body = [normalization("a", "b", "one", training_mode=1)]
    names = list(stored)
    function = helper.make_function(
        "l", "F", ["a", *names], ["b"], body, [helper.make_opsetid("", 17)]
    )
    call = helper.make_node("F", ["x", *names], ["y"], domain="l")
    made = frozen(model([call], stored, functions=[function]))
    assert not made.functions[0].node[0].attribute
