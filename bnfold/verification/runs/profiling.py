"""Which kernels ran: from the profile that ONNX Runtime writes of a run."""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

_LARGEST: Final = 1 << 26
"""Bytes of a profile that is read; a loop of very many rounds writes more."""
_KERNEL: Final = "_kernel_time"


def start_profiling(options: "SessionOptions", folder: Path) -> None:
    """Let a session that is made with these options write what it does into a folder."""
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")


def executed_nodes(session: "InferenceSession") -> dict[str, int]:
    """End the profile of a session; return how many nodes it has run, by operator.

    Nothing where the profile cannot be read.
    """
    with contextlib.suppress(Exception):  # it is a help, and what was run stands without
        path = Path(session.end_profiling())
        try:
            if path.stat().st_size <= _LARGEST:
                return _kernels(path.read_text(encoding="utf-8", errors="replace"))
        finally:
            path.unlink(missing_ok=True)
    return {}


def _kernels(profile: str) -> dict[str, int]:
    events = json.loads(profile)
    ran = (
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)
    )
    return dict(Counter(ran).most_common())
