"""Trying an execution provider in a process of its own: `trial.py PROVIDER`.

A driver or a library that does not fit can end the process that loads it: cuDNN aborts where a part
of it is missing. Then it is the provider that does not work here, and what the others compute must
not be lost with it.
"""

import json
import subprocess
import sys
import tempfile
import time
from typing import IO

from bnfold.processes.child import become_expendable, environment
from bnfold.processes.exits import ending
from bnfold.verification.runs.providers import CPU, Availability, availability, reason_in
from bnfold.verification.verdict import ProviderState

_COMMAND = ("-P", "-m", "bnfold.verification.runs.trial")
_OF_THE_LIMIT = 0.9
"""Who waits for an answer shall hear that the trial took too long before giving up."""
_AT_LEAST = 1.0
"""Seconds; a process that has ended long ago is waited for, too."""


class Trial:
    """Finds out whether a provider works here, while others are at work already."""

    def __init__(self, provider: str, timeout: float) -> None:
        """Begin to try `provider`, for `timeout` seconds at most."""
        import onnxruntime

        self._provider = provider
        self._process: subprocess.Popen[bytes] | None = None
        if provider == CPU or provider not in onnxruntime.get_available_providers():
            return
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `result`
        self._timeout = _OF_THE_LIMIT * timeout
        self._until = time.monotonic() + self._timeout
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *_COMMAND, provider], stdout=subprocess.PIPE, stderr=self._log,
            env=environment(),
        )  # fmt: skip

    def result(self) -> Availability:
        """Wait for what came of it."""
        if self._process is None:
            return availability(self._provider)
        try:
            answer, _ = self._process.communicate(
                timeout=max(_AT_LEAST, self._until - time.monotonic())
            )
            what = ending(self._process.returncode)
        except subprocess.TimeoutExpired:
            answer, what = b"", f"did not end within {self._timeout:g} s"
            self._process.kill()
            self._process.communicate()
        with self._log as log:
            log.seek(0)
            said = log.read().decode(errors="replace")
        if answer.endswith(b"\n"):
            state, reason = json.loads(answer.splitlines()[-1])
            return Availability(self._provider, ProviderState(state), reason)
        reason = f"the process that tried it {what}: {reason_in(said)}"
        return Availability(self._provider, ProviderState.NO_DEVICE, reason)


def main() -> None:
    """Try the provider that the command line names, and print what came of it."""
    out = become_expendable()
    found = availability(sys.argv[1])
    print(json.dumps([found.state, found.reason]), file=out, flush=True)


if __name__ == "__main__":
    main()
