"""Running the training network on ONNX Runtime, in a process of its own.

Arrays go through files, since both sides have them there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import BnfoldError, RequestError, first_sentence
from bnfold.processes.child import Announce, serve
from bnfold.processes.worker import Worker
from bnfold.verification.runs.providers import resolve
from bnfold.verification.runs.sessions import ENABLE_ALL, Target, load

DEFAULT_TIMEOUT = 900.0
"""Seconds for loading the network, and for each batch, which may be large."""

_MODULE = "bnfold.statistics.runner"
Arrays = Mapping[str, NDArray[Any]]


class Runner:
    """The parent's side: a loaded network that takes one feed after the other."""

    def __init__(self, target: Target, provider: str, folder: Path, timeout: float) -> None:
        """Start the process and load the network, with its files in a folder.

        Raises:
            RequestError: ONNX Runtime refuses the network.
        """
        self._feed, self._outputs = folder / "feed.npz", folder / "outputs.npz"
        model = folder / "training.onnx"
        model.write_bytes(target.model if isinstance(target.model, bytes) else b"")
        self._worker = Worker(_MODULE, timeout)
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


class Service:
    """The child's side."""

    def __init__(self, announce: Announce) -> None:
        """Take no network yet."""
        self._announce = announce
        self._session: Any = None
        self._names: list[str] = []

    def load(self, model: str, folder: str | None, provider: str) -> dict[str, Any]:
        """Load the network."""
        self._announce("loading the training network")
        target = Target(Path(model).read_bytes(), None if folder is None else Path(folder))
        with _refusing():
            self._session = load(target, ENABLE_ALL, resolve((provider,))[0])
        self._names = [output.name for output in self._session.get_outputs()]
        return {}

    def run(self, feed: str, outputs: str) -> dict[str, Any]:
        """Run it on a .npz file, and write another."""
        self._announce("running the training network")
        with _refusing(), np.load(feed, allow_pickle=False) as arrays:
            values = self._session.run(self._names, dict(arrays))
        np.savez(outputs, **dict(zip(self._names, values, strict=True)))
        return {}


@contextmanager
def _refusing() -> Iterator[None]:
    """Say in one line what ONNX Runtime refuses."""
    try:
        yield
    except BnfoldError:
        raise
    except Exception as error:  # whatever ONNX Runtime throws
        raise RequestError(f"ONNX Runtime refuses it: {first_sentence(error)}") from error


if __name__ == "__main__":
    serve(Service)
