"""What a probe holds and what it does not, fold by fold."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from handfold import Builder, Fault, Parameters, fold
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.files.opened import from_proto
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.computing import Weights, lifted
from bnfold.verification.proof.cone import cut
from bnfold.verification.proof.facts import linear_depth
from bnfold.verification.proof.finding import Finding
from bnfold.verification.proof.probe import probe
from bnfold.verification.proof.scopes import graph_scope

LAYERS = 60


def pair(seed: int = 0, elem_type: int = TensorProto.FLOAT, **conv: Any) -> onnx.ModelProto:
    net = Builder(np.random.default_rng(seed), elem_type)
    c_in, c_out = conv.pop("c_in", 6), conv.pop("c_out", 8)
    net.bn(net.conv("x", "c", c_in, c_out, **conv), "y", c_out)
    return net.model([1, c_in, None, None], "y")


def probed(
    old: onnx.ModelProto,
    new: onnx.ModelProto,
    *,
    tight: bool = True,
    shape: tuple[int | None, ...] = (1, None, None, None),
) -> Finding:
    cones = []
    for model in (old, new):
        cone = cut(graph_scope(from_proto(model), model.graph), "y", lambda _: False, 200)
        assert cone is not None
        cones.append(cone)
    return probe(cones[0], cones[1], {"x": shape}, 0, tight=tight)


def scaled(key: str, factor: float, channel: int | None = None) -> Fault:
    def fault(_: str, p: Parameters) -> Parameters:
        values = p[key].copy()
        values[slice(None) if channel is None else channel] *= factor
        return {**p, key: values}

    return fault


FAULTS: dict[str, Fault] = {
    "epsilon dropped": lambda _, p: {**p, "eps": np.float64(0)},
    "epsilon of the default": lambda _, p: {**p, "eps": np.float64(1e-5)},
    "bias lost": lambda _, p: {**p, "b": np.zeros_like(p["b"])},
    "mean's sign": lambda _, p: {**p, "mean": -p["mean"]},
    "beta lost": lambda _, p: {**p, "beta": np.zeros_like(p["beta"])},
    "gamma 1e-3": scaled("gamma", 1.001),
    "gamma 1e-5": scaled("gamma", 1.00001),
    "gamma -1e-5 in a channel": scaled("gamma", 0.99999, 3),
    "weights through float16": lambda _, p: {**p, "W": p["W"].astype(np.float16).astype(float)},
    "channels reversed": lambda _, p: {**p, "gamma": p["gamma"][::-1]},
}


@pytest.mark.parametrize("conv", [{}, {"group": 2}, {"k": 1}, {"group": 8, "c_in": 8}])
@pytest.mark.parametrize(
    "elem_type",
    [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE],
)
def test_correct_folds_hold(conv: dict[str, Any], elem_type: int) -> None:
    for seed in range(6):
        model = pair(seed, elem_type, **conv)
        finding = probed(model, fold(model)[0])
        assert finding.held, finding


@pytest.mark.parametrize("conv", [{}, {"group": 2}, {"k": 1}, {"group": 8, "c_in": 8}])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_are_found(conv: dict[str, Any], fault: Fault) -> None:
    model = pair(1, **conv)
    finding = probed(model, fold(model, fault)[0], tight=False)
    assert not finding.held
    assert "instead of" in finding.note


def test_a_small_fault_in_one_channel_shows_behind_a_wide_kernel() -> None:
    model = pair(0, c_in=128, c_out=16)
    finding = probed(model, fold(model, scaled("gamma", 1.00001, 3))[0])
    assert finding.fraction > 5
    assert "channel 3" in finding.note


@pytest.mark.parametrize("gamma", [1e-4, 1e-8, 1e-20])
@pytest.mark.parametrize("conv", [{}, {"k": 1}, {"group": 8, "c_in": 8}])
def test_a_small_fault_in_a_dead_channel_is_not_covered_by_its_bias(
    conv: dict[str, Any], gamma: float
) -> None:
    """Nor by a Relu that lets nothing of it pass for inputs of a usual size, or of one sign."""
    for sign, beta in itertools.product((-1.0, 1.0), repeat=2):
        model = pair(0, **conv)
        values = {tensor.name: tensor for tensor in model.graph.initializer}
        for key, value in (("gamma", gamma), ("beta", beta)):
            tensor = values[f"y.{key}"]
            array = numpy_helper.to_array(tensor).copy()
            array[3] = value
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        W = numpy_helper.to_array(values["c.W"])
        values["c.W"].CopyFrom(numpy_helper.from_array(np.copysign(W, sign), "c.W"))
        faulty = fold(model, scaled("gamma", 1.00001, 3))[0]
        assert probed(model, fold(model)[0]).held
        assert not probed(model, faulty, tight=False).held
        for behind in (model, faulty):
            behind.graph.node[-1].output[0] = "before"
            behind.graph.node.append(helper.make_node("Relu", ["before"], ["y"]))
        assert not probed(model, faulty, tight=False).held


@pytest.mark.parametrize("gamma", [1e-5, 4e-5, 1.0])
@pytest.mark.parametrize("channels", [4, 12, 64])
def test_single_weights_show_in_a_sum_of_all(channels: int, gamma: float) -> None:
    """A tenth of a channel's weights in half precision, also where all of them underflow."""
    model = pair(0, TensorProto.FLOAT16, c_in=channels)
    scale = next(t for t in model.graph.initializer if t.name == "y.gamma")
    values = numpy_helper.to_array(scale).copy()
    values[3] = gamma
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    right = fold(model)[0]
    assert probed(model, right).held
    conv = next(node for node in right.graph.node if node.op_type == "Conv")
    weight = next(t for t in right.graph.initializer if t.name == conv.input[1])
    W = numpy_helper.to_array(weight).copy()
    off = np.random.default_rng(0).random(W[3].shape) < 0.1
    W.view(np.int16)[3][off] += 2
    weight.CopyFrom(numpy_helper.from_array(W, weight.name))
    assert not probed(model, right).held


