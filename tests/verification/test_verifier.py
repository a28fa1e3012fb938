"""The whole verification, as a caller sees it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from handfold import Builder, Parameters, fold, network
from onnx import TensorProto, helper

from bnfold.errors import ModelError, RequestError
from bnfold.processes import worker
from bnfold.verification import Verdict, Verifier, VerifyOptions, verify
from bnfold.verification.verdict import ProviderState


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, bnfold.verification as v; v.VerifyOptions();"
        "print([m for m in ('onnx', 'numpy', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_parent_never_imports_onnxruntime() -> None:
    code = (
        "import sys; from handfold import network, fold; from bnfold.verification import verify;"
        "m = network(0); c, r = fold(m); assert verify(m, c, regions=r).ok;"
        "print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent, env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
def test_a_correct_fold_passes(kind: str, elem_type: int) -> None:
    model = network(3, kind=kind, elem_type=elem_type)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    assert found.verdict is Verdict.PASSED, found
    assert found.ok
    assert found.first_divergence is None
    assert verify(model, folded).verdict is Verdict.PASSED


def gamma_in_one_channel(name: str, p: Parameters) -> Parameters:
    gamma = p["gamma"].copy()
    gamma[int(np.argmax(np.abs(gamma)))] *= 1.001 if name == "c2_bn_node" else 1
    return {**p, "gamma": gamma}


def test_tampered_weights_fail_and_the_layer_is_named() -> None:
    model = network(3)
    folded, regions = fold(model, gamma_in_one_channel)
    for found in (verify(model, folded, regions=regions), verify(model, folded)):
        assert found.verdict is Verdict.FAILED
        assert "c2_bn" in str(found)
        assert "c2_bn" in str(found.first_divergence)


def test_a_rewired_consumer_fails() -> None:
    model = network(3, kind="residual")
    folded, regions = fold(model)
    next(n for n in folded.graph.node if n.output[0] == "r2").input[0] = "c1_bn"
    found = verify(model, folded, regions=regions)
    assert found.verdict is Verdict.FAILED
    assert "'r2'" in str(found.first_divergence)
    assert verify(model, folded).verdict is Verdict.FAILED


def test_a_fold_of_chaos_passes_by_its_proof() -> None:
    """With a hundred layers and no shortcuts the original's own outputs have no digits."""
    model = network(0, depth=100)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".gamma"):
            values = 6 * np.abs(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    assert found.verdict in {Verdict.PASSED, Verdict.PASSED_BY_PROOF}
    wrong, regions = fold(model, gamma_in_one_channel)
    assert verify(model, wrong, regions=regions).verdict is Verdict.FAILED


def test_a_fold_of_which_all_names_are_new_is_proved() -> None:
    model = network(1)
    folded, _ = fold(model)
    for node in folded.graph.node:
        node.input[:] = [n if n == "x" or "." in n else f"{n}'" for n in node.input]
        node.output[:] = [n if n == "y" else f"{n}'" for n in node.output]
    found = verify(model, folded)
    assert found.verdict is Verdict.PASSED
    assert found.structure.proved


def test_what_is_computed_in_another_way_passes_by_its_outputs() -> None:
    """No probe knows the magnitude of a sigmoid."""
    net = Builder(np.random.default_rng(0))
    net.node("Sigmoid", [net.conv("x", "c", 3, 4)], "y")
    model = net.model([1, 3, 8, 8], "y")
    net.nodes.pop()
    exponential = net.node("Exp", [net.node("Neg", ["c"], "n")], "e")
    one = net.weight("one", np.ones(()))
    net.node("Reciprocal", [net.node("Add", [exponential, one], "s")], "y")
    found = verify(model, net.model([1, 3, 8, 8], "y"))
    assert found.verdict is Verdict.PASSED_BY_OUTPUTS
    assert not found.structure.proved


def test_a_model_that_runs_nowhere_can_still_be_proved() -> None:
    """ONNX Runtime's CPU has no convolution in float64."""
    model = network(2, elem_type=TensorProto.DOUBLE)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    assert found.verdict is Verdict.PASSED_BY_PROOF
    assert found.providers[0].state is ProviderState.CANNOT_RUN
    assert found.asked_provider_failed is None
    asked = verify(model, folded, regions=regions, options=VerifyOptions(("CPU",)))
    assert "cpu" in str(asked.asked_provider_failed)


def test_a_candidate_that_cannot_run_fails() -> None:
    model = network(2)
    folded, regions = fold(model)
    folded.graph.node[3].op_type = "NoSuchOperator"
    found = verify(model, folded, regions=regions)
    assert found.verdict is Verdict.FAILED


def test_thorough_uses_float64_and_lists_the_layers() -> None:
    model = network(4)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions, options=VerifyOptions(thorough=True))
    assert found.verdict is Verdict.PASSED
    assert [layer.name for layer in found.layers] == [r.outputs[0] for r in regions]
    levels = {output.level for output in found.providers[0].outputs}
    assert "ORT_DISABLE_ALL against float64" in levels


def test_everything_is_json() -> None:
    model = network(3)
    folded, regions = fold(model, gamma_in_one_channel)
    text = json.dumps(verify(model, folded, regions=regions).to_dict(), allow_nan=False)
    assert json.loads(text)["verdict"] == "failed"


