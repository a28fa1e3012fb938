"""Holding Ctrl-C back at moments when it would do harm."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Block SIGINT and SIGTERM while the context lasts; they arrive when it ends.

    Some libraries crash when their import is interrupted, and an interrupt while a thread or a
    process is being started leaves Python's own locks locked. A thread or process that is started
    meanwhile blocks both signals, too.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def interrupts_not_inherited() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C; it is held back in this one.

    Only in the main thread, as signals are set there.
    """
    with interrupts_held_back():
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
