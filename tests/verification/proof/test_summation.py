"""Each coefficient of a sum is compared, and no correct sum is blamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from blocks import BLOCKS, CHANNELS_LAST, ChannelsLast, Net, block_model
from onnx import TensorProto, numpy_helper

import bnfold
from bnfold.files.opened import from_proto
from bnfold.verification.proof.computing import weights_of
from bnfold.verification.proof.cone import cut
from bnfold.verification.proof.linear_walk import results
from bnfold.verification.proof.proportion import Rounding
from bnfold.verification.proof.scopes import graph_scope
from bnfold.verification.proof.summation import sums_differ

if TYPE_CHECKING:
    from numpy.typing import NDArray

_U = 2.0**-24


def differ(old: onnx.ModelProto, new: onnx.ModelProto, *, tight: bool = True) -> tuple[float, str]:
    output = old.graph.output[0].name
    cones = []
    for model in (old, new):
        cone = cut(graph_scope(from_proto(model), model.graph), output, lambda _: False, 200)
        assert cone is not None
        cones.append(cone)
    weights = tuple(map(weights_of, cones))
    rounding = Rounding((1.05 if tight else 4.0) * _U, 0.0, 2.0**-126)
    found = sums_differ(cones[0], cones[1], (weights[0], weights[1]), rounding, tight=tight)
    return found.fraction, found.note


def changed(model: onnx.ModelProto, name: str, place: int, factor: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = next(t for t in copy.graph.initializer if t.name == name)
    values: NDArray[np.float32] = numpy_helper.to_array(stored).copy()
    values.flat[place] *= np.float32(factor)
    stored.CopyFrom(numpy_helper.from_array(values, name))
    return copy


@pytest.mark.parametrize(
    ("kind", "name"), [(Net, n) for n in BLOCKS] + [(ChannelsLast, n) for n in CHANNELS_LAST]
)
def test_every_coefficient_of_a_block_is_seen(kind: type[Net], name: str) -> None:
    """One weight in its smallest digits, wherever it is, and each bias."""
    model = block_model(name, kind)
    folded = bnfold.fold(model).model
    assert differ(model, folded) == (0.0, "")
    assert differ(model, folded, tight=False) == (0.0, "")
    rng = np.random.default_rng(0)
    for stored in folded.graph.initializer:
        values = numpy_helper.to_array(stored)
        if not values.any():
            continue
        places = np.flatnonzero(np.abs(values.reshape(-1)) > 0)
        place = int(rng.choice(places))
        # In front of another operator a shift may be moved on; the probe sees biases by themselves.
        several = (BLOCKS[name][1] > 1 or name == "LeViT heads") and values.ndim < 2
        if not several:
            fraction, note = differ(model, changed(folded, stored.name, place, 1 + 2.0**-20))
            assert fraction > 1, stored.name
            assert "is not the sum of the original's" in note


def test_a_weight_that_was_nothing_must_stay_nothing() -> None:
    model = block_model("FastViT mixer")
    folded = bnfold.fold(model).model
    weight = next(t for t in folded.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    assert differ(model, folded) == (0.0, "")
    lost = changed(folded, weight.name, int(np.argmax(np.abs(values))), 0.0)
    assert differ(model, lost)[0] > 1
    assert differ(model, lost, tight=False)[0] > 1


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_kernels_are_added_up_in_their_places(elem_type: int) -> None:
    net = Net(elem_type=elem_type)
    x = net.feed()
    dense, row = net.conv(x, 3), net.conv(x, (1, 3), depthwise=True)
    net.output(net.op("Sub", net.op("Sub", dense, row), x))
    model = net.model()
    cone = cut(graph_scope(from_proto(model), model.graph), model.graph.output[0].name,
               lambda _: False, 200)  # fmt: skip
    assert cone is not None
    ((what, made),) = results(cone, weights_of(cone).values)
    (kernel,) = made.kernels.values()
    stored = [numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer]
    expected = stored[0].copy()
    channels = range(len(expected))
    expected[channels, channels, 1] -= stored[1][:, 0, 0]
    expected[channels, channels, 1, 1] -= 1
    assert what == ""
    assert kernel.begin == (1, 1)
    np.testing.assert_array_equal(kernel.values[0], expected)


def _fused(
    weight: NDArray[np.float32], norm: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A convolution and the normalization behind it, in float32, as authors' scripts do it."""
    gamma, beta, mean, var = norm
    scale = gamma / np.sqrt(var + np.float32(1e-5))
    return weight * scale[:, None, None, None], beta - mean * scale


def deployed(train: Net, blocks: int, fault: float = 0.0) -> onnx.ModelProto:
    """RepVGG blocks as its authors' script leaves them: one kernel each, under names of its own."""
    numbers = iter(numpy_helper.to_array(tensor) for tensor in train.initializers)
    net = Net(size=train.size)
    x = net.feed()
    net.nodes.clear()
    identity = np.zeros((6, 6, 3, 3), np.float32)
    identity[range(6), range(6), 1, 1] = 1
    for _ in range(blocks):
        wide, first = next(numbers), [next(numbers) for _ in range(4)]
        point, second = next(numbers), [next(numbers) for _ in range(4)]
        third = [next(numbers) for _ in range(4)]
        framed = np.pad(point, [(0, 0), (0, 0), (1, 1), (1, 1)])
        branches = ((wide, first), (framed, second), (identity, third))
        parts = [_fused(*branch) for branch in branches]
        kernel, bias = (np.sum(p, axis=0, dtype=np.float32) for p in zip(*parts, strict=True))
        kernel.flat[7] += np.float32(fault) * np.abs(kernel.flat[7])
        names = [net.number(v, "rbr_reparam") for v in (kernel, bias)]
        for stored, values in zip(net.initializers[-2:], (kernel, bias), strict=True):
            stored.CopyFrom(numpy_helper.from_array(np.asarray(values), stored.name))
        x = net.op("Relu", net.op("Conv", x, *names, pads=[1] * 4))
    net.nodes[-1].output[0] = train.outputs[0].name
    net.outputs = train.outputs
    return net.model()


@pytest.mark.slow
def test_an_author_s_own_merge_is_proved() -> None:
    blocks = 3
    train = Net(size=9)
    x = train.feed()
    for _ in range(blocks):
        x = BLOCKS["RepVGG"][0](train, x)
    train.output(x)
    good = bnfold.verify(train.model(), deployed(train, blocks))
    assert good.structure.proved, good.reason
    assert good.ok
    assert len(good.probes) == blocks
    bad = bnfold.verify(train.model(), deployed(train, blocks, 1e-4))
    assert not bad.structure.proved
    assert bad.verdict != "passed"
