"""Trying an execution provider in a process of its own.

A driver or a library that does not fit can end the process that loads it: cuDNN aborts where a part
of it is missing. Then it is the provider that does not work here, and what the others compute must
not be lost with it.
"""

import time
from typing import Any

from bnfold.processes.child import Announce, serve
from bnfold.processes.worker import ChildDiedError, Worker
from bnfold.verification.runs.providers import CPU, Availability, availability, reason_in
from bnfold.verification.verdict import ProviderState

_MODULE = "bnfold.verification.runs.trial"
_OF_THE_LIMIT = 0.9
"""A trial may take this part of the time limit, so that it ends before its parent gives up."""
_AT_LEAST = 1.0
"""Seconds that a trial has at least, for the answer of a process that has ended already."""


class Trial:
    """Finds out whether a provider works here, while others are at work already."""

    def __init__(self, provider: str, timeout: float) -> None:
        """Begin to try `provider`, for `timeout` seconds at most."""
        import onnxruntime

        self._provider = provider
        self._worker: Worker | None = None
        if provider == CPU or provider not in onnxruntime.get_available_providers():
            return
        self._until = time.monotonic() + _OF_THE_LIMIT * timeout
        self._worker = Worker(_MODULE, _OF_THE_LIMIT * timeout)
        self._worker.send("try_provider", name=provider)

    def result(self) -> Availability:
        """Wait for the outcome."""
        if self._worker is None:
            return availability(self._provider)
        try:
            found = self._worker.answer(max(_AT_LEAST, self._until - time.monotonic()))
        except ChildDiedError as died:
            reason = f"the process that tried it {died.how}: {reason_in(died.said)}"
            return Availability(self._provider, ProviderState.NO_DEVICE, reason)
        finally:
            self._worker.close()
        return Availability(self._provider, ProviderState(found["state"]), found["reason"])


class Service:
    """The child's side."""

    def __init__(self, announce: Announce) -> None:
        """Take no provider yet."""
        self._announce = announce

    def try_provider(self, name: str) -> dict[str, Any]:
        """Return what came of a provider."""
        self._announce("trying it")
        found = availability(name)
        return {"state": found.state, "reason": found.reason}


if __name__ == "__main__":
    serve(Service)