@pytest.mark.parametrize("step", [1, 2, 7, 18])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 1), (2, 1)])
def test_every_element_of_a_kernel_counts_however_far_it_reaches(
    step: int, place: tuple[int, int]
) -> None:
    def corner(_: str, p: Parameters) -> Parameters:
        W = p["W"].copy()
        W[(..., *place)] *= 1.0001
        return {**p, "W": W}

    model = pair(0, step=step)
    for shape in [(1, 6, None, None), (1, 6, 100, 300), (1, 6, 40, 21)]:
        assert probed(model, fold(model)[0], shape=shape).held
        assert not probed(model, fold(model, corner)[0], tight=False, shape=shape).held


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("channels", [6, 100, pytest.param(700, marks=pytest.mark.slow)])
def test_every_input_channel_counts(channels: int, k: int) -> None:
    """A fold into the input side has a factor for each."""
    model = pair(0, c_in=channels, c_out=4, k=k)
    for channel in np.random.default_rng(0).integers(0, channels, 5):

        def fault(_: str, p: Parameters, channel: int = channel) -> Parameters:
            W = p["W"].copy()
            W[:, channel] *= 1.0001
            return {**p, "W": W}

        assert not probed(model, fold(model, fault)[0], tight=False).held


def test_half_precision_has_no_room_for_a_thousandth() -> None:
    model = pair(0, TensorProto.FLOAT16)
    assert not probed(model, fold(model, scaled("gamma", 1.002))[0]).held


def test_underflowing_weights_of_a_dead_channel_hold() -> None:
    model = pair(0, TensorProto.FLOAT16)
    [gamma] = [t for t in model.graph.initializer if t.name == "y.gamma"]
    values = numpy_helper.to_array(gamma).copy()
    values[2] = 6e-6
    gamma.CopyFrom(numpy_helper.from_array(values, "y.gamma"))
    folded = fold(model)[0]
    W = numpy_helper.to_array(next(t for t in folded.graph.initializer if t.name == "c.W"))
    assert np.abs(W[2]).max() < 6.1e-5, "the test is about subnormal weights"
    assert probed(model, folded).held


