"""The original as a proof reads it: its file is opened once, and its shapes are inferred once."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

import onnx

from bnfold.files.opened import OpenedModel, naming, open_model
from bnfold.onnx_model.inference import Inference


class Original:
    """An open model, of which more is found out while something else is done. A context manager.

    Attributes:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self.path = path
        self._exits = ExitStack()
        self._inference: Inference | None = None
        self._inferred: onnx.ModelProto | None = None

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            RequestError: There is no such file, or it may not be read.
            ModelError: It is not an ONNX model.
        """
        self.model: OpenedModel = self._exits.enter_context(open_model(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, and end what is still being found out."""
        self._exits.close()

    def look_ahead(self) -> None:
        """Begin to check its nodes and to infer its shapes, if nobody has yet."""
        if self._inference is None:
            self._inference = self._exits.enter_context(Inference(self.model.proto, check=True))

    def inferred(self) -> onnx.ModelProto:
        """Return a copy with the shapes that can be inferred.

        Raises:
            ModelError: A node is not valid.
        """
        self.look_ahead()
        if self._inferred is None:
            assert self._inference is not None  # noqa: S101 - it has just begun
            with naming(self.path):
                self._inferred = self._inference.result()
        return self._inferred
