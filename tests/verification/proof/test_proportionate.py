"""A proof takes work in proportion to the number of nodes, counted in calls and not in time."""

import sys
from pathlib import Path
from types import FrameType

import numpy as np
import onnx
import pytest
from commandline import write
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.verification.proof.prove import prove

SHAPE = [1, 2, 4, 4]


def chain(layers: int) -> onnx.ModelProto:
    """Return Conv → BatchNormalization → Relu, again and again."""
    dice = np.random.default_rng(0)
    nodes, stored = [], {}
    for layer in range(layers):
        names = [f"{name}{layer}" for name in ("gamma", "beta", "mean", "variance")]
        stored[f"W{layer}"] = dice.normal(size=(2, 2, 1, 1))
        stored |= {name: dice.uniform(0.5, 1.5, 2) for name in names}
        read = f"r{layer - 1}" if layer else "x"
        nodes += [
            helper.make_node("Conv", [read, f"W{layer}"], [f"c{layer}"]),
            helper.make_node("BatchNormalization", [f"c{layer}", *names], [f"n{layer}"]),
            helper.make_node("Relu", [f"n{layer}"], [f"r{layer}"]),
        ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(f"r{layers - 1}", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def calls_to_prove(folder: Path, layers: int, *, named: bool) -> int:
    """Return the number of calls of Python functions that a proof takes."""
    model = chain(layers)
    folding = bnfold.fold(model)
    paths = [write(model, folder / "old.onnx"), write(folding.model, folder / "new.onnx")]
    count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        del frame, argument
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        proof = prove(paths[0], paths[1], folding.regions if named else (), seed=0)
    finally:
        sys.setprofile(None)
    assert proof.structure.proved
    assert len(proof.probes) == layers
    return count


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_four_times_the_layers_take_four_times_the_calls(tmp_path: Path, *, named: bool) -> None:
    few, many = (calls_to_prove(tmp_path, layers, named=named) for layers in (30, 120))
    assert many < 4.1 * few
