"""What is told of a planted fault is what was planted: the operator, the weight, the channel."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from blocks import Net
from handfold import Builder, fold, network
from onnx import numpy_helper
from proving import clone, proved

import bnfold
from bnfold.verification.difference import Difference


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.name == name)
    return found


def changed(
    model: onnx.ModelProto, name: str, place: tuple[int, ...], factor: float
) -> onnx.ModelProto:
    """Multiply one element of an initializer."""
    model = clone(model)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[place] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model


def differences(
    tmp_path: Path, old: onnx.ModelProto, new: onnx.ModelProto
) -> tuple[Difference, ...]:
    proof = proved(tmp_path, old, new)
    assert proof.differences
    return proof.differences


@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
@pytest.mark.parametrize("named", [True, False])
def test_a_wrong_weight_is_named_with_its_channel(
    tmp_path: Path, kind: str, *, named: bool
) -> None:
    model = network(0, kind=kind)
    folded, regions = fold(model)
    wrong = changed(folded, "c2.W", (5, 3, 0, 0), 1.5)
    proof = proved(tmp_path, model, wrong, regions if named else None)
    assert [(d.tensor, d.op_type, d.name) for d in proof.differences] == [
        ("c2_bn", "Conv", "c2_node")
    ]
    found = proof.differences[0]
    assert (found.weights, found.channel, found.what) == (("c2.W",), 5, "")
    assert found.fraction is not None
    assert found.fraction > 1
    assert set(found.before) >= {"stem_bn", "c0_bn", "c1_bn"}
    assert set(found.behind) == {"c3_bn", *(["d3_bn"] if kind == "depthwise" else [])}
    assert "because of 'c2.W'" in str(found)


def test_a_wrong_bias_is_named_and_the_numbers_are_off_by_it(tmp_path: Path) -> None:
    model = network(1)
    folded, _ = fold(model)
    bias = next(t for t in folded.graph.initializer if t.name == "c1.b")
    array = numpy_helper.to_array(bias).copy()
    array[6] += 0.25
    bias.CopyFrom(numpy_helper.from_array(array, "c1.b"))
    (found,) = differences(tmp_path, model, folded)
    assert (found.tensor, found.weights, found.channel) == ("c1_bn", ("c1.b",), 6)
    assert found.original is not None
    assert found.candidate is not None
    assert found.candidate - found.original == pytest.approx(0.25, abs=1e-6)


def test_the_numbers_are_those_that_numpy_computes(tmp_path: Path) -> None:
    """A sum over constant weights, whose largest difference is in one channel."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,3] x) => (float[1,4] y)
        <float[3,4] W = {1,2,3,4, 5,6,7,8, 9,10,11,12}, float[4] b = {0,0,0,0}>
        { y = Gemm (x, W, b) }"""
    model = onnx.parser.parse_model(text)
    wrong = changed(model, "W", (1, 2), 2.0)
    (found,) = differences(tmp_path, model, wrong)
    assert found.op_type == "Gemm"
    assert found.what == "B 'W' is 14 instead of 7 at [1, 2]"
    assert found.channel == 2
    assert found.original is not None
    assert found.candidate is not None


@pytest.mark.slow
def test_several_wrong_layers_are_told_in_order(tmp_path: Path) -> None:
    model = network(2)
    folded, _ = fold(model)
    wrong = changed(changed(folded, "c3.W", (1, 0, 0, 0), 2.0), "c0.b", (2,), 3.0)
    found = differences(tmp_path, model, wrong)
    assert [(d.tensor, d.weights) for d in found] == [
        ("c0_bn", ("c0.b",)), ("c3_bn", ("c3.W",)),
    ]  # fmt: skip


def test_a_wrong_epsilon_blames_the_fold_that_has_it(tmp_path: Path) -> None:
    model = network(3)

    def fault(name: str, p: dict[str, object]) -> dict[str, object]:
        return {**p, "eps": 0.1} if name == "c2_bn_node" else p

    (found,) = differences(tmp_path, model, fold(model, fault)[0])
    assert found.tensor == "c2_bn"
    assert "c2.W" in found.weights


def test_an_epsilon_that_is_stated_otherwise_is_told(tmp_path: Path) -> None:
    model = network(3)
    wrong = clone(model)
    node(wrong, "c1_bn_node").attribute[0].f = 0.1
    (found,) = differences(tmp_path, model, wrong)
    assert (found.tensor, found.name) == ("c1_bn", "c1_bn_node")
    assert found.what == "epsilon is 0.1 instead of 0.001"


def test_a_lost_normalization_is_missed(tmp_path: Path) -> None:
    model = network(4)
    wrong = clone(model)
    lost = node(wrong, "c1_bn_node")
    node(wrong, "c1_node").output[0] = lost.output[0]
    wrong.graph.node.remove(lost)
    (found,) = differences(tmp_path, model, wrong)
    # The original's r1 may be the other's times positive factors, where the bias does not show;
    # then what reads it is the first that certainly differs.
    assert (found.tensor, found.name) in {("r1", "r1_node"), ("c2", "c2_node")}
    assert found.what == "the original's BatchNormalization 'c1_bn_node' is missing"


def test_swapped_inputs_are_told(tmp_path: Path) -> None:
    net = Builder(np.random.default_rng(0))
    net.conv("x", "a", 4, 4)
    net.conv("x", "b", 4, 4)
    net.node("Sub", ["a", "b"], "d")
    net.node("Relu", ["d"], "y")
    model = net.model([1, 4, 6, 6], "y")
    wrong = clone(model)
    node(wrong, "d_node").input[:] = ["b", "a"]
    (found,) = differences(tmp_path, model, wrong)
    assert found.name == "d_node"
    assert found.what == "it reads 'b', 'a' instead of 'a', 'b'"
    node(wrong, "d_node").input[:] = ["a", "x"]
    found = differences(tmp_path, model, wrong)[0]
    assert found.what == "it reads 'a', 'x' instead of 'a', 'b'"


ATTRIBUTES: list[tuple[str, str, str]] = [
    ("MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (x)",
     "MaxPool <kernel_shape = [3,3], pads = [1,1,1,1], ceil_mode = 1, strides = [1,1]> (x)", ""),
    ("MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (x)",
     "MaxPool <kernel_shape = [5,5], pads = [2,2,2,2]> (x)",
     "kernel_shape is [5, 5] instead of [3, 3]; pads is [2, 2, 2, 2] instead of [1, 1, 1, 1]"),
    ("Conv <dilations = [2,2], pads = [2,2,2,2]> (x, W)", "Conv <pads = [1,1,1,1]> (x, W)",
     "dilations is [1, 1] instead of [2, 2]; pads is [1, 1, 1, 1] instead of [2, 2, 2, 2]"),
    ("Clip (x, low, high)", "Clip (x, low, other)", "max 'other' is 6.39 instead of 6"),
    ("Clip (x, low, high)", "Clip (x, low)", "max is left out"),
    ("LeakyRelu (x)", "LeakyRelu <alpha = 0.02> (x)", "alpha is 0.02 instead of 0.01"),
    ("Softmax <axis = 1> (x)", "Softmax (x)", "axis is -1 instead of 1"),
    ("Softmax <axis = 1> (x)", "LogSoftmax <axis = 1> (x)", "the original has a Softmax there"),
    ('my.Foo <mode = "a"> (x)', 'my.Foo <mode = "b"> (x)', "mode is 'b' instead of 'a'"),
    ('my.Foo <mode = "a"> (x)', "my.Foo (x)", "mode is left out"),
    ("Cast <to = 10> (x)", "Cast <to = 11> (x)", "to is double instead of float16"),
    ("my.Foo <t = float[2] {1, 2}> (x)", "my.Foo <t = float[2] {1, 3}> (x)",
     "t is 3 instead of 2 at [1]"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "told"), ATTRIBUTES)
def test_what_is_stated_otherwise_is_told(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    models = []
    for call in (before, after):
        text = f"""<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
            g (float[1,1,6,6] x) => (float[1,1,m,n] y)
            <float[1,1,3,3] W = {{1,2,3,4,5,6,7,8,9}}, float low = {{0}}, float high = {{6}},
             float other = {{6.39}}> {{ y = {call} }}"""
        models.append(onnx.parser.parse_model(text))
    proof = proved(tmp_path, models[0], models[1])
    assert [d.what for d in proof.differences] == ([told] if told else [])
    assert proof.structure.proved == (not told)


def test_the_channel_of_a_product_is_its_last_axis(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,5,3] x) => (float[1,5,4] y)
        <float[3,4] W = {1,2,3,4, 5,6,7,8, 9,10,11,12}, float[4] s = {1,2,3,4}>
        { p = MatMul (x, W)  y = Mul (p, s) }"""
    model = onnx.parser.parse_model(text)
    folded = clone(model)
    W, s = (numpy_helper.to_array(t) for t in folded.graph.initializer)
    product = (W * s).astype(np.float32)
    product[2, 3] += 1
    folded.graph.initializer[0].CopyFrom(numpy_helper.from_array(product, "W"))
    del folded.graph.node[1]
    folded.graph.node[0].output[0] = "y"
    (found,) = differences(tmp_path, model, folded)
    assert (found.weights, found.channel) == (("W",), 3)


