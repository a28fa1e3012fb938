"""Tensors are known by what they are, whatever they are called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from handfold import Builder, fold
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved, renamed


def keeping_names(follow: Callable[[Builder], Any]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Conv → BN → …, and folded as tools do it that leave the convolution its name."""
    net = Builder(np.random.default_rng(0))
    net.conv("x", "c", 8, 8)
    net.bn("c", "d", 8)
    follow(net)
    model = net.model([1, 8, 6, 6], "y")
    return model, renamed(fold(model)[0], "d", "c")


def convolved(net: Builder) -> None:
    net.conv("d", "e", 8, 8)
    net.node("Relu", ["e"], "y")


def read_twice(net: Builder) -> None:
    net.node("Add", [net.node("Sigmoid", ["d"], "s"), "d"], "y")


def read_within(net: Builder) -> None:
    """An If reads the tensor, in a branch and in a branch of that one."""

    def branch(*nodes: onnx.NodeProto, output: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, output, [], [value])

    net.node("HardSwish", ["d"], "h")
    mean = net.node("ReduceMean", ["h"], "m", keepdims=0)
    condition = net.node("Greater", [mean, net.weight("zero", np.zeros(()))], "positive")
    inner = helper.make_node(
        "If", [condition], ["p"],
        then_branch=branch(helper.make_node("Relu", ["d"], ["q"]), output="q"),
        else_branch=branch(helper.make_node("Neg", ["d"], ["r"]), output="r"),
    )  # fmt: skip
    net.nodes.append(helper.make_node(
        "If", [condition], ["y"],
        then_branch=branch(inner, output="p"),
        else_branch=branch(helper.make_node("Identity", ["h"], ["i"]), output="i"),
    ))  # fmt: skip


FOLLOWERS = [
    convolved,
    read_twice,
    read_within,
    lambda net: net.node("HardSwish", ["d"], "y"),
    lambda net: net.node("Softmax", ["d"], "y", axis=1),
]


@pytest.mark.parametrize("follow", FOLLOWERS)
@pytest.mark.parametrize("called", ["c", "anything"])
def test_a_tensor_is_known_by_its_place_where_its_name_misleads(
    tmp_path: Path, follow: Callable[[Builder], Any], called: str
) -> None:
    """Also where a probe cannot go through what reads it."""
    original, folded = keeping_names(follow)
    folded = renamed(folded, "c", called)
    before = folded.SerializeToString()
    proof = proved(tmp_path, original, folded)
    assert proof.structure.proved
    assert proof.contradiction is None
    assert {name for found in proof.probes for name in found.region.outputs} >= {"d"}
    assert folded.SerializeToString() == before
    for name in ("c.W", "c.b"):
        wrong = clone(folded)
        [tensor] = [t for t in wrong.graph.initializer if t.name == name]
        values = numpy_helper.to_array(tensor).copy()
        values[3] *= np.float32(1.00001)
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        assert not proved(tmp_path, original, wrong).structure.proved


@pytest.mark.parametrize("follow", FOLLOWERS)
def test_all_names_may_be_new(tmp_path: Path, follow: Callable[[Builder], Any]) -> None:
    """Also of what is the same, and of what reads a tensor from within a branch."""
    original, folded = keeping_names(follow)
    made = [name for node in folded.graph.node for name in node.output if name != "y"]
    for index, name in enumerate(made):
        folded = renamed(folded, name, f"t{index}")
    assert proved(tmp_path, original, folded).structure.proved
    [tensor] = [t for t in folded.graph.initializer if t.name == "c.b"]
    values = numpy_helper.to_array(tensor) * np.float32(1.00001)
    tensor.CopyFrom(numpy_helper.from_array(values, "c.b"))
    assert not proved(tmp_path, original, folded).structure.proved


def multiplied(model: onnx.ModelProto, gains: dict[str, Any]) -> onnx.ModelProto:
    """Return a model with weights times factors, which broadcast against them."""
    model = clone(model)
    for name, factor in gains.items():
        [tensor] = [t for t in model.graph.initializer if t.name == name]
        values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def equalized(gains: np.ndarray, *, back: np.ndarray | float = 1.0) -> dict[str, Any]:
    """Multiply the channels of one layer, and divide what the next one reads."""
    column = gains.reshape(-1, 1, 1, 1)
    return {"c.W": column, "c.b": gains, "e.W": back / column.reshape(1, -1, 1, 1)}


ALTERNATING = np.resize([4.0, 0.3, 1.0001], 8)


@pytest.mark.parametrize("gains", [np.full(8, 1.00001), ALTERNATING])
@pytest.mark.parametrize("called", ["c", "anything"])
def test_layers_that_make_up_for_each_other_are_right(
    tmp_path: Path, gains: np.ndarray, called: str
) -> None:
    original, folded = keeping_names(convolved)
    right = renamed(multiplied(folded, equalized(gains)), "c", called)
    proof = proved(tmp_path, original, right)
    assert proof.structure.proved
    assert not proof.broken


