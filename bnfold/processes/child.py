"""Processes that may be lost: what ONNX Runtime or a driver can take down is run in one."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_PARENT = "BNFOLD_PARENT"


def environment() -> dict[str, str]:
    """Return the environment for a process that calls `become_expendable`."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, _PARENT: str(os.getpid())}


def become_expendable() -> IO[str]:
    """Let this process be the first to go; return where it answers.

    It ends with its parent, and when memory runs out. What native code prints to file descriptor 1
    goes to stderr: the answers have a descriptor of their own.
    """
    _die_with_parent()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _die_with_parent() -> None:
    """Let the system end this process when the parent is gone, however busy it is (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.environ.get(_PARENT, "") not in {"", str(os.getppid())}:  # it was gone before
            os._exit(1)
