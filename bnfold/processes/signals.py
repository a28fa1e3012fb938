"""Ctrl-C at moments when it would do harm."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the context lasts.

    Some libraries crash when their import is interrupted, and Python's own locks are left as they
    are when starting a thread or a process is. What is started meanwhile holds both back as well.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
