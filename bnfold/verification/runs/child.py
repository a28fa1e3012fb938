"""The child process: takes commands from its stdin, answers on what was its stdout.

    {"command": "original", "path": ..., "options": {...}}     load and run the original
    {"command": "candidate", "path": ...}                      run another model and compare
    {"command": "shapes", "names": [...]}                      shapes of the original's tensors
    {"command": "layers", "path": ..., ...}                    compare tensors inside the models

Answers are JSON objects; `{"doing": ...}` announces a step and is no answer.
"""

import json
import sys
from pathlib import Path
from typing import IO, Any

from bnfold.errors import BnfoldError
from bnfold.processes.child import become_expendable
from bnfold.verification.options import VerifyOptions
from bnfold.verification.runs.bench import Bench


class Service:
    """Carries out commands, one after the other."""

    def __init__(self, out: IO[str]) -> None:
        """Answer on `out`."""
        self._out = out
        self._bench: Bench | None = None

    def tell(self, message: dict[str, Any]) -> None:
        """Write one message."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command and return its answer."""
        if message["command"] == "original":
            self._bench = Bench(
                Path(message["path"]),
                VerifyOptions.from_dict(message["options"]),
                lambda step: self.tell({"doing": step}),
            )
            return self._bench.start()
        if self._bench is None:
            return {"error": "there is no original to compare with"}
        if message["command"] == "shapes":
            return self._bench.shapes(message["names"])
        if message["command"] == "layers":
            return self._bench.layers(
                Path(message["path"]),
                message["names"],
                message["provider"],
                everything=message["all"],
            )
        return self._bench.compare(Path(message["path"]))

    def serve(self, commands: IO[str]) -> None:
        """Carry out commands until there are no more."""
        for line in commands:
            try:
                answer = self.carry_out(json.loads(line))
            except BnfoldError as error:
                answer = {"refused": str(error)}
            self.tell(answer)


def main() -> None:
    """Serve the parent process."""
    Service(become_expendable()).serve(sys.stdin)


if __name__ == "__main__":
    main()
