"""Running a model on ONNX Runtime; only the child process does so.

Both models always run with the same options. At most one session that takes much memory is alive
at a time: a session holds a copy of the weights, and two of them are what a large network has no
memory for. Threads do not spin when they have nothing to do: the proof goes on beside them.
"""

import contextlib
import math
import mmap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import first_sentence
from bnfold.frozen import frozen
from bnfold.paths import is_text
from bnfold.verification.comparison import Outputs, flatten
from bnfold.verification.operators.table import row_named
from bnfold.verification.runs.inputs import Feed
from bnfold.verification.runs.profiling import executed_nodes, start_profiling
from bnfold.verification.runs.providers import CPU, PROVIDER_OPTIONS, assignment

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DISABLE_ALL = "ORT_DISABLE_ALL"
ENABLE_ALL = "ORT_ENABLE_ALL"

KEPT = {DISABLE_ALL: 1 << 24, ENABLE_ALL: 1 << 26}
"""Bytes that a session, and the model that it runs, may take to be kept, by level.

Of small models all are kept, of larger ones those that are timed first: two, as many as are alive
while both models are timed.
"""


class CannotRunError(Exception):
    """ONNX Runtime refuses the model or its inputs; the text is its reason.

    Attributes:
        loading: The model itself is refused, whatever the inputs.
    """

    def __init__(self, reason: str, *, loading: bool = False) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.loading = loading


@frozen
class Run:
    """What a model gave.

    Attributes:
        outputs: For each feed, the arrays by output name.
        providers: The session's providers after the run.
        nodes: Number of nodes by the provider they ran on, where ONNX Runtime tells.
        linear_nodes: The same for the linear operators only.
        executed: Number of nodes that were executed for the first feed, by operator.
        seconds: How long it took to load the model, and to run it for the first time.
        also_run: The first of the further feeds that the model took; None if it took none.
        session: The session, to run it again, where it was profiled and takes little memory.
    """

    outputs: list[Outputs]
    providers: tuple[str, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    linear_nodes: dict[str, int] = field(default_factory=dict)
    executed: dict[str, int] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)
    also_run: Feed | None = None
    session: "InferenceSession | None" = None


@frozen
class Target:
    """What to run: a model file, or its bytes where outputs were added.

    Attributes:
        model: Path to the model, or a serialized model.
        folder: Where the external data of a serialized model lies.
    """

    model: Path | bytes
    folder: Path | None = None


def _to_load(target: Target) -> tuple[str | bytes, Path | None]:
    """Return what ONNX Runtime has to load; it takes paths only if they are text."""
    if isinstance(target.model, bytes):
        return target.model, target.folder
    if is_text(target.model):
        return str(target.model), target.folder
    folder = target.model.parent
    return target.model.read_bytes(), folder if is_text(folder) else None


def _session(
    target: Target,
    level: str,
    provider: str,
    overrides: Mapping[str, Any],
    profile: Path | None = None,
) -> tuple["InferenceSession", list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        start_profiling(options, profile)
    model, folder = _to_load(target)
    if folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
    # ONNX Runtime does not own these: they must live as long as the session.
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in overrides.values()]
    for name, value in zip(overrides, values, strict=True):
        options.add_initializer(name, value)
    providers: list[Any] = [(provider, PROVIDER_OPTIONS.get(provider, {}))]
    if provider != CPU:
        providers.append(CPU)
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    session.disable_fallback()
    return session, values


def load(target: Target, level: str, provider: str) -> "InferenceSession":
    """Load a model to run it more than once; the CPU takes what the provider leaves.

    Raises:
        CannotRunError: ONNX Runtime refuses the model.
    """
    try:
        return _session(target, level, provider, {})[0]
    except Exception as error:  # noqa: BLE001 - whatever a provider's library throws
        raise CannotRunError(first_sentence(error), loading=True) from None


def run(
    target: Target,
    level: str,
    provider: str,
    feeds: Sequence[Feed],
    *,
    names: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    profile: Path | None = None,
    more: Sequence[Feed] = (),
) -> Run:
    """Load a model, run it on every feed and let go of it, unless it was profiled and is small.

    Args:
        target: The model.
        level: `DISABLE_ALL` or `ENABLE_ALL`.
        provider: ONNX Runtime's name of the provider; the CPU takes what it leaves.
        feeds: Input arrays by name, once per run.
        names: The outputs to fetch; None means all.
        overrides: Initializers to replace, by name.
        profile: A folder for ONNX Runtime's notes of what it executes; None without.
        more: Feeds of which the first that the model takes is run as well.

    Raises:
        CannotRunError: ONNX Runtime refuses the model or its inputs.
    """
    import onnxruntime  # noqa: F401 - which is no part of what a session takes

    started, resident = time.perf_counter(), _resident()
    try:
        session, values = _session(target, level, provider, overrides or {}, profile)
    except Exception as error:  # noqa: BLE001 - whatever a provider's library throws
        raise CannotRunError(first_sentence(error), loading=True) from None
    loaded = time.perf_counter()
    executed: dict[str, int] = {}
    try:
        outputs = [_run_once(session, feed, names) for feed in feeds[:1]]
        ran = time.perf_counter()
        executed = {} if profile is None else executed_nodes(session)
        outputs += [_run_once(session, feed, names) for feed in feeds[1:]]
    except Exception as error:  # noqa: BLE001 - likewise
        raise CannotRunError(first_sentence(error)) from None
    also_run = None
    for feed in more:
        with contextlib.suppress(Exception):
            outputs.append(_run_once(session, feed, names))
            also_run = feed
            break
    described = _described(session, outputs, executed, (loaded - started, ran - loaded))
    is_plain = profile is not None and not overrides
    kept = session if is_plain and _resident() - resident <= KEPT[level] else None
    result = replace(described, also_run=also_run, session=kept)
    del session, kept, values  # in this order: the session reads the values
    return result


def _resident() -> float:
    """Return how many bytes of memory this process has; no number where nobody tells."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return math.nan
    return float(pages) * mmap.PAGESIZE


def _require_native(feed: Feed) -> None:
    """Raise `CannotRunError` for types that numpy lacks, which ONNX Runtime tells by a number."""
    for name, value in feed.items():
        for array in value if isinstance(value, list) else [value]:
            if array.dtype.kind == "V":
                told = f"input {name!r} is {array.dtype}"
                raise CannotRunError(f"{told}, which ONNX Runtime cannot be fed from Python")


def _run_once(session: "InferenceSession", feed: Feed, names: Sequence[str] | None) -> Outputs:
    wanted = [output.name for output in session.get_outputs()] if names is None else list(names)
    _require_native(feed)
    values = session.run(wanted, dict(feed))
    flat: dict[str, Any] = {}
    for name, value in zip(wanted, values, strict=True):
        flat.update(flatten(name, value))
    return flat


def _described(
    session: "InferenceSession",
    outputs: Sequence[Outputs],
    executed: dict[str, int],
    seconds: tuple[float, float],
) -> Run:
    nodes: Counter[str] = Counter()
    linear: Counter[str] = Counter()
    for provider, assigned in assignment(session):
        nodes[provider] += len(assigned)
        linear[provider] += sum(row_named(op_type).is_linear for _, op_type in assigned)
    providers = tuple(session.get_providers())
    return Run(list(outputs), providers, dict(nodes), dict(linear), executed, seconds)
