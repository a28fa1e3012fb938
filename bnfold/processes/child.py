"""The child's side of a process that may crash; `bnfold.processes.worker` is the parent's.

It runs ONNX Runtime and the drivers of devices, which can end their process. The parent's
commands come by stdin:

    {"command": "compare", "path": "net.onnx"}

and the answer to each goes to what was stdout; `{"doing": ...}` announces a step and is no answer,
`{"refused": ...}` says that the request cannot be carried out.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bnfold.errors import BnfoldError

_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_PARENT = "BNFOLD_PARENT"


Announce = Callable[[str], None]
"""Says which step begins, in words that complete "it crashed while"."""


def serve(make: Callable[[Announce], object]) -> None:
    """Carry out the parent's commands, one after the other, until there are no more.

    Each is a method of what `make` makes, which takes the rest of the message as keywords and
    returns the answer, a JSON object.
    """
    out = become_child()
    tempfile.gettempdir()  # Python tries it out with a file, which is gone before the work begins

    def tell(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    service = make(lambda step: tell({"doing": step}))
    for line in sys.stdin:
        message = json.loads(line)
        try:
            tell(getattr(service, message.pop("command"))(**message))
        except BnfoldError as error:
            tell({"refused": str(error)})


def environment() -> dict[str, str]:
    """Return the environment for a process that calls `become_child`."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, _PARENT: str(os.getpid())}


def become_child() -> IO[str]:
    """Prepare this process for work that may crash; return the stream for its answers.

    From now on it ends when its parent does, and the system ends it first when memory runs out.
    What native code prints to file descriptor 1 goes to stderr: the answers have a descriptor of
    their own.
    """
    end_with(int(os.environ.get(_PARENT) or os.getppid()))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def end_with(parent: int) -> None:
    """Let the system end this process when its parent is gone, however busy it is (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before
            os._exit(1)