@pytest.mark.parametrize("tight", [True, False])
def test_underflow_goes_through_the_operator_behind(*, tight: bool) -> None:
    """A dead channel of float16, of which few digits are left, is read by another convolution."""
    gamma = np.asarray([1.0, 1e-6, 0.5, 2.0])

    def scaled_twice(*factors: np.ndarray) -> onnx.ModelProto:
        net = Builder(np.random.default_rng(0), TensorProto.FLOAT16)
        last = "x"
        for index, factor in enumerate(factors):
            scale = net.weight(f"s{index}", factor.reshape(1, 4, 1, 1))
            last = net.node("Mul", [last, scale], f"m{index}")
        net.weight("c.W", np.asarray([2.0, 1.5, -1.0, 0.3]).reshape(4, 1, 1, 1))
        net.node("Conv", [last, "c.W"], "y", group=4)
        return net.model([1, 4, 8, 8], "y")

    stored = gamma.astype(np.float16).astype(np.float64)
    second = np.asarray([0.5, 0.43, 0.25, 1.5], np.float16).astype(np.float64)
    old = scaled_twice(gamma, second)
    new = scaled_twice(stored * second)
    off = (stored * second)[1] / np.float64(np.float16((stored * second)[1])) - 1
    assert abs(off) > 4 * 2.0**-11, "the test is about a number of few digits"
    assert probed(old, new, shape=(1, 4, 8, 8), tight=tight).held
    wrong = scaled_twice(stored * second * np.asarray([1.0, 2.0, 1.0, 1.0]))
    assert not probed(old, wrong, shape=(1, 4, 8, 8), tight=tight).held


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("tight", [True, False])
def test_what_is_no_fold_does_not_allow_itself_more(*, padded: bool, tight: bool) -> None:
    """Over many layers the magnitude, with its underflow, becomes larger than anything."""

    def read_from(layer: int) -> onnx.ModelProto:
        net = Builder(np.random.default_rng(0), TensorProto.FLOAT16)
        last = "x"
        for index in range(LAYERS):
            gains = np.full((8, 8, 1, 1), 3.0) * net.rng.choice([-1.0, 1.0], (8, 8, 1, 1))
            gains[index % 8] = 1e-6
            net.weight(f"c{index}.W", gains)
            if index == LAYERS - 1:
                last = f"c{layer}" if layer >= 0 else "x"
                if padded:
                    net.weight("widths", np.zeros(0))
                    net.initializers[-1] = numpy_helper.from_array(
                        np.asarray([0, 0, 0, 0, 0, 0, 1, 1]), "widths"
                    )
                    last = net.node("Pad", [last, "widths"], "p")
            made = "y" if index == LAYERS - 1 else f"c{index}"
            last = net.node("Conv", [last, f"c{index}.W"], made)
        return net.model([1, 8, 4, 4], "y")

    assert probed(read_from(0), read_from(0), shape=(1, 8, 4, 4), tight=tight).held
    assert not probed(read_from(0), read_from(LAYERS - 2), shape=(1, 8, 4, 4), tight=tight).held


def test_what_the_original_has_is_no_underflow() -> None:
    """Its zeros, say: an error of a pruned weight is an error."""

    def sizes(new: Any, old: Any) -> Any:
        weights, originals = (
            Weights({"W": np.asarray(v)}, (np.dtype(np.float32),)) for v in (new, old)
        )
        found = lifted(weights, originals, 1.2e-38)
        return None if found is None else found["W"].magnitude.tolist()

    assert sizes([0.0, 1e-40, 1.0], [0.0, 1e-40, 1.0]) is None
    assert sizes([0.0, 2.0], [0.0, 1.0]) is None
    assert sizes([0.0, 2e-40, -2.0], [0.0, 1e-40, 1.0]) == [0.0, 1.2e-38, 2.0]
    # A product that is rounded to where it was.
    assert sizes([0.0, 1e-40, 2.0], [1e-45, 1e-40, 1.0]) == [1.2e-38, 1.2e-38, 2.0]
    assert sizes([0.0, 1.0], [[0.0, 1.0]]) == [1.2e-38, 1.0]
    assert sizes(1e-40, 2.0) == 1.2e-38


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_stranger_may_round_once_more_for_every_normalization(count: int) -> None:
    net = Builder(np.random.default_rng(0))
    last = net.conv("x", "c", 3, 4)
    for index in range(count):
        last = net.bn(last, "y" if index == count - 1 else f"n{index}", 4)
    model = net.model([1, 3, 8, 8], "y")
    folded = bnfold.fold(model).model
    [conv] = folded.graph.node

    def off_by(roundings: float) -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(folded)
        [tensor] = [t for t in other.graph.initializer if t.name == conv.input[2]]
        values = numpy_helper.to_array(tensor) * np.float32(1 + roundings * 2.0**-24)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return other

    assert probed(model, off_by(4.0 * count - 2), tight=False).held


def carried(
    grow: Callable[[Builder, str], str], change: Callable[[onnx.GraphProto], None]
) -> Finding:
    """Probe Conv → `grow` → Mul(2, 4, …) against a Conv that `change` has scaled."""
    net = Builder(np.random.default_rng(0))
    x = grow(net, net.conv("x", "c", 3, 4))
    scale = net.weight("scale", 2.0 ** np.arange(1, 5).reshape(-1, 1, 1))
    net.node("Mul", [x, scale], "y")
    old = net.model([1, 3, 8, 8], "y")
    new = onnx.ModelProto()
    new.CopyFrom(old)
    del new.graph.node[-1]
    new.graph.node[-1].output[0] = "y"
    for tensor in new.graph.initializer:
        if tensor.name in {"c.W", "c.b"}:
            values = numpy_helper.to_array(tensor)
            s = (2.0 ** np.arange(1, 5)).reshape(-1, *[1] * (values.ndim - 1))
            tensor.CopyFrom(numpy_helper.from_array((values * s).astype("f4"), tensor.name))
    change(new.graph)
    return probed(old, new)


