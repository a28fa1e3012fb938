"""Arithmetic that changes nothing is dropped; the folds beside it are proved all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from blocks import Net
from commandline import run

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_DEEP = 5
"""Convolutions in a row: more than a probe looks through."""


def test_folds_behind_and_beside_what_is_dropped(tmp_path: Path) -> None:
    net = Net(size=9)
    one, zero = net.number(np.ones(1)), net.number(np.zeros(1))
    x = net.feed()
    for _ in range(_DEEP):
        x = net.op("Relu", net.bn(net.conv(net.op("Mul", x, one))))
    net.output(net.op("Mul", x, one))  # a graph output; what is before it is read elsewhere, too
    for _ in range(_DEEP):
        x = net.op("Relu", net.bn(net.conv(x)))
    net.output(net.op("Relu", net.bn(net.conv(x))))
    point = net.conv(net.op("Mul", net.op("Sigmoid", x), one), 1)  # no sum of maps of one tensor
    net.output(net.op("Relu", net.add(net.conv(x), net.op("Add", point, zero))))
    (tmp_path / "net.onnx").write_bytes(net.model().SerializeToString())
    done = run("net.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    assert "11 of 11 batch normalizations" in done.text
    assert "8 dropped" in done.text


def test_ones_of_any_shape_are_dropped_that_enlarge_nothing() -> None:
    shapes = {(): True, (1, 1, 1, 1): True, (6, 1, 1): True, (6, 9, 9): True, (9, 6, 1, 1): False}
    for shape, gone in shapes.items():
        net = Net(size=9)
        x = net.op("Sigmoid", net.feed())
        net.output(net.op("Tanh", net.op("Mul", x, net.number(np.ones(shape)))))
        types = [node.op_type for node in bnfold.fold(net.model()).model.graph.node]
        assert ("Mul" not in types) is gone, shape


def test_a_one_of_the_type_of_what_it_multiplies_is_dropped(tmp_path: Path) -> None:
    # PyTorch's exporter writes Elu so, unoptimized: both ones take their type from before the Elu.
    net = Net(size=9)
    x = net.bn(net.conv(net.feed()))
    ones = [net.op("CastLike", net.number(np.ones(())), x) for _ in range(2)]
    elu = net.op("Mul", net.op("Elu", net.op("Mul", x, ones[0])), ones[1])
    net.output(net.op("Sigmoid", net.conv(net.bn(net.op("Cos", elu)), 1)))
    (tmp_path / "net.onnx").write_bytes(net.model().SerializeToString())
    done = run("net.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    folded = onnx.load(tmp_path / "net.folded.onnx")  # noqa: TID251 - the test's own file
    types = [node.op_type for node in folded.graph.node]
    assert types == ["Conv", "Elu", "Cos", "Conv", "Sigmoid"]


def test_an_add_goes_at_once_when_what_is_folded_into_it_is_its_opposite(tmp_path: Path) -> None:
    net = Net(size=9)
    weight, bias = net.number(np.eye(9) + 0.5), net.number(np.arange(9.0))
    added = net.op("Add", net.op("MatMul", net.feed(), weight), bias)
    net.output(net.op("Relu", net.op("Sub", added, bias)))
    (tmp_path / "net.onnx").write_bytes(net.model().SerializeToString())
    done = run("net.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    folded = onnx.load(tmp_path / "net.folded.onnx")  # noqa: TID251 - the test's own file
    assert [node.op_type for node in folded.graph.node] == ["MatMul", "Relu"]
