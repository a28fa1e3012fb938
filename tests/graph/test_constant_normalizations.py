"""Normalizations of constants, as weight standardization is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from blocks import Net
from commandline import run
from evaluation import feeds_of
from invariants import check_invariants
from onnx.reference import ReferenceEvaluator

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_WIDE = 300
"""Channels; a product of as many has more elements than are computed one by one."""


def standardized(*, training: bool, size: int | None = None) -> onnx.ModelProto:
    """Two convolutions of standardized weights, as `F.batch_norm` of a weight is exported."""
    net = Net(size=size)
    x = net.feed()
    for _ in range(2):
        weight = net.number(net.rng.standard_normal((1, 6, 54)), "weight")
        gain = net.number(net.rng.uniform(0.5, 1.5, 6), "gain")
        zeros, ones = net.number(np.zeros(6)), net.number(np.ones(6))
        normal = net.op("BatchNormalization", weight, gain, zeros, zeros, ones, epsilon=1e-6)
        if training:
            net.nodes[-1].attribute.append(onnx.helper.make_attribute("training_mode", 1))
            net.nodes[-1].output.extend([net.name("mean"), net.name("var")])
        shape = net.number(np.asarray([6, 6, 3, 3]))
        kernel = net.op("Reshape", normal, shape)
        x = net.op("Relu", net.op("Conv", x, kernel, pads=[1] * 4))
    net.output(x)
    return net.model()


@pytest.mark.parametrize("training", [False, True])
def test_they_become_the_constant(*, training: bool) -> None:
    model = standardized(training=training)
    folding = bnfold.fold(model)
    assert folding.after.batch_normalizations == 0
    assert [node.op_type for node in folding.model.graph.node] == ["Conv", "Relu"] * 2
    assert not folding.kept
    check_invariants(model, folding)
    feeds = {n: a.astype(np.float32) for n, a in feeds_of(model, size=7).items()}
    old, new = (list(ReferenceEvaluator(m).run(None, feeds)) for m in (model, folding.model))
    np.testing.assert_array_equal(new[0], old[0])


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_the_command_line_proves_it(tmp_path: Path, *, training: bool) -> None:
    (tmp_path / "net.onnx").write_bytes(standardized(training=training, size=7).SerializeToString())
    done = run("net.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    assert "2 of 2 batch normalizations" in done.text


def test_large_weights_are_computed_too() -> None:
    net = Net()
    x = net.feed(_WIDE)
    weight = net.number(net.rng.standard_normal((1, _WIDE, _WIDE)), "weight")
    gain, ones = net.number(net.rng.uniform(0.5, 1.5, _WIDE)), net.number(np.ones(_WIDE))
    zeros = net.number(np.zeros(_WIDE))
    normal = net.op("BatchNormalization", weight, gain, zeros, zeros, ones)
    kernel = net.op("Reshape", normal, net.number(np.asarray([_WIDE, _WIDE, 1, 1])))
    net.output(net.op("Conv", x, kernel))
    assert [node.op_type for node in bnfold.fold(net.model()).model.graph.node] == ["Conv"]