def test_one_original_many_candidates(tmp_path: Path) -> None:
    model = network(5)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with Verifier(path) as verifier:
        for fault in (None, gamma_in_one_channel, None):
            folded, regions = fold(model, fault)
            candidate = tmp_path / "candidate.onnx"
            candidate.write_bytes(folded.SerializeToString())
            assert verifier.verify(candidate, regions).ok is (fault is None)


def test_a_verifier_is_a_context_manager(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        Verifier(tmp_path / "a.onnx").verify(tmp_path / "b.onnx")


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(network(0).SerializeToString())
    bad.write_bytes(b"no model")
    for pair in ((good, bad), (bad, good)):
        with pytest.raises((ModelError, RequestError)):
            verify(*pair)


def crashing() -> onnx.ModelProto:
    """A batch normalization of opset 9 whose unused outputs are empty names."""
    net = Builder(np.random.default_rng(0))
    net.bn(net.conv("x", "c", 3, 4), "y", 4)
    net.nodes[-1].output.extend([""] * 4)
    return net.model([1, 3, 8, 8], "y", opset=9, ir=6)


def test_empty_outputs_do_not_take_onnxruntime_down() -> None:
    model = crashing()
    folded, regions = fold(model)
    options = VerifyOptions(thorough=True)
    found = verify(model, folded, regions=regions, options=options)
    assert found.verdict is Verdict.PASSED
    assert found.crash is None
    assert verify(model, model, options=options).verdict is Verdict.PASSED


CRASHES = """
import json, os, signal, sys
for line in sys.stdin:
    command = json.loads(line)["command"]
    doing = "running the original" if command == "original" else "running the candidate"
    print(json.dumps({"doing": doing}), flush=True)
    if command == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGSEGV)
    print(json.dumps({"feeds": 1}), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("model", ["original", "candidate"])
@pytest.mark.parametrize("right", [True, False])
def test_a_crash_is_told_with_its_signal_and_what_was_going_on(
    monkeypatch: pytest.MonkeyPatch, model: str, *, right: bool
) -> None:
    monkeypatch.setattr(worker, "_COMMAND", ("-c", CRASHES, model))
    net = network(0)
    folded, regions = fold(net)
    candidate = folded if right else network(1)
    found = verify(net, candidate, regions=regions if right else ())
    assert f"crashed (SIGSEGV) while running the {model}" in str(found.crash)
    assert found.structure.proved is right, "the proof does not need ONNX Runtime"
    if model == "candidate":
        assert found.verdict is Verdict.FAILED
        return
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the original could not be run: " in found.reason
    assert ("all else is identical" if right else "not proved") in found.reason


def endless() -> onnx.ModelProto:
    """A Loop of 2**60 turns."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", 1, [4])],
        [info("on", TensorProto.BOOL, []), info("w", 1, [4])],
    )
    turns = onnx.numpy_helper.from_array(np.array(2**60), "turns")
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        "g", [info("x", 1, [4])], [info("y", 1, [4])], [turns],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_a_hang_is_ended_by_the_time_limit() -> None:
    begin = time.monotonic()
    model = endless()
    found = verify(model, model, options=VerifyOptions(timeout=2.0))
    assert time.monotonic() - begin < 30
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "did not finish running the original on cpu" in str(found.crash)


def test_user_inputs_with_expected_outputs(tmp_path: Path) -> None:
    model = network(6)
    folded, regions = fold(model)
    x = np.random.default_rng(0).random((1, 3, 12, 12), np.float32)
    (tmp_path / "input_0.pb").write_bytes(onnx.numpy_helper.from_array(x, "x").SerializeToString())
    y = np.zeros((1, 10), np.float32)
    (tmp_path / "output_0.pb").write_bytes(onnx.numpy_helper.from_array(y, "y").SerializeToString())
    found = verify(model, folded, regions=regions, options=VerifyOptions(inputs=tmp_path))
    levels = {output.level: output for output in found.providers[0].outputs}
    expected = levels["ORT_DISABLE_ALL against the expected"]
    assert expected.noise > 1, "the original is that far from the expected output"
    assert "the original itself is that far from the output that was expected" in expected.note
    assert expected.noise_is == "what the original differs by"
    assert found.verdict is Verdict.PASSED_BY_PROOF
    np.savez(tmp_path / "bad.npz", z=x)
    with pytest.raises(RequestError, match="lacks the input 'x'"):
        verify(model, folded, options=VerifyOptions(inputs=tmp_path / "bad.npz"))


def test_sizes_that_the_graph_demands_are_found() -> None:
    """Flatten and Gemm fix the size of a picture that is declared open."""
    net = Builder(np.random.default_rng(0))
    net.bn(net.conv("x", "c", 3, 4), "b", 4)
    net.node("Flatten", ["b"], "f")
    net.node("Gemm", ["f", net.weight("W", np.ones((4 * 28 * 28, 2)))], "y")
    model = net.model(["N", 3, "H", "W"], "y")
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    assert found.verdict is Verdict.PASSED
    assert found.providers[0].outputs[0].size == 2