CARRIES: dict[str, Callable[[Builder, str], str]] = {
    "MaxPool": lambda n, x: n.node("MaxPool", [x], "p", kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool": lambda n, x: n.node("AveragePool", [x], "p", kernel_shape=[3, 3], pads=[1] * 4),
    "GlobalAveragePool": lambda n, x: n.node("GlobalAveragePool", [x], "p"),
    "Relu": lambda n, x: n.node("Relu", [x], "p"),
    "LeakyRelu": lambda n, x: n.node("LeakyRelu", [x], "p", alpha=0.3),
    "Transpose twice": lambda n, x: n.node(
        "Transpose", [n.node("Transpose", [x], "t", perm=[0, 2, 3, 1])], "p", perm=[0, 3, 1, 2]
    ),
    "Identity": lambda n, x: n.node("Identity", [x], "p"),
}


@pytest.mark.parametrize("grow", CARRIES.values(), ids=CARRIES)
def test_folds_through_carries(grow: Callable[[Builder, str], str]) -> None:
    assert carried(grow, lambda _: None).held

    def forget(graph: onnx.GraphProto) -> None:
        bias = next(t for t in graph.initializer if t.name == "c.b")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 0.999, "c.b"))

    assert not carried(grow, forget).held


def test_a_constant_along_another_axis_is_another_model() -> None:
    net = Builder(np.random.default_rng(0))
    net.conv("x", "c", 3, 4)
    net.node("Mul", ["c", net.weight("s", 2.0 ** np.arange(4))], "y")  # runs over the width
    model = net.model([1, 3, 4, 4], "y")
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        if tensor.name == "s":
            tensor.dims[:] = [4, 1, 1]
    assert not probed(model, other, shape=(1, 3, 4, 4)).held


def test_an_operator_of_unknown_magnitude_is_not_proved() -> None:
    net = Builder(np.random.default_rng(0))
    net.node("Exp", ["x"], "y")
    model = net.model([1, 3, 4, 4], "y")
    with pytest.raises(EvaluationError, match="Exp"):
        probed(model, model)


def test_two_varying_matrices_are_not_proved() -> None:
    net = Builder(np.random.default_rng(0))
    net.node("MatMul", ["x", "x"], "y")
    model = net.model([1, 3, 4, 4], "y")
    with pytest.raises(EvaluationError, match="both vary"):
        probed(model, model)


def test_a_product_is_proved_and_held_to_its_bound() -> None:
    def product(factor: float) -> onnx.ModelProto:
        net = Builder(np.random.default_rng(0))
        scale = np.asarray([1.1, 0.7, -2.3]).reshape(1, 3, 1, 1)
        net.node("Mul", ["x", net.weight("s", scale * factor)], "scaled")
        net.node("Mul", ["scaled", "x"], "y")
        return net.model([1, 3, 4, 4], "y")

    assert probed(product(1.0), product(1.0)).held
    assert not probed(product(1.0), product(1.00001)).held


def test_a_cast_that_rounds_is_not_overlooked() -> None:
    model = pair(0)
    folded = fold(model)[0]
    conv = folded.graph.node[0]
    conv.output[0] = "wide"
    narrow = [("wide", "half", TensorProto.FLOAT16), ("half", "y", TensorProto.FLOAT)]
    folded.graph.node.extend(helper.make_node("Cast", [a], [b], to=t) for a, b, t in narrow)
    with pytest.raises(EvaluationError, match="casts"):
        probed(model, folded)


@pytest.mark.parametrize(("opset", "dropped"), [(15, True), (15, False), (6, True)])
def test_a_dropout_in_training_is_not_proved(opset: int, *, dropped: bool) -> None:
    net = Builder(np.random.default_rng(0))
    net.node("Relu", ["x"], "r")
    net.node("Dropout", ["r"], "y")
    if opset > 6:
        net.nodes[-1].input.extend(["", "training"])
        net.initializers.append(numpy_helper.from_array(np.array(dropped), "training"))
    model = net.model([1, 3, 4, 4], "y", opset=opset)
    if not dropped:
        assert probed(model, model).held
        return
    with pytest.raises(EvaluationError, match="training"):
        probed(model, model)


def test_depth_counts_linear_operators_in_series() -> None:
    net = Builder(np.random.default_rng(0))
    net.node("Add", [net.conv(net.conv("x", "a", 3, 3), "b", 3, 3), net.conv("x", "c", 3, 3)], "y")
    model = net.model([1, 3, 4, 4], "y")
    cone = cut(graph_scope(from_proto(model), model.graph), "y", lambda _: False, 200)
    assert cone is not None
    assert linear_depth(cone) == 2


def test_more_axes_than_an_array_has_are_not_probed() -> None:
    model = pair(0)
    with pytest.raises(EvaluationError, match="no shapes"):
        probed(model, fold(model)[0], shape=(1,) * 65)
