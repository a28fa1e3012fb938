"""What stands in the way of becoming one operator, or looks as if it did not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from blocks import Net, repvgg
from evaluation import assert_same, feeds_of
from invariants import check_invariants
from onnx import TensorProto, helper

import bnfold
from bnfold.rules.orders import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIZE = 9


def folded(model: onnx.ModelProto, size: int = _SIZE, magnitude: float = 10.0) -> bnfold.Folding:
    """Fold a model, and check that it computes the same."""
    folding = bnfold.fold(model)
    elem_type = model.graph.input[0].type.tensor_type.elem_type
    assert_same(model, folding.model, feeds_of(model, size=size), elem_type, magnitude)
    check_invariants(model, folding)
    return folding


def counted(model: onnx.ModelProto) -> Mapping[str, int]:
    return Counter(node.op_type for node in model.graph.node)


def reasons(folding: bnfold.Folding) -> set[str]:
    return {kept.beside.reason for kept in folding.kept if kept.beside is not None}


def test_a_branch_that_is_a_graph_output_stays() -> None:
    net = Net()
    x = net.feed()
    point = net.conv(x, 1)
    net.output(net.add(net.conv(x), point))
    net.output(point)
    folding = folded(net.model())
    assert counted(folding.model)["Conv"] == 2
    assert reasons(folding) == {"graph-output"}


def test_a_branch_that_something_else_reads_stays() -> None:
    net = Net()
    x = net.feed()
    point = net.conv(x, 1)
    net.output(net.op("Relu", net.add(net.conv(x), point, net.bn(x))))
    net.output(net.op("Sigmoid", point))
    folding = folded(net.model())
    assert counted(folding.model) == {"Conv": 2, "Add": 1, "Relu": 1, "Sigmoid": 1}
    assert reasons(folding) == {"other-reader"}


def test_x_is_read_by_a_later_residual_too() -> None:
    net = Net()
    x = net.op("Relu", net.feed())
    inner = net.op("Relu", net.add(net.bn(net.conv(x)), net.bn(x)))
    net.output(net.op("Add", net.conv(inner, 1), x))
    assert counted(folded(net.model()).model) == {"Relu": 2, "Conv": 2, "Add": 1}


def test_nothing_plus_a_normalization_is_that_normalization() -> None:
    net = Net()
    x = net.feed()
    zero = net.number(np.zeros(1))
    total = net.op("Add", zero, net.bn(x))
    net.output(net.add(total, net.bn(net.conv(x)), net.bn(net.conv(x, 1))))
    assert counted(folded(net.model()).model) == {"Conv": 1}


def test_the_sum_is_a_graph_output() -> None:
    net = Net()
    x = net.feed()
    total = net.add(net.conv(x), net.bn(x))
    net.output(total)
    net.output(net.op("Relu", total))
    folding = folded(net.model())
    assert counted(folding.model) == {"Conv": 1, "Relu": 1}
    assert folding.model.graph.output[0].name == total


def test_the_inner_sum_is_a_graph_output() -> None:
    net = Net()
    x = net.feed()
    inner = net.add(net.conv(x), net.bn(x))
    net.output(inner)
    net.output(net.add(inner, net.conv(x, 1)))
    assert counted(folded(net.model()).model) == {"Conv": 2, "Add": 1}


def test_automatic_pads_of_a_stride_need_the_size() -> None:
    models = {}
    for size in (None, _SIZE - 1):
        net = Net(size=size)
        x = net.feed()
        kernels = []
        for k in (3, 1):
            weight = net.number(net.rng.standard_normal((6, 6, k, k)), "W")
            kernels.append(net.op("Conv", x, weight, strides=[2, 2], auto_pad="SAME_UPPER"))
        net.output(net.add(*kernels))
        models[size] = net.model()
    assert counted(folded(models[_SIZE - 1]).model) == {"Conv": 1}
    folding = folded(models[None])
    assert counted(folding.model)["Conv"] == 2
    assert not folding.folds


def test_automatic_pads_without_a_stride_do_not() -> None:
    net = Net()
    x = net.feed()
    weights = [net.number(net.rng.standard_normal((6, 6, k, k)), "W") for k in (3, 2, 1)]
    net.output(net.add(*(net.op("Conv", x, w, auto_pad="SAME_LOWER") for w in weights)))
    assert counted(folded(net.model()).model) == {"Conv": 1}


def test_an_average_that_leaves_padding_out_stays() -> None:
    net = Net()
    x = net.feed()
    pool = net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4)
    net.output(net.add(net.conv(x), pool, net.bn(x)))
    assert counted(folded(net.model()).model) == {"Conv": 1, "AveragePool": 1, "Add": 1}


def test_a_scale_along_the_width_is_none_of_channels() -> None:
    net = Net(size=6)
    x = net.feed()
    wide = net.op("Mul", x, net.number(net.rng.standard_normal(6)))
    net.output(net.add(net.conv(x), wide))
    folding = folded(net.model(), 6)
    assert counted(folding.model) == {"Conv": 1, "Mul": 1, "Add": 1}
    assert reasons(folding) == {"other-axis"}


def test_branches_that_broadcast_stay() -> None:
    net = Net(size=4)
    x = net.feed()
    net.output(net.add(net.conv(x), net.conv(x, 4, pads=[0] * 4)))
    assert counted(folded(net.model(), 4).model)["Conv"] == 2


def test_a_sum_that_overflows_stays() -> None:
    net = Net(elem_type=TensorProto.FLOAT16)
    x = net.feed()
    weights = [net.number(np.full((6, 6, k, k), 4e4), "W") for k in (3, 1)]
    net.output(net.add(*(net.op("Conv", x, w, auto_pad="SAME_UPPER") for w in weights)))
    folding = folded(net.model(), 3, 1e7)
    assert counted(folding.model)["Conv"] == 2


def test_branches_may_share_their_weights() -> None:
    net = Net()
    first, second = net.feed(), net.feed()
    W, V = (net.number(net.rng.standard_normal((6, 6, k, k)), "W") for k in (3, 1))
    for x in (first, second):
        twice = net.add(*(net.op("Conv", x, W, pads=[1] * 4) for _ in range(2)))
        net.output(net.op("Add", twice, net.op("Conv", x, V)))
    folding = folded(net.model())
    assert counted(folding.model) == {"Conv": 2}
    assert len(folding.model.graph.initializer) == 1


def test_a_weight_that_something_else_reads_is_kept() -> None:
    net = Net()
    x = net.feed()
    W = net.number(net.rng.standard_normal((6, 6, 3, 3)), "W")
    net.output(net.add(net.op("Conv", x, W, pads=[1] * 4), net.bn(x)))
    net.output(net.op("Conv", net.op("Relu", x), W))
    folding = folded(net.model())
    assert counted(folding.model) == {"Conv": 2, "Relu": 1}
    assert len(folding.model.graph.initializer) == 3


def test_branches_with_a_quantized_weight_stay() -> None:
    net = Net(opset=19)
    x = net.feed()
    integers = net.number(net.rng.integers(-9, 9, (6, 6, 1, 1)).astype(np.int8), "Q")
    point = net.op("Conv", x, net.op("DequantizeLinear", integers, net.number(0.5)))
    net.output(net.add(net.conv(x), point))
    folding = folded(net.model())
    assert counted(folding.model)["Conv"] == 2
    assert reasons(folding) == {"quantized-range"}


def test_branches_that_are_quantized_apart_stay() -> None:
    net = Net(opset=19)
    x = net.feed()
    made = []
    for k in (3, 1):
        scale, zero = net.number(0.5), net.number(np.int8(0))
        quantized = net.op("QuantizeLinear", net.conv(x, k), scale, zero)
        made.append(net.op("DequantizeLinear", quantized, scale, zero))
    net.output(net.add(*made))
    assert not folded(net.model()).folds


def test_kernels_behind_one_another_stay() -> None:
    """Borders between the two are written by ScatterND, as some authors do, or put around."""
    for writes in (True, False):
        net = Net(size=4)
        x = net.feed()
        inner = net.conv(x, 1, bias=True)
        framed = net.op("Pad", inner, net.number(np.asarray([0, 0, 1, 1, 0, 0, 1, 1])))
        if writes:
            corner = net.number(np.zeros((1, 4), np.int64))
            framed = net.op("ScatterND", framed, corner, net.number(np.ones(1)))
        net.output(net.add(net.conv(x), net.conv(framed, 3, pads=[0] * 4)))
        assert counted(folded(net.model(), 4).model)["Conv"] == 3


def test_inside_a_body() -> None:
    net = Net()
    x = net.feed()
    inner = Net(seed=1)
    inner.output(repvgg(inner, x))
    body = inner.model().graph
    other = Net(seed=2)
    other.output(other.op("Relu", x))
    choice = net.number(np.asarray(True))  # noqa: FBT003 - the condition
    chosen = net.name("if")
    net.nodes.append(
        helper.make_node(
            "If", [choice], [chosen], then_branch=body, else_branch=other.model().graph
        )
    )
    net.output(chosen)
    folding = folded(net.model())
    then = next(a.g for n in folding.model.graph.node for a in n.attribute if a.name[0] == "t")
    assert Counter(node.op_type for node in then.node) == {"Conv": 1, "Relu": 1}


def _in_a_function(build: Callable[[Net, str], str]) -> onnx.ModelProto:
    """What is built, as a function of x and of all numbers; the model calls it."""
    net = Net()
    x = net.feed()
    made = build(net, x)
    names = [tensor.name for tensor in net.initializers]
    function = helper.make_function(
        "d", "Block", [x, *names], [made], list(net.nodes), [helper.make_opsetid("", 17)]
    )
    outer = Net()
    outer.initializers = net.initializers
    outer.inputs = net.inputs
    outer.nodes.append(helper.make_node("Block", [x, *names], ["y"], domain="d"))
    outer.output("y")
    model = outer.model()
    model.opset_import.append(helper.make_opsetid("d", 1))
    model.functions.append(function)
    return model


def test_inside_a_function() -> None:
    folding = folded(_in_a_function(repvgg))
    assert folding.after.batch_normalizations == 0
    assert counted(folding.model)["Conv"] == 1


def test_a_function_is_inlined_where_its_arguments_add_up() -> None:
    for build in (
        lambda net, x: net.add(net.conv(x), net.conv(x, 1)),
        lambda net, x: net.add(net.turn(net.conv(net.turn(x))), x),
    ):
        folding = folded(_in_a_function(build))
        assert counted(folding.model)["Conv"] == 1
        assert folding.inlined == ("d::Block",)


def test_a_function_stays_where_nothing_would_be_merged() -> None:
    for build in (
        lambda net, x: net.add(net.conv(x, 1), net.conv(x, depthwise=True)),  # it costs more
        lambda net, x: net.conv(net.op("Relu", net.conv(x)), 1),
    ):
        folding = folded(_in_a_function(build))
        assert not folding.folds
        assert counted(folding.model) == {"Block": 1}


def _said(net: Net, *branches: str) -> dict[str, str]:
    """Fold a sum of branches that all stay apart; return what is said of each."""
    net.output(net.add(*branches))
    folding = folded(net.model())
    assert not folding.folds
    beside = {kept.nodes[-1].output: kept.beside for kept in folding.kept if kept.beside}
    return {output: f"{why.reason} {why.at} {why.text}" for output, why in beside.items()}


def test_what_averages_in_another_way_is_named() -> None:
    for given in ({"pads": [1, 1, 1, 1]}, {"ceil_mode": 1, "pads": [1, 1, 1, 1]}):
        net = Net(size=_SIZE)
        x = net.feed()
        pool = net.op("AveragePool", x, kernel_shape=[3, 3], **given)
        assert list(_said(net, net.conv(x), pool)) == [pool]


def test_automatic_pads_of_an_unknown_size_are_named() -> None:
    net = Net()
    x = net.feed()
    weights = [net.number(net.rng.standard_normal((6, 6, k, k)), "W") for k in (3, 1)]
    convs = [net.op("Conv", x, w, strides=[2, 2], auto_pad="SAME_UPPER") for w in weights]
    said = _said(net, *convs)
    assert said.keys() == {*convs}
    assert {each.split()[0] for each in said.values()} == {"unknown-shape"}


def test_branches_that_are_turned_otherwise_are_named() -> None:
    net = Net(size=6)  # as many as channels, so that any layout is legal
    x = net.feed()
    convs = [net.conv(net.op("Transpose", x, perm=[0, 3, 1, 2])), net.conv(x, 1)]
    net.output(net.add(net.op("Transpose", convs[0], perm=[0, 3, 1, 2]), convs[1]))
    folding = folded(net.model(), size=6)
    assert not folding.folds
    said = {kept.nodes[-1].output: kept.beside for kept in folding.kept if kept.beside}
    assert said.keys() == {*convs}
    assert all("the axes change their order" in why.text for why in said.values())


def test_the_same_order_by_other_transposes_is_named() -> None:
    """Both leave the axes where they were; but one convolves height and width, one channels."""
    net = Net(size=6)
    x = net.feed()
    inner = net.conv(net.op("Transpose", x, perm=[0, 3, 1, 2]))
    turned, direct = net.op("Transpose", inner, perm=[0, 2, 3, 1]), net.conv(x, 1)
    net.output(net.add(turned, direct, net.bn(x)))
    folding = folded(net.model(), size=6)
    assert counted(folding.model) == {"Transpose": 2, "Conv": 2, "Add": 1}
    assert reasons(folding) == {"other-geometry"}


def test_a_crop_before_a_transpose_is_named() -> None:
    net = Net(size=6)
    x = net.feed()
    bounds = [net.number(np.asarray([v])) for v in (1, -1, 2)]
    cropped = net.turn(net.op("Slice", x, *bounds))
    crossed = net.turn(net.conv(cropped, (3, 1), pads=[0] * 4))
    said = _said(net, crossed, net.conv(x, pads=[0] * 4))
    [why] = said.values()
    assert why.startswith(f"other-geometry Slice '{net.nodes[0].output[0]}'")
    assert "the axes change their order" in why


def test_a_transpose_that_something_else_reads_stays() -> None:
    net = Net()
    x = net.op("Sigmoid", net.feed())
    turned = net.turn(x)
    other = net.turn(net.conv(net.turn(x)))
    net.output(net.add(other, net.bn(x), net.turn(net.conv(turned, 1))))
    net.output(net.op("Relu", turned))
    net.output(net.turn(x))
    folding = folded(net.model())
    assert counted(folding.model) == {"Sigmoid": 1, "Transpose": 4, "Conv": 1, "Relu": 1}


@pytest.mark.slow
def test_a_chain_of_transposes_is_not_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the branches that begin at its members would look at all those before."""
    asked, follow = [0], Order.then

    def then(first: Order, second: Order) -> Order:
        asked[0] += 1
        return follow(first, second)

    monkeypatch.setattr(Order, "then", then)
    counts = []
    for length in (50, 100):
        net = Net()
        x = net.op("Sigmoid", net.feed())
        for _ in range(length):
            x = net.turn(x)
            net.output(net.add(net.conv(x, 1), x))
        asked[0] = 0
        assert counted(bnfold.fold(net.model()).model)["Conv"] == length
        counts.append(asked[0])
    assert counts[1] < 2.5 * counts[0]


