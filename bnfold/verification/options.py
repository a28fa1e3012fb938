"""What a caller may choose about a verification."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnfold.errors import RequestError
from bnfold.plain import Plain, fields_of

_LONGEST = 10_000_000
"""Seconds, a third of a year; systems do not wait much longer at once."""
_LARGEST_SEED = 2**63
_SECONDS = 60.0
_BYTES_PER_SECOND = 1 << 22
_NODES_PER_SECOND = 1 << 7


@dataclass(frozen=True, slots=True)
class VerifyOptions(Plain):
    """How to verify.

    Attributes:
        providers: Execution providers by short name (`cpu`, `cuda`, `openvino`, ...), in any
            case. Empty means the CPU, and CUDA where it really works.
        inputs: The user's own inputs: .npz, .npy, a folder with `input_*.pb` or with
            `test_data_set_*` folders, or Polygraphy's JSON. None means generated ones.
        shapes: Shapes of generated inputs, by input name; the rest is solved.
        thorough: Measure rounding noise with a float64 reference and one-ulp jitter, and tell
            the error of every layer.
        seed: Seed of everything that is random.
        timeout: Seconds that one step (loading a model and running it once) may take; None for a
            minute, and more for a large model (`enough_time`).
        time: Seconds for which both models are run in turn to time them; None for as long as it
            takes to tell, about half a second at most; 0 not to.
        allow_narrowed: Accept a candidate that is right for fewer shapes than the original takes.
        match_outputs_by_name: Accept inputs and outputs in another order.
    """

    providers: tuple[str, ...] = ()
    inputs: str | Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    thorough: bool = False
    seed: int = 0
    timeout: float | None = None
    time: float | None = None
    allow_narrowed: bool = False
    match_outputs_by_name: bool = False

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises:
            RequestError: A value cannot be used.
        """
        if isinstance(self.providers, str):
            raise RequestError(f"providers is a tuple of names, not {self.providers!r}")
        if not 0 <= self.seed < _LARGEST_SEED:
            raise RequestError(f"the seed is {self.seed}; it must be 0 or more, and below 2^63")
        if self.timeout is not None and not 0 < self.timeout <= _LONGEST:
            raise RequestError(
                f"the time limit is {self.timeout:g} s; it must be above 0, and at most {_LONGEST}"
            )
        if self.time is not None and not 0 <= self.time <= _LONGEST:
            raise RequestError(
                f"the time for timing is {self.time:g} s; it must be 0 or more, "
                f"and at most {_LONGEST}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON-able data; the inputs can be found from any folder."""
        inputs = None if self.inputs is None else str(Path(self.inputs).absolute())
        return {**fields_of(self), "inputs": inputs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "VerifyOptions":
        """Return the options that `to_dict` gave."""
        shapes = {name: tuple(shape) for name, shape in data["shapes"].items()}
        return cls(**{**data, "providers": tuple(data["providers"]), "shapes": shapes})


def enough_time(size: int, nodes: int) -> float:
    """Return how many seconds a step may take, unless somebody says otherwise.

    Networks that run at all run much faster; a few kilobytes that keep a runtime busy do not.

    Args:
        size: How many bytes the model has, with its data.
        nodes: How many nodes it has.
    """
    return round(_SECONDS + size / _BYTES_PER_SECOND + nodes / _NODES_PER_SECOND)
