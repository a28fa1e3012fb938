import os
import sys
import types
from typing import Any

import onnxruntime
import pytest
from handfold import fold, network

from bnfold.errors import RequestError
from bnfold.verification import Verdict, VerifyOptions, verify
from bnfold.verification.runs.providers import (
    CPU,
    CUDA,
    availability,
    caught_stderr,
    reason_in,
    resolve,
)
from bnfold.verification.verdict import ProviderState

MISSING = (
    "2026-01-01 00:00:00.000 [E:onnxruntime:Default, provider_bridge_ort.cc:2251 "
    "TryGetProviderInfo_CUDA] Failed to load library libonnxruntime_providers_cuda.so with "
    "error: libcublasLt.so.12: cannot open shared object file: No such file or directory"
)


def test_short_names_in_any_case_and_once() -> None:
    names = ("CUDA", "cpu", "CPUExecutionProvider", "openvino", "TensorRT")
    assert resolve(names) == [
        CUDA, CPU, "OpenVINOExecutionProvider", "TensorrtExecutionProvider"
    ]  # fmt: skip


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"abacus: no such.*cpu.*cuda"):
        resolve(("abacus",))


def test_the_cpu_is_there() -> None:
    assert availability(CPU).state is ProviderState.RAN


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="a build with CUDA")
def test_cuda_not_in_this_build() -> None:
    assert availability(CUDA).state is ProviderState.NOT_IN_BUILD
    model = network(0)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    cpu, cuda = found.providers
    assert (cpu.name, cpu.state) == ("cpu", ProviderState.RAN)
    assert (cuda.name, cuda.state) == ("cuda", ProviderState.NOT_IN_BUILD)
    assert found.verdict is Verdict.PASSED
    assert found.asked_provider_failed is None
    asked = verify(model, folded, regions=regions, options=VerifyOptions(("cuda", "cpu")))
    assert asked.verdict is Verdict.PASSED
    assert asked.asked_provider_failed == (
        "cuda: not in this build (install onnxruntime-gpu in place of onnxruntime)"
    )


class FakeSession:
    """A session of a GPU build on a machine without a device: it falls back in silence."""

    def __init__(self, *_: Any, **__: Any) -> None:
        os.write(2, MISSING.encode() + b"\n")

    def disable_fallback(self) -> None:
        pass

    def run(self, *_: Any) -> None:
        pass

    def get_providers(self) -> list[str]:
        return [CPU]


def test_a_silent_fallback_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.SimpleNamespace(
        get_available_providers=lambda: [CUDA, CPU],
        SessionOptions=types.SimpleNamespace,
        InferenceSession=FakeSession,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    found = availability(CUDA)
    assert found.state is ProviderState.NO_DEVICE
    assert "libcublasLt.so.12: cannot open shared object file" in found.reason


def test_the_telling_line_of_a_log_is_the_reason() -> None:
    log = f"*** EP Error ***\nsome chatter\n{MISSING}\nFalling back to CPU\n"
    assert reason_in(log).startswith("libcublasLt.so.12: cannot open")
    assert reason_in("", "CUDA failure 100: no CUDA-capable device") == (
        "CUDA failure 100: no CUDA-capable device"
    )
    assert reason_in("") == "ONNX Runtime gave no reason"


def test_stderr_is_caught_from_native_code_too() -> None:
    with caught_stderr() as text:
        os.write(2, b"native\n")
    assert text == ["native\n"]


def test_nodes_are_counted_where_they_ran() -> None:
    model = network(0)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions, options=VerifyOptions(("cpu",)))
    [report] = found.providers
    assert report.nodes == {CPU: len(model.graph.node)}
    assert report.linear_nodes == {CPU: 6}


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs the package onnxruntime-openvino",
)
@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
def test_openvino(kind: str) -> None:
    model = network(0, kind=kind)
    folded, regions = fold(model)
    options = VerifyOptions(("cpu", "openvino"))
    found = verify(model, folded, regions=regions, options=options)
    assert found.verdict is Verdict.PASSED, found
    assert found.asked_provider_failed is None
    assert [report.state for report in found.providers] == [ProviderState.RAN] * 2
    assert found.providers[1].nodes["OpenVINOExecutionProvider"] > 0


@pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(), reason="needs the package onnxruntime-gpu"
)
def test_the_gpu_build_runs_or_says_why_not() -> None:
    model = network(0)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    cuda = found.providers[1]
    assert found.verdict is Verdict.PASSED
    assert found.asked_provider_failed is None
    if cuda.state is ProviderState.RAN:
        assert cuda.linear_nodes.get(CUDA)
        return
    assert cuda.state is ProviderState.NO_DEVICE
    assert cuda.reason
    asked = verify(model, folded, regions=regions, options=VerifyOptions(("cuda",)))
    assert "no usable device" in str(asked.asked_provider_failed)