def test_a_tensor_is_called_as_the_candidate_calls_it(tmp_path: Path) -> None:
    """A tool that keeps the convolution's name, and is wrong in one bias."""
    model = network(5)
    folded, _ = fold(model)
    wrong = changed(folded, "c2.b", (1,), 5.0)
    for each in wrong.graph.node:
        each.input[:] = ["c2" if name == "c2_bn" else name for name in each.input]
        each.output[:] = ["c2" if name == "c2_bn" else name for name in each.output]
    (found,) = differences(tmp_path, model, wrong)
    assert (found.tensor, found.weights, found.channel) == ("c2", ("c2.b",), 1)


def test_nothing_is_told_of_what_is_right(tmp_path: Path) -> None:
    model = network(6, kind="residual")
    folded, regions = fold(model)
    assert not proved(tmp_path, model, folded).differences
    assert not proved(tmp_path, model, folded, regions).differences


def test_a_cast_that_is_missing_is_told_with_its_types(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 19, "my" : 1]> g (float[1,4] x) => (float[1,4] y)
        {{ h = Cast <to = 17> (x)  q = {0} y = my.Foo (q) }}"""
    models = [onnx.parser.parse_model(text.format(call)) for call in
              ("Cast <to = 1> (h)", "Identity (x)")]  # fmt: skip
    (found,) = differences(tmp_path, *models)
    assert found.what == "the original has a Cast from float8e4m3fn to float there"


@pytest.mark.parametrize("named", [True, False])
def test_a_weight_that_hides_in_a_sum_is_named_with_its_channel(
    tmp_path: Path, *, named: bool
) -> None:
    net = Builder(np.random.default_rng(3))
    net.conv("x", "c", 512, 4, k=3)
    net.bn("c", "y", 4)
    model = net.model([1, 512, 4, 4], "y")
    folded, regions = fold(model)
    (weight,) = (t for t in folded.graph.initializer if t.name == "c.W")
    array = numpy_helper.to_array(weight)
    smallest = np.unravel_index(int(np.abs(array[2]).argmin()), array[2].shape)
    place = (2, *map(int, smallest))
    wrong = changed(folded, "c.W", place, 1 + 4e-6)
    proof = proved(tmp_path, model, wrong, regions if named else None)
    (found,) = proof.differences
    assert (found.tensor, found.weights, found.channel) == ("y", ("c.W",), 2)
    assert "a weight for channel 2 is not the original's times its channel's factor" in found.how
    assert "because of 'c.W'" in found.how


def test_right_folds_beside_a_wrong_weight_are_not_accused(tmp_path: Path) -> None:
    """Heads that were scaled inside keep their tensors' names, and what they end in is wrong."""
    net = Net(size=9)
    trunk, heads = net.feed(), []
    for _ in range(2):
        trunk = net.op("Relu", net.bn(net.conv(trunk)))
        heads.append(net.op("Transpose", net.conv(trunk, bias=True), perm=[0, 2, 3, 1]))
    scale = net.number(np.asarray(0.1))
    net.output(net.op("Mul", net.op("Concat", *heads, axis=1), scale))
    model = net.model()
    folded = bnfold.fold(model).model
    convolutions = [made for made in folded.graph.node if made.op_type == "Conv"]
    weight = convolutions[2].input[1]  # behind the first head
    wrong = differences(tmp_path, model, changed(folded, weight, (3, 1, 0, 0), 1.01))
    assert [(found.weights, found.channel) for found in wrong] == [((weight,), 3)]
