"""Correct folds whose inner tensors keep a name and have other numbers, told from the files alone.

Behind each model stands an operator that nobody can run or look into, so that no outputs help.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rowcases
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved

import bnfold
from bnfold.verification.proof.prove import Proof

C = 8


class Builder:
    """A model of x, node by node; every tensor has the name that it is given."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}

    def weight(self, name: str, *shape: int) -> None:
        self.stored[name] = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

    def add(self, op_type: str, reads: str, makes: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, reads.split(), makes.split(), **attributes))

    def normalization(self, reads: str, makes: str, channels: int = C) -> None:
        """Add one of which some channels turn their sign."""
        names = [f"{makes}_{name}" for name in ("gamma", "beta", "mean", "variance")]
        drawn = [
            self.rng.uniform(0.5, 1.5, channels) * self.rng.choice([-1, 1, 1], channels),
            self.rng.standard_normal(channels), self.rng.standard_normal(channels),
            self.rng.uniform(0.3, 2, channels),
        ]  # fmt: skip
        self.stored |= dict(zip(names, drawn, strict=True))
        self.add("BatchNormalization", " ".join([reads, *names]), makes)

    def model(self, shape: list[int | str]) -> onnx.ModelProto:
        self.add("Detect", "y", "z", domain="my.ops")
        arrays = {
            name: array.astype(np.float32) if array.dtype == np.float64 else array
            for name, array in self.stored.items()
        }
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 19), helper.make_opsetid("my.ops", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


PICTURE: list[int | str] = ["N", C, "H", "W"]


def product_transposed(b: Builder) -> onnx.ModelProto:
    b.weight("w", 16, C)
    b.add("MatMul", "x w", "a")
    b.add("Transpose", "a", "t", perm=[0, 2, 1])
    b.normalization("t", "y")
    return b.model(["N", 10, 16])


def split(b: Builder) -> onnx.ModelProto:
    b.weight("w", 12, C, 3, 3)
    b.weight("b", 12)
    b.weight("w1", 4, 4, 1, 1)
    b.weight("w2", 4, C, 1, 1)
    b.stored["lengths"] = np.array([4, 8])
    b.add("Conv", "x w b", "c", pads=[1] * 4)
    b.add("Split", "c lengths", "p q", axis=1)
    for part, channels in (("p", 4), ("q", 8)):
        b.normalization(part, f"{part}n", channels)
        b.add("Relu", f"{part}n", f"{part}r")
    b.add("Conv", "pr w1", "one")
    b.add("Conv", "qr w2", "other")
    b.add("Add", "one other", "y")
    return b.model(PICTURE)


def merged_and_pooled(b: Builder) -> onnx.ModelProto:
    b.weight("w", C, C, 3, 3)
    b.weight("b", C)
    b.weight("w1", C, C, 1, 1)
    b.add("Conv", "x w b", "c", pads=[1] * 4)
    b.add("Conv", "x w1", "d")
    b.add("Add", "c d", "s")
    b.add("MaxPool", "s", "m", kernel_shape=[2, 2], strides=[2, 2])
    b.normalization("m", "y")
    b.stored["y_gamma"] = np.abs(b.stored["y_gamma"])
    return b.model(PICTURE)


def flattened(b: Builder) -> onnx.ModelProto:
    b.weight("w", C * 16, 10)
    b.weight("b", 10)
    b.add("Relu", "x", "a")
    b.normalization("a", "n")
    b.add("Flatten", "n", "f")
    b.add("Gemm", "f w b", "y")
    return b.model(["N", C, 4, 4])


def averaged(b: Builder) -> onnx.ModelProto:
    b.weight("w", C, C, 3, 3)
    b.weight("b", C)
    b.stored["k"] = b.rng.uniform(0.5, 2, (1, C, 1, 1))
    b.add("Conv", "x w b", "c", pads=[1] * 4)
    b.add("AveragePool", "c", "p", kernel_shape=[2, 2], strides=[2, 2])
    b.normalization("p", "n")
    b.add("Mul", "n k", "y")
    return b.model(PICTURE)


def between(activation: str, **attributes: float) -> Callable[[Builder], onnx.ModelProto]:
    def build(b: Builder) -> onnx.ModelProto:
        b.weight("w0", 256, C, 1, 1)
        b.stored["k"] = b.rng.uniform(0.5, 2, (1, 256, 1, 1))
        b.weight("w", C, 256, 3, 3)
        b.weight("b", C)
        b.add("Conv", "x w0", "c")
        b.add(activation, "c", "a", **attributes)
        b.add("Mul", "a k", "m")
        b.add("Conv", "m w b", "y", pads=[1] * 4)
        return b.model(PICTURE)

    return build


RIGHT: dict[str, Callable[[Builder], onnx.ModelProto]] = {
    "product, transposed": product_transposed,
    "split": split,
    "merged and pooled": merged_and_pooled,
    "flattened": flattened,
    "averaged": averaged,
    "between Relu and Conv": between("Relu"),
    "between LeakyRelu and Conv": between("LeakyRelu", alpha=0.1),
}


def accepted(proof: Proof) -> bool:
    return proof.structure.proved and not (proof.broken or proof.structure.narrowed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", RIGHT)
def test_what_is_taken_back_exactly_is_no_fault(tmp_path: Path, how: str, seed: int) -> None:
    model = RIGHT[how](Builder(seed))
    folding = bnfold.fold(model)
    assert folding.folds
    proof = proved(tmp_path, model, folding.model)
    assert accepted(proof), proof.structure.reason or proof.broken


@pytest.mark.parametrize(
    ("build", "op_type", "seed"),
    [
        (rowcases.carried_up, "Concat", 21),  # channels come first
        (rowcases.carried_down, "Split", 32),  # and a probe leaves one part empty
        (rowcases.linear_output, "Einsum", 32),  # an axis of channels that probes would cut down
    ],
)
def test_channels_may_lie_anywhere(
    tmp_path: Path, build: Callable[[str, int, int], rowcases.Case], op_type: str, seed: int
) -> None:
    model = build(op_type, seed, TensorProto.FLOAT).model
    proof = proved(tmp_path, model, bnfold.fold(model).model)
    assert accepted(proof), proof.structure.reason or proof.broken


@pytest.mark.parametrize("how", RIGHT)
def test_what_is_not_taken_back_is_a_fault(tmp_path: Path, how: str) -> None:
    """One channel of the first weight has another factor, and nothing else knows of it."""
    model = RIGHT[how](Builder(0))
    wrong = clone(bnfold.fold(model).model)
    stored = next(t for t in wrong.graph.initializer if t.name in {"w", "w0"})
    weight = numpy_helper.to_array(stored).copy()
    weight[1] *= 1.001
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))
    assert not accepted(proved(tmp_path, model, wrong))


def test_a_wrong_tensor_is_not_acquitted_by_what_does_not_show_it(tmp_path: Path) -> None:
    """It is the original's times factors, and one of its two readers takes nothing back."""
    b = Builder(0)
    b.weight("w", C, C, 1, 1)
    b.weight("w1", C, C, 1, 1)
    b.add("Conv", "x w", "c")
    b.add("Conv", "c w1", "d")
    b.add("Detect", "c", "e", domain="my.ops")
    b.add("Add", "d e", "y")
    model = b.model(PICTURE)
    wrong = clone(model)
    for name, factor in (("w", 2.0), ("w1", 0.5)):
        stored = next(t for t in wrong.graph.initializer if t.name == name)
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) * factor, name))
    assert not accepted(proved(tmp_path, model, wrong))
    for made in wrong.graph.node:
        for names in (made.input, made.output):
            names[:] = ["other" if name == "c" else name for name in names]
    assert not accepted(proved(tmp_path, model, wrong))
