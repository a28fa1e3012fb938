"""The child process that runs both models; its commands are the methods of `Service`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfold.processes.child import Announce, serve
from bnfold.verification.arrays import read
from bnfold.verification.options import VerifyOptions
from bnfold.verification.runs.bench import Bench


class Service:
    """Runs an original, and compares others with it."""

    def __init__(self, announce: Announce) -> None:
        """Take no model yet, and get ready for one."""
        import onnxruntime  # noqa: F401 - it takes a while, in which the first command is made

        self._announce = announce
        self._bench: Bench | None = None

    @property
    def _started(self) -> Bench:
        if self._bench is None:
            raise RuntimeError("there is no original to compare with")
        return self._bench

    def original(
        self, path: str, options: dict[str, Any], folder: str, arrays: list[dict[str, Any]] | None
    ) -> dict[str, Any]:
        """Load and run the original; ONNX Runtime may write into the folder.

        Arrays that the user gave lie in files of these names.
        """
        chosen = VerifyOptions.from_dict(options)
        if arrays is not None:
            chosen = replace(chosen, inputs=read(arrays))
        self._bench = Bench(Path(path), chosen, self._announce, Path(folder))
        return self._bench.start()

    def candidate(self, path: str) -> dict[str, Any]:
        """Run another model and compare."""
        return self._started.compare(Path(path))

    def times(self, path: str) -> dict[str, Any]:
        """Time both models in turn."""
        return self._started.times(Path(path))

    def shapes(self, names: list[str]) -> dict[str, Any]:
        """Return the shapes of the original's tensors."""
        return self._started.shapes(names)

    def crossed(self, path: str, points: list[tuple[bool, str, str | float]]) -> dict[str, Any]:
        """Tell of tensors of either model whether they are on both sides of something."""
        return self._started.crossed(Path(path), points)

    def layers(
        self, path: str, names: list[str], provider: str, *, everything: bool
    ) -> dict[str, Any]:
        """Compare tensors inside the models."""
        return self._started.layers(Path(path), names, provider, everything=everything)


if __name__ == "__main__":
    serve(Service)
