"""Running the training network on ONNX Runtime, in a process of its own.

    {"command": "load", "model": ..., "folder": ..., "provider": ...}
    {"command": "run", "feed": a .npz file, "outputs": the .npz file to write}

Arrays go through files, since both sides have them there; messages are JSON, one a line.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import BnfoldError, first_line
from bnfold.processes.child import become_expendable
from bnfold.verification.runs.providers import resolve
from bnfold.verification.runs.sessions import ENABLE_ALL, Target, load
from bnfold.verification.runs.worker import Worker

MODULE = "bnfold.statistics.runner"
Arrays = Mapping[str, NDArray[Any]]


class Runner:
    """The parent's side: a loaded network that takes one feed after the other."""

    def __init__(self, target: Target, provider: str, folder: Path, timeout: float) -> None:
        """Start the process and load the network.

        Args:
            target: The network.
            provider: The short name of the execution provider; the CPU takes what it leaves.
            folder: Where files may lie meanwhile.
            timeout: Seconds for loading, and for each run.

        Raises:
            RequestError: ONNX Runtime refuses the network.
        """
        self._feed, self._outputs = folder / "feed.npz", folder / "outputs.npz"
        model = folder / "training.onnx"
        model.write_bytes(target.model if isinstance(target.model, bytes) else b"")
        self._worker = Worker(timeout, MODULE)
        data = None if target.folder is None else str(target.folder)
        self._worker.send("load", model=str(model), folder=data, provider=provider)
        self._worker.answer()

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        """Return the network's outputs for one feed.

        Raises:
            RequestError: ONNX Runtime refuses the feed.
        """
        np.savez(self._feed, **feed)  # type: ignore[arg-type]
        self._worker.send("run", feed=str(self._feed), outputs=str(self._outputs))
        self._worker.answer()
        with np.load(self._outputs, allow_pickle=False) as outputs:
            return dict(outputs)

    def close(self) -> None:
        """End the process."""
        self._worker.close()


class _Service:
    """The child's side."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._session: Any = None
        self._names: list[str] = []

    def tell(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def carry_out(self, message: dict[str, Any]) -> None:
        self.tell({"doing": f"{message['command']}ing the training network"})
        if message["command"] == "load":
            folder = None if message["folder"] is None else Path(message["folder"])
            target = Target(Path(message["model"]).read_bytes(), folder)
            self._session = load(target, ENABLE_ALL, resolve((message["provider"],))[0])
            self._names = [output.name for output in self._session.get_outputs()]
            return
        with np.load(message["feed"], allow_pickle=False) as feed:
            values = self._session.run(self._names, dict(feed))
        np.savez(message["outputs"], **dict(zip(self._names, values, strict=True)))

    def serve(self, commands: IO[str]) -> None:
        for line in commands:
            try:
                self.carry_out(json.loads(line))
                self.tell({"done": True})
            except BnfoldError as error:
                self.tell({"refused": str(error)})
            except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime throws
                self.tell({"refused": f"ONNX Runtime refuses it: {first_line(error)}"})


def main() -> None:
    """Serve the parent process."""
    _Service(become_expendable()).serve(sys.stdin)


if __name__ == "__main__":
    main()
