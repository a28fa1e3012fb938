"""Records: what a fold did, in names."""

import onnx
from commandline import MODELS, convolution, load
from onnx import TensorProto, helper

import bnfold
from bnfold.reports.records import Counts, KeptRecord, NodeRecord, ObstacleRecord


def test_nodes_are_told_by_name_or_output() -> None:
    named = NodeRecord("Conv", "stem", "y")
    assert str(named) == "Conv 'stem'"
    assert str(NodeRecord("Conv", "", "y")) == "Conv 'y'"
    assert str(NodeRecord("Conv", "stem", "y", "if.then_branch")) == "Conv 'stem' in if.then_branch"
    assert named.to_dict() == {"op_type": "Conv", "name": "stem", "output": "y", "scope": ""}


def test_counting_goes_into_subgraphs_and_functions() -> None:
    body = convolution().graph
    del body.input[:]
    node = helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "g", [condition], [])
    function = helper.make_function(
        "mine", "f", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], []
    )
    model = helper.make_model(graph, functions=[function])
    operators = {"BatchNormalization": 2, "Conv": 2, "If": 1, "Relu": 1}
    assert Counts.of(model) == Counts(6, 2, operators)
    assert Counts.of(onnx.ModelProto()) == Counts(0, 0)


def test_another_domain_has_its_own_batch_normalization() -> None:
    node = helper.make_node("BatchNormalization", ["x"], ["y"], domain="mine")
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    assert Counts.of(model) == Counts(1, 0, {"mine::BatchNormalization": 1})


def test_what_passed_on_the_way_is_told() -> None:
    folds = bnfold.fold(load(MODELS / "mixnet.onnx")).folds
    through = [fold for fold in folds if fold.through]
    assert through
    for fold in through:
        assert {node.op_type for node in fold.through} == {"Concat"}
        assert len(fold.into) > 1
        assert set(fold.to_dict()) == {"how", "taken", "into", "through"}


def test_a_run_with_a_normalization_is_one() -> None:
    obstacle = ObstacleRecord("no-gain", "", "why")
    mul, bn = NodeRecord("Mul", "m", "a"), NodeRecord("BatchNormalization", "n", "b")
    assert KeptRecord((mul, bn), obstacle, None).is_normalization
    assert not KeptRecord((mul,), obstacle, None).is_normalization
    assert KeptRecord((mul,), obstacle, None).to_dict()["below"] is None
