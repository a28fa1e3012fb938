"""Providers are tried where nothing is lost if they crash."""

import os
from pathlib import Path
from typing import Final

import onnxruntime
import pytest
from handfold import fold, network

from bnfold.processes import worker
from bnfold.verification import Verdict, VerifyOptions, verify
from bnfold.verification.runs.providers import CPU, CUDA
from bnfold.verification.runs.trial import Trial
from bnfold.verification.verdict import ProviderState

BUILD_WITH_CUDA: Final = """
import onnxruntime
available = onnxruntime.get_available_providers()
onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider", *available]
"""
"""What a build for GPUs says of itself."""

CRASHES: Final = """
import os, signal, sys
print("Could not load library libcudnn_ops.so.9", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGABRT)
"""
HANGS: Final = "import time; time.sleep(60)"
WORKS: Final = 'print(\'{"state": "in this build but no usable device", "reason": "no driver"}\')'
STUMBLES: Final = "raise ImportError('no such thing')"


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that lists CUDA."""
    listed = [CUDA, CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)


def test_what_needs_no_trial_gets_none() -> None:
    assert Trial(CPU, 60).result().state is ProviderState.RAN
    absent = "XnnpackExecutionProvider"
    assert Trial(absent, 60).result().state is ProviderState.NOT_IN_BUILD


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (CRASHES, "crashed (SIGABRT) while starting: Could not load library libcudnn_ops.so.9"),
        (HANGS, "did not finish starting within 0.9 s (--timeout): ONNX Runtime gave no reason"),
        (STUMBLES, "ended with exit code 1 while starting: "),
        (WORKS, "no driver"),
    ],
)
def test_what_comes_of_a_trial(monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    monkeypatch.setattr(worker, "_COMMAND", ("-c", script))
    found = Trial(CUDA, 1.0 if script is HANGS else 60.0).result()
    assert (found.name, found.state) == (CUDA, ProviderState.NO_DEVICE)
    assert reason in found.reason


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="a build with CUDA")
def test_a_real_trial_process_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUILD_WITH_CUDA)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    found = Trial(CUDA, 60).result()
    assert found.state is ProviderState.NO_DEVICE
    assert "the process that tried it" not in found.reason


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="a build with CUDA")
def test_a_provider_that_crashes_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = f"""{BUILD_WITH_CUDA}
from bnfold.processes import child, worker
from bnfold.verification.runs.child import Service
worker._COMMAND = ("-c", {CRASHES!r})
child.serve(Service)
"""
    monkeypatch.setattr(worker, "_COMMAND", ("-c", crashing))
    model = network(0)
    folded, regions = fold(model)
    found = verify(model, folded, regions=regions)
    cpu, cuda = found.providers
    assert (found.verdict, found.crash) == (Verdict.PASSED, None)
    assert (cpu.name, cpu.state) == ("cpu", ProviderState.RAN)
    assert (cuda.name, cuda.state) == ("cuda", ProviderState.NO_DEVICE)
    assert "crashed (SIGABRT) while starting: Could not load library" in cuda.reason
    assert found.asked_provider_failed is None
    asked = verify(model, folded, regions=regions, options=VerifyOptions(("cuda", "cpu")))
    assert asked.verdict is Verdict.PASSED
    assert "crashed (SIGABRT)" in str(asked.asked_provider_failed)
