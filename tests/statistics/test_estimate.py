"""Population statistics from data, compared with PyTorch's and with float64."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from trained import Arrays, model, normalization, parameters, truth, two_layers
from trained import batches as some_batches

import bnfold

REFERENCE = Path(__file__).with_name("reference.npz")
DIMS = (1, 2, 3)


def reference(dims: int) -> dict[str, NDArray[Any]]:
    with np.load(REFERENCE) as data:
        prefix = f"{dims}d/"
        return {n.removeprefix(prefix): data[n] for n in data if n.startswith(prefix)}


def network(data: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.ParseFromString(data["model"].tobytes())
    return made


def batches(data: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    return ({"x": data[f"batch{i}"]} for i in range(4))


@pytest.mark.parametrize("dims", DIMS)
def test_it_is_the_cumulative_average_of_pytorch(dims: int) -> None:
    data = reference(dims)
    estimate = bnfold.estimate_statistics(network(data), batches(data))
    assert estimate.batches == 4
    expected = ["first.1", "grouped.1", "shared", "head.1"]
    assert len(estimate.normalizations) == len(expected)
    for found, name in zip(estimate.normalizations, expected, strict=True):
        assert name.split(".")[0] in found.name
        scale = np.sqrt(data[f"{name}.variance"])
        np.testing.assert_allclose(found.mean / scale, data[f"{name}.mean"] / scale, atol=1e-6)
        np.testing.assert_allclose(found.variance, data[f"{name}.variance"], rtol=1e-5)
    assert [found.uses for found in estimate.normalizations] == [1, 1, 2, 1]


def check(net: onnx.ModelProto, feeds: list[Arrays], *, exact: float = 1e-5) -> bnfold.Estimate:
    """Estimate, and compare with float64."""
    estimate = bnfold.estimate_statistics(net, feeds)
    expected = truth(net, feeds)
    assert [found.name for found in estimate.normalizations] == list(expected)
    for found in estimate.normalizations:
        mean, variance = expected[found.name]
        scale = np.sqrt(variance)
        np.testing.assert_allclose(found.mean / scale, mean / scale, atol=exact)
        np.testing.assert_allclose(found.variance, variance, rtol=exact)
    return estimate


@pytest.mark.parametrize(
    ("opset", "mode"),
    [(7, "test"), (9, "training"), (14, "training"), (18, "test"), (21, "training")],
)
def test_opsets_and_modes(opset: int, mode: str) -> None:
    estimate = check(two_layers(opset, training=mode == "training"), some_batches())
    made = estimate.model
    assert made is not None
    onnx.checker.check_model(made)
    for node in made.graph.node:
        if node.op_type == "BatchNormalization":
            assert len(node.output) == 1
            assert not any(a.name == "training_mode" for a in node.attribute)
    assert bnfold.fold(made).after.batch_normalizations == 0


def test_opsets_that_onnx_runtime_does_not_run_are_refused() -> None:
    with pytest.raises(bnfold.RequestError, match=r"opset 6; onnx\.version_converter"):
        bnfold.estimate_statistics(two_layers(6, training=True), some_batches())


@pytest.mark.parametrize("dims", [1, 3])
def test_other_numbers_of_axes(dims: int) -> None:
    check(two_layers(dims=dims), some_batches(shape=(2, *(6,) * dims)))


def test_half_precision() -> None:
    feeds = some_batches(dtype=np.float16)
    estimate = check(two_layers(elem_type=TensorProto.FLOAT16), feeds, exact=5e-3)
    assert estimate.model is not None
    kinds = {stored.data_type for stored in estimate.model.graph.initializer}
    assert kinds == {TensorProto.FLOAT16}


def test_a_function_is_inlined() -> None:
    """Each call is a normalization of its own, although the function is one."""
    rng = np.random.default_rng(0)
    body = [normalization("a", "b", "inner"), helper.make_node("Relu", ["b"], ["c"])]
    names = [f"inner.{name}" for name in ("gamma", "beta", "mean", "var")]
    function = helper.make_function(
        "local", "Block", ["a", *names], ["c"], body, [helper.make_opsetid("", 17)]
    )
    stored = parameters("one", 2, rng) | parameters("two", 2, rng)
    calls = [
        helper.make_node("Block", [x, *(n.replace("inner", s) for n in names)], [y], domain="local")
        for x, y, s in (("x", "h", "one"), ("h", "y", "two"))
    ]
    flat = [
        normalization("x", "h0", "one"), helper.make_node("Relu", ["h0"], ["h"]),
        normalization("h", "y0", "two"), helper.make_node("Relu", ["y0"], ["y"]),
    ]  # fmt: skip
    feeds = some_batches()
    expected = truth(model(flat, stored), feeds)
    estimate = bnfold.estimate_statistics(model(calls, stored, functions=[function]), feeds)
    for found, (mean, variance) in zip(estimate.normalizations, expected.values(), strict=True):
        np.testing.assert_allclose(found.mean, mean, atol=1e-5)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-5)


def test_new_modules_that_share_their_parameters_are_told_apart() -> None:
    """Exporters store equal numbers once, and those of all new modules are equal."""
    rng = np.random.default_rng(1)
    stored = {
        f"new.{n}": np.full(2, v)
        for n, v in (("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("var", 1.0))
    }
    stored["w"] = 3 * rng.normal(size=(2, 2, 1, 1))
    nodes = [
        normalization("x", "a", "new"),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        normalization("b", "y", "new"),
    ]
    nodes[0].name, nodes[2].name = "one", "two"
    estimate = check(model(nodes, stored), some_batches())
    assert [found.uses for found in estimate.normalizations] == [1, 1]


def test_only_those_in_training_mode() -> None:
    net = two_layers(training=True)
    for attribute in net.graph.node[1].attribute:
        if attribute.name == "training_mode":
            attribute.i = 0
    del net.graph.node[1].output[1:]
    estimate = bnfold.estimate_statistics(net, some_batches(), only_training=True)
    (found,) = estimate.normalizations
    assert found.name == "two"
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in net.graph.initializer}
    assert estimate.model is not None
    after = {t.name: onnx.numpy_helper.to_array(t) for t in estimate.model.graph.initializer}
    assert np.array_equal(stored["one.mean"], after["one.mean"])
    assert not np.array_equal(stored["two.mean"], after["two.mean"])


def test_one_inside_an_if_stays_and_is_told() -> None:
    rng = np.random.default_rng(2)
    stored = parameters("outer", 2, rng) | parameters("inner", 2, rng)
    branch = [
        helper.make_graph(
            [normalization("h", name, "inner")], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("yes", "no")
    ]  # fmt: skip
    nodes = [
        normalization("x", "h", "outer"),
        helper.make_node(
            "Constant", [], ["which"], value=helper.make_tensor("", TensorProto.BOOL, [], [True])
        ),
        helper.make_node("If", ["which"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    estimate = bnfold.estimate_statistics(model(nodes, stored), some_batches())
    assert [found.name for found in estimate.normalizations] == ["outer"]
    assert len(estimate.skipped) == 2
    assert "inside a subgraph" in estimate.skipped[0]
    assert estimate.model is not None
    onnx.checker.check_model(estimate.model)


def test_data_that_say_nothing_are_refused_by_name() -> None:
    net = two_layers()
    good = some_batches()
    broken = [*good, {"x": np.full((2, 2, 6, 6), np.nan, np.float32)}]
    with pytest.raises(bnfold.RequestError, match=r"batch 4: BatchNormalization 'one' meets NaN"):
        bnfold.estimate_statistics(net, broken)
    with pytest.raises(bnfold.RequestError, match="no batches"):
        bnfold.estimate_statistics(net, [])
    wide = [{"x": np.zeros((1, 3, 6, 6), np.float32)}]
    with pytest.raises(bnfold.RequestError, match=r"batch 1: 'x' is of shape \[1, 3, 6, 6\]"):
        bnfold.estimate_statistics(net, wide)
    stored = parameters("one", 2, np.random.default_rng(0)) | {"size": np.array([1, 2, 6, 6])}
    reshape = helper.make_node("Reshape", ["x", "size"], ["one image"])
    single = model([reshape, normalization("one image", "y", "one")], stored)
    with pytest.raises(bnfold.RequestError, match="batch 1: ONNX Runtime refuses it"):
        bnfold.estimate_statistics(single, [{"x": np.zeros((2, 2, 6, 6), np.float32)}])
    vector = model(
        [normalization("x", "y", "one")], parameters("one", 2, np.random.default_rng(0)), ("N", 2)
    )
    with pytest.raises(bnfold.RequestError, match="'one' meets one value per channel"):
        bnfold.estimate_statistics(vector, [{"x": np.zeros((1, 2), np.float32)}])


def test_what_is_doubtful_is_told() -> None:
    net = model(
        [normalization("x", "y", "one")], parameters("one", 2, np.random.default_rng(0)), ("N", 2)
    )
    feed = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    feed[:, 1] = 3
    estimate = bnfold.estimate_statistics(net, [{"x": feed}] * 2)
    few, constant = sorted(estimate.warnings, key=lambda text: "same value" in text)
    assert "8 values per channel and batch" in few
    assert "channel 1 had the same value everywhere" in constant


def test_used_outputs_of_training_mode_are_not_taken_away() -> None:
    net = two_layers(training=True)
    net.graph.output.append(helper.make_tensor_value_info("one.1", TensorProto.FLOAT, None))
    with pytest.raises(
        bnfold.RequestError, match="'one' is in training mode, and its extra outputs are in use"
    ):
        bnfold.estimate_statistics(net, some_batches())


def test_statistics_too_large_for_their_type() -> None:
    net = two_layers(elem_type=TensorProto.FLOAT16)
    feeds = [
        {
            "x": np.full((8, 2, 6, 6), 1000, np.float16)
            * np.linspace(-1, 1, 36).reshape(6, 6).astype(np.float16)
        }
    ]
    with pytest.raises(bnfold.RequestError, match=r"too large for the element type of 'one\.var'"):
        bnfold.estimate_statistics(net, feeds)
