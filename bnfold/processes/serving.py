"""A process of `bnfold.processes.pool`: it carries out the calls that its parent sends.

A message is a pickled function with its arguments; the answer is `("result", value)` or
`("raised", error)`, and `("step", text)` before it for whatever the function tells on the way.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from bnfold.processes.messages import read_message, write_message

_tell: Callable[[str], None] | None = None


def tell(text: str) -> None:
    """Tell the parent what is being done; in a process that serves none, do nothing."""
    if _tell is not None:
        _tell(text)


def serve(source: IO[bytes], answers: IO[bytes]) -> None:
    """Carry out calls, one after the other, until there are no more."""
    global _tell  # noqa: PLW0603 - a process is one

    def answer(kind: str, value: object) -> None:
        write_message(answers, pickle.dumps((kind, value)))

    _tell = lambda text: answer("step", text)  # noqa: E731 - one line is enough for one line
    while (message := read_message(source)) is not None:
        try:
            function, args, kwargs = pickle.loads(message)  # noqa: S301 - of our own parent
            result: Any = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it goes to who waits for the result
            answer("raised", error)
        else:
            answer("result", result)


def main() -> None:
    """Serve the parent."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bnfold.processes.child import become_child
    from bnfold.processes.fork import own_process

    own_process()
    out = become_child()
    answers = os.fdopen(out.fileno(), "wb", closefd=False)
    with suppress(KeyboardInterrupt, OSError):
        signal.signal(signal.SIGINT, _interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            serve(sys.stdin.buffer, answers)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt once; later signals must not interrupt the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Run as a script this is another module than the one that others take `tell` from.
    import_module("bnfold.processes.serving").main()