ONE_OFF = np.where(np.arange(8) == 5, 1.0001, 1.0)
WRONG_GAINS = {
    "not taken back": {**equalized(ALTERNATING), "e.W": 1.0},
    "one channel taken back wrongly": equalized(
        ALTERNATING, back=ONE_OFF.reshape(1, -1, 1, 1)
    ),
    "the bias forgotten": {**equalized(ALTERNATING), "c.b": 1.0},
    "negative, through a Relu": equalized(-ALTERNATING),
    "within a channel": {
        "c.W": ALTERNATING.reshape(1, -1, 1, 1), "e.W": 1 / ALTERNATING.reshape(-1, 1, 1, 1)
    },
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG_GAINS)
def test_layers_that_do_not_make_up_for_each_other_are_wrong(tmp_path: Path, how: str) -> None:
    net = Builder(np.random.default_rng(0))
    net.conv("x", "c", 8, 8)
    net.node("Relu", ["c"], "r")
    net.conv("r", "e", 8, 8)
    net.node("Sigmoid", ["e"], "y")
    original = net.model([1, 8, 6, 6], "y")
    assert proved(tmp_path, original, multiplied(original, equalized(ALTERNATING))).structure.proved
    proof = proved(tmp_path, original, multiplied(original, WRONG_GAINS[how]))
    assert not proof.structure.proved
    assert proof.broken


def test_a_place_that_is_taken_is_not_given_away(tmp_path: Path) -> None:
    """The sum reads the two the other way round, each under its right name."""
    net = Builder(np.random.default_rng(0))
    net.bn(net.conv("x", "c", 8, 8), "d", 8)
    net.bn(net.conv("x", "e", 8, 8), "f", 8)
    net.node("Add", ["d", "f"], "y")
    model = net.model([1, 8, 6, 6], "y")
    swapped = fold(model)[0]
    swapped.graph.node[-1].input[:] = ["f", "d"]
    names = [node.output[0] for node in swapped.graph.node]
    proof = proved(tmp_path, model, swapped)
    assert {name for found in proof.probes for name in found.region.outputs} == {"d", "f", "y"}
    assert names == [node.output[0] for node in swapped.graph.node]


@pytest.mark.parametrize(
    ("op_type", "constants", "gain", "shift"),
    [
        ("Mul", [2.0], 2.0, 0.0),
        ("Sub", [1.0], 1.0, -1.0),
        ("Neg", [], -1.0, 0.0),
        ("BatchNormalization", [2.0, 1.0, 0.0, 1.0], 2.0, 1.0),
    ],
)
def test_a_tensor_that_is_zero_may_keep_its_name(
    tmp_path: Path, op_type: str, constants: list[float], gain: float, shift: float
) -> None:
    """What follows dead weights can be folded into them, and their product stays what it was.

    It may also get another name.
    """

    def dead(W: float, b: float) -> Builder:
        net = Builder(np.random.default_rng(0))
        net.node("Relu", ["x"], "r")
        net.node("MatMul", ["r", net.weight("W", np.full((4, 3), W))], "product")
        net.node("Add", ["product", net.weight("b", np.full(3, b))], "shifted")
        return net

    net = dead(0.0, 0.5)
    names = [net.weight(f"p{index}", np.full(3, value)) for index, value in enumerate(constants)]
    net.node(op_type, ["shifted", *names], "y", **({"epsilon": 0.0} if len(names) > 1 else {}))
    original = net.model([1, 4], "y")

    def folded(b: float, W: float = -0.0) -> onnx.ModelProto:
        model = dead(W, b).model([1, 4], "y")
        model.graph.node[-1].output[0] = "y"
        return model

    for zero in (0.0, -0.0):
        right = folded(0.5 * gain + shift, zero)
        assert proved(tmp_path, original, right).structure.proved
        assert proved(tmp_path, original, renamed(right, "product", "before")).structure.proved
    proof = proved(tmp_path, original, folded(0.6 * gain + shift))
    assert not proof.structure.proved
    assert proof.contradiction is not None


def counting(wrong: str = "") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Blocks of a sum of two, and the same with one convolution each; all tensors are numbered.

    As exporters count what they make, a number in one is another tensor's in the other.
    """
    nets = Builder(np.random.default_rng(0)), Builder(np.random.default_rng(0))
    made = [(f"t{i}" for i in range(100)) for _ in nets]
    read = ["x", "x"]
    for block in range(6):
        first, point = (f"{block}.{name}" for name in ("first", "point"))
        W, V = (nets[0].rng.standard_normal((4, 4, k, k)) * 0.3 for k in (3, 1))
        total = W.astype(np.float32) + 0.0
        total[:, :, 1:2, 1:2] += V.astype(np.float32)
        if wrong == first:
            total[1] *= 1.001
        one, two, both = (next(made[0]) for _ in range(3))
        pads = [1] * 4
        nets[0].node("Conv", [read[0], nets[0].weight(first, W)], one, pads=pads)
        nets[0].node("Conv", [read[0], nets[0].weight(point, V)], two)
        nets[0].node("Add", [one, two], both)
        merged = next(made[1])
        nets[1].node("Conv", [read[1], nets[1].weight(first, total)], merged, pads=pads)
        read = [
            net.node("Relu", [last], next(names))
            for net, last, names in zip(nets, (both, merged), made, strict=True)
        ]
    for net, last in zip(nets, read, strict=True):
        net.node("Sigmoid", [last], "y")
    old, new = (net.model([1, 4, 8, 8], "y") for net in nets)
    return old, new


def test_numbered_tensors_are_known_by_what_they_are(tmp_path: Path) -> None:
    proof = proved(tmp_path, *counting())
    assert proof.structure.proved, proof.structure.reason
    assert len(proof.probes) == 6
    for block in (0, 5):
        assert not proved(tmp_path, *counting(f"{block}.first")).structure.proved
