"""Which nodes ONNX Runtime executes of a model, by its own profile: a count, without a clock."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: Final = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
FUSED: Final = (
    "Gelu",
    "BiasGelu",
    "FastGelu",
    "QuickGelu",
    "LayerNormalization",
    "SkipLayerNormalization",
    "Attention",
)
_UNKNOWN = 2


def feeds_for(model: onnx.ModelProto) -> dict[str, Any]:
    """Random inputs; 2 for what is unknown of their shapes."""
    random = np.random.default_rng(0)
    stored = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in stored:
            tensor = value.type.tensor_type
            shape = [dim.dim_value or _UNKNOWN for dim in tensor.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            feeds[value.name] = random.standard_normal(shape).astype(dtype)
    return feeds


def executed(model: onnx.ModelProto, level: str, feeds: Mapping[str, Any]) -> Counter[str]:
    """How often each operator is executed in one run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = (e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"))
    return Counter(event["args"]["op_name"] for event in ran)


def assert_no_more_is_executed(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """At no level more nodes after than before, and none less of what ONNX Runtime has fused."""
    feeds = feeds_for(before)
    for level in LEVELS:
        first, second = (executed(model, level, feeds) for model in (before, after))
        changed = {k: (first[k], second[k]) for k in first | second if first[k] != second[k]}
        assert second.total() <= first.total(), f"{level}: {changed}"
        lost = {name: changed[name] for name in FUSED if second[name] < first[name]}
        assert not lost, f"{level}: {lost}"
