"""Outputs of one region are probed together where that is no different for any of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from proving import proved

import bnfold
from bnfold.region import Region
from bnfold.verification.proof.computing import Computation
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.probe import probe
from bnfold.verification.verdict import ProbeVerdict

if TYPE_CHECKING:
    from bnfold.verification.dtypes import Array

LAYERS = 5
GROWTH, SIDE = 3, 6


def dense_block(scale: float = 1.0) -> onnx.ModelProto:
    """Return convolutions of their own inputs, each joined with all before it and then scaled."""
    dice = np.random.default_rng(0)
    nodes, stored = [], {"s": np.full((), scale, np.float32), "t": np.full((), 0.5, np.float32)}
    for layer in range(LAYERS):
        stored[f"W{layer}"] = dice.normal(size=(GROWTH, 2, 3, 3)).astype(np.float32)
        joined = [f"c{layer}"] if not layer else [f"j{layer - 1}", f"c{layer}"]
        nodes += [
            helper.make_node("Conv", [f"x{layer}", f"W{layer}"], [f"c{layer}"], pads=[1] * 4),
            helper.make_node("Concat", joined, [f"j{layer}"], axis=1),
            helper.make_node("Mul", [f"j{layer}", "s"], [f"m{layer}"]),
            helper.make_node("Add", [f"m{layer}", "t"], [f"y{layer}"]),
        ]
    given, made = (
        [
            helper.make_tensor_value_info(f"{stem}{layer}", TensorProto.FLOAT, shape)
            for layer in range(LAYERS)
        ]
        for stem, shape in (("x", [1, 2, SIDE, SIDE]), ("y", [1, None, SIDE, SIDE]))
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "block", given, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded(scale: float = 1.0) -> tuple[onnx.ModelProto, list[Region]]:
    folding = bnfold.fold(dense_block(scale))
    regions = list(folding.regions)
    assert [len(region.outputs) for region in regions] == [LAYERS]
    return folding.model, regions


@pytest.fixture
def probed_alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The outputs that are probed by themselves."""
    names: list[str] = []

    def noted(*arguments: object, **named: object) -> object:
        names.append(arguments[1].output)  # type: ignore[attr-defined]
        return probe(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("bnfold.verification.proof.prober.probe", noted)
    return names


def test_a_block_is_probed_at_once(tmp_path: Path, probed_alone: list[str]) -> None:
    new, regions = folded(1.5)
    proof = proved(tmp_path, dense_block(1.5), new, regions)
    assert proof.structure.proved
    assert [probe.verdict for probe in proof.probes] == [ProbeVerdict.HELD]
    assert not probed_alone


def test_each_node_is_computed_once_for_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, regions = folded(1.5)
    seen: list[tuple[object, int]] = []
    compute = Computation._compute

    def counted(self: "Computation[Array]", index: int, cone: Cone) -> None:
        seen.append((self, index))
        compute(self, index, cone)

    monkeypatch.setattr(Computation, "_compute", counted)
    assert proved(tmp_path, dense_block(1.5), new, regions).structure.proved
    assert seen
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_wrong_weight_breaks_the_outputs_behind_it(tmp_path: Path, layer: int) -> None:
    new, regions = folded(1.5)
    weights = {node.output[0]: node.input[1] for node in new.graph.node if node.op_type == "Conv"}
    read = list(weights.values())[layer]
    (tensor,) = (t for t in new.graph.initializer if t.name == read)
    array = numpy_helper.to_array(tensor).copy()
    array[1, 1, 2, 2] *= np.float32(1.00001)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    proof = proved(tmp_path, dense_block(1.5), new, regions)
    assert not proof.structure.proved
    assert proof.structure.unproved == tuple(f"y{n}" for n in range(layer, LAYERS))
    assert [probe.verdict for probe in proof.probes] == [ProbeVerdict.BROKEN]
    assert proof.differences
