"""Models as ONNX Runtime gets them: with more outputs, out of caches, without crashes."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from handfold import network
from onnx import TensorProto, helper, numpy_helper

from bnfold.verification import Verdict, verify
from bnfold.verification.runs.loadable import runnable, with_outputs
from bnfold.verification.runs.providers import CPU
from bnfold.verification.runs.sessions import DISABLE_ALL, run

FEED = {"x": np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)}


def test_the_bulk_stays_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network(0, channels=64).SerializeToString())
    target = with_outputs(path, ["c1_bn"])
    assert isinstance(target.model, bytes)
    assert len(target.model) * 10 < path.stat().st_size
    found = run(target, DISABLE_ALL, CPU, [FEED], names=["c1_bn", "y"]).outputs[0]
    assert found["c1_bn"].shape == (1, 64, 12, 12)
    [plain] = run(runnable(path), DISABLE_ALL, CPU, [FEED]).outputs
    assert np.array_equal(found["y"], plain["y"])
    assert runnable(path).model == path


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("external", [False, True])
def test_a_cache_of_links(tmp_path: Path, *, external: bool) -> None:
    """A Hugging Face cache: snapshots of links to blobs, the data beside the link."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "revision"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    model = network(0, channels=64)
    onnx.save(  # noqa: TID251 - what others write is what is to be read
        model, blobs / "m.onnx", save_as_external_data=external, location="m.data",
        size_threshold=100,
    )  # fmt: skip
    for number, blob in enumerate(list(blobs.iterdir())):
        hashed = blobs / f"{number:064x}"
        blob.rename(hashed)
        (snapshot / blob.name).symlink_to(Path("..", "..", "blobs", hashed.name))
    path = snapshot / "m.onnx"
    [found] = run(with_outputs(path, ["c1_bn"]), DISABLE_ALL, CPU, [FEED], names=["y"]).outputs
    [plain] = run(runnable(path), DISABLE_ALL, CPU, [FEED]).outputs
    assert np.array_equal(found["y"], plain["y"])
    assert verify(path, path).verdict is Verdict.PASSED


def test_large_constants_of_nodes_are_brought_in(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(values)),
        helper.make_node("Mul", ["x", "c"], ["m"]),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [64, 64]) for n in "xy")
    graph = helper.make_graph(nodes, "constants", [x], [y])
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    feed = {"x": np.ones((64, 64), np.float32)}
    found = run(with_outputs(path, ["m"]), DISABLE_ALL, CPU, [feed], names=["m"]).outputs[0]
    assert np.array_equal(found["m"], values)