def test_a_turned_sum_that_is_part_of_a_sum() -> None:
    net = Net()
    x = net.op("Sigmoid", net.feed())
    turned = net.turn(x)
    inner = net.add(net.conv(turned), net.bn(net.conv(turned, 1)), turned)
    net.output(net.op("Sub", net.turn(inner), net.bn(x)))
    assert counted(folded(net.model()).model) == {"Sigmoid": 1, "Transpose": 2, "Conv": 1}


def test_a_border_of_another_number_and_an_operator_behind_another_are_named() -> None:
    net = Net()
    x = net.feed()
    amounts = net.number(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    border = net.op("Pad", net.conv(x, 1), amounts, net.number(np.float32(0.5)))
    bordered = net.conv(border, pads=[0, 0, 0, 0])
    chained = net.conv(net.conv(x, 1))
    said = _said(net, bordered, chained, net.op("Sigmoid", net.conv(x)))
    assert said.keys() == {bordered, chained}
    assert said[bordered].startswith(f"other-geometry Pad '{border}'")
    assert "it pads with 0.5" in said[bordered]
    assert "one operator is behind another" in said[chained]


def test_a_border_that_is_written_is_named() -> None:
    """As some authors keep the border of a kernel behind another exact; its shape is asked, too."""
    net = Net(size=4)
    x = net.feed()
    inner = net.conv(x, 1, bias=True)
    for place in range(2):
        corner = net.number(np.array([[0, 0, place, 0]]))
        value = net.op("Slice", net.op("Shape", inner), *map(net.number, ([0], [1])))
        inner = net.op("ScatterND", inner, corner, net.op("Cast", value, to=TensorProto.FLOAT))
    said = _said(net, net.conv(inner, pads=[1] * 4), net.conv(x))
    [why] = said.values()
    assert why.startswith(f"other-geometry ScatterND '{inner}'")


def test_what_is_no_more_than_its_input_does_not_matter() -> None:
    net = Net()
    x = net.op("Sigmoid", net.feed())
    branches = [
        net.turn(net.conv(net.op("Identity", net.turn(net.op("Identity", x))), k)) for k in (3, 1)
    ]
    branches.append(net.turn(net.op("Identity", net.turn(x))))
    net.output(net.add(*branches, net.op("Identity", x)))
    assert counted(folded(net.model()).model) == {"Sigmoid": 1, "Transpose": 2, "Conv": 1}


def test_quantizers_of_their_own_are_named() -> None:
    net = Net(opset=21)
    x = net.feed()
    scale, zero = net.number(np.float32(0.1)), net.number(np.int8(0))
    own = []
    for k in (3, 1):
        quantized = net.op("QuantizeLinear", net.conv(x, k), scale, zero)
        own.append(net.op("DequantizeLinear", quantized, scale, zero))
    said = _said(net, *own)
    assert [why.split(" '")[0] for why in said.values()] == [
        "quantized-activation DequantizeLinear"
    ] * 2


def test_a_weight_that_would_overflow_is_named() -> None:
    net = Net(elem_type=TensorProto.FLOAT16)
    x = net.feed()
    large = [net.number(np.full((6, 6, 1, 1), 4e4, np.float16)) for _ in range(2)]
    net.output(net.add(*(net.op("Conv", x, weight) for weight in large)))
    folding = bnfold.fold(net.model())
    assert not folding.folds
    assert {kept.above.reason for kept in folding.kept} == {"overflow"}


def test_what_is_no_linear_map_is_no_branch() -> None:
    net = Net()
    x = net.feed()
    inner = net.op("Relu", net.conv(x))
    assert _said(net, x, net.conv(inner), net.op("MaxPool", x, kernel_shape=[1, 1])) == {}
