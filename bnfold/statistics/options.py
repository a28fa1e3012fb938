"""What a caller may choose about the statistics of normalizations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold.errors import RequestError
from bnfold.plain import fields_of


@dataclass(frozen=True, slots=True)
class StatisticsOptions:
    """Where the statistics of normalizations come from before they are folded.

    Attributes:
        data: What to estimate them from: .npz or .npy with a batch axis, Polygraphy's JSON, or a
            folder of such, of `input_*.pb`, or of `test_data_set_*`. None: the stored ones, with
            which normalizations in training mode are switched to inference mode.
        only_training: Estimate those in training mode only.
        batch_size: How many samples a batch has where an array has more; None for as many as the
            model fixes, or else for a whole array.
    """

    data: str | Path | None = None
    only_training: bool = False
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises:
            RequestError: A value cannot be used.
        """
        if self.data is None and (self.only_training or self.batch_size is not None):
            raise RequestError("a batch size, or which normalizations, says nothing without data")
        if self.batch_size is not None and self.batch_size < 1:
            raise RequestError(f"the batch size is {self.batch_size}; it must be 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON-able data; the data can be found from any folder."""
        data = None if self.data is None else str(Path(self.data).absolute())
        return {**fields_of(self), "data": data}
