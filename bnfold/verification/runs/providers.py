"""Which execution providers exist here, and which of them really work.

Asking ONNX Runtime for CUDA proves nothing. `get_available_providers()` lists it wherever the
GPU build is installed; on a machine without a device the session falls back to the CPU in
silence. So a provider counts as usable only when a one-node model runs on it and it is still in
`session.get_providers()` afterwards. The reason why it is not (a missing library, the driver's
error) is known only to ONNX Runtime's log, which is caught from the process's stderr.

Only the child process imports this module together with ONNX Runtime.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.verification.verdict import ProviderState

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # TF32 keeps 10 bits of the mantissa: it would hide an error of 0.1 % in a weight. The
    # heuristic search always takes the same algorithm; the default one takes what was fastest.
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}

_PACKAGES = {
    CUDA: "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
}
"""Packages that have a provider; they take the place of `onnxruntime`, and install its folder."""


@frozen
class Availability:
    """A provider, and whether it works here.

    Attributes:
        name: ONNX Runtime's name.
        state: NOT_IN_BUILD, NO_DEVICE, or RAN where the one-node model ran on it.
        reason: Why not, in ONNX Runtime's or the driver's words, or what to install.
    """

    name: str
    state: ProviderState
    reason: str = ""


def short_name(provider: str) -> str:
    """Return the short name: `cuda` for `CUDAExecutionProvider`."""
    return provider.removesuffix("ExecutionProvider").lower()


def resolve(names: tuple[str, ...]) -> list[str]:
    """Return ONNX Runtime's names of the providers that were asked for.

    Raises:
        RequestError: No version of ONNX Runtime knows such a provider.
    """
    import onnxruntime

    known = {*onnxruntime.get_all_providers(), *onnxruntime.get_available_providers()}
    by_short_name = {short_name(provider): provider for provider in known}
    resolved = []
    for name in names:
        provider = by_short_name.get(short_name(name.strip()).removesuffix("executionprovider"))
        if provider is None:
            raise RequestError(
                f"{name}: no such execution provider; ONNX Runtime knows "
                f"{', '.join(sorted(by_short_name))}"
            )
        if provider not in resolved:
            resolved.append(provider)
    return resolved


def availability(provider: str) -> Availability:
    """Find out whether `provider` works here by running one node on it."""
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        package = _PACKAGES.get(provider)
        wants = f"install {package} in place of onnxruntime" if package else ""
        return Availability(provider, ProviderState.NOT_IN_BUILD, wants)
    if provider == CPU:
        return Availability(provider, ProviderState.RAN)
    kept: list[str] = []
    error = ""
    with caught_stderr() as log:
        try:
            kept = _providers_after_one_node(provider)
        except Exception as raised:  # noqa: BLE001  # providers raise whatever their driver throws
            error = str(raised)
    if provider in kept and not error:
        return Availability(provider, ProviderState.RAN)
    return Availability(provider, ProviderState.NO_DEVICE, reason_in(log[0], error))


def _providers_after_one_node(provider: str) -> list[str]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _one_node().SerializeToString(),
        options,
        providers=[(provider, PROVIDER_OPTIONS.get(provider, {})), CPU],
    )
    session.disable_fallback()
    session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    return list(session.get_providers())


def _one_node() -> onnx.ModelProto:
    make = onnx.helper
    return make.make_model(
        make.make_graph(
            [make.make_node("Conv", ["x", "x"], ["y"], name="conv")],
            "one_node",
            [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 4, 4])],
            [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 1])],
        ),
        opset_imports=[make.make_opsetid("", 13)],
        ir_version=7,
    )


@contextlib.contextmanager
def caught_stderr() -> Iterator[list[str]]:
    """Catch what native code and Python write to stderr; the list holds the text at the end."""
    text: list[str] = []
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield text
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            text.append(sink.read().decode(errors="replace"))


_TELLING = re.compile(
    r"cannot open shared object file|\.so[.\d]*:|\.dll|CUDA (?:failure|error)|no CUDA-capable"
    r"|driver|[Dd]evice|not found|[Ff]ailed to",
)
_PREFIX = re.compile(r"^.*?\[[EWF]:[^\]]*\]\s*|\x1b\[[\d;]*m")


def reason_in(log: str, error: str = "") -> str:
    """Return the line of a log that tells best why a provider does not work."""
    lines = [
        _PREFIX.sub("", line).split(" with error: ")[-1].strip()
        for line in [*log.splitlines(), *error.splitlines()]
    ]
    lines = [line for line in lines if line and not line.startswith("*")]
    telling = [line for line in lines if _TELLING.search(line)]
    missing = [line for line in telling if "cannot open shared object" in line]
    return next(iter([*missing, *telling, *lines]), "ONNX Runtime gave no reason")


def assignment(session: "InferenceSession") -> list[tuple[str, list[tuple[str, str]]]]:
    """Return where the nodes of a session run: provider, then `(name, op_type)` of its nodes."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # noqa: BLE001  # the information is optional; some providers do not record it
        return []
    return [(part.ep_name, [(n.name, n.op_type) for n in part.get_nodes()]) for part in parts]
