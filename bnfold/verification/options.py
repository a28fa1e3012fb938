"""What a caller may choose about a verification."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bnfold.errors import RequestError
from bnfold.plain import Plain, fields_of

if TYPE_CHECKING:
    from bnfold.verification.arrays import Feeds

_LONGEST = 10_000_000
"""Seconds, a third of a year; systems do not wait much longer at once."""
_LARGEST_SEED = 2**63
_SECONDS = 60.0
_BYTES_PER_SECOND = 1 << 22
_NODES_PER_SECOND = 1 << 7

_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "providers": (Iterable, "a tuple of names"),
    "shapes": (Mapping, "a mapping of shapes by the inputs' names"),
    "seed": (Integral, "an integer"),
    "timeout": (Real | None, "a number of seconds, or None"),
    "time": (Real | None, "a number of seconds, or None"),
}
"""The types that options must have, as classes and in words."""


@dataclass(frozen=True, slots=True, eq=False)
class VerifyOptions(Plain):
    """How to verify.

    Attributes:
        providers: Execution providers by short name (`cpu`, `cuda`, `openvino`, ...), in any
            case. Empty means the CPU, and CUDA where it really works.
        inputs: The user's own inputs: .npz, .npy, a folder with `input_*.pb` or with
            `test_data_set_*` folders, or Polygraphy's JSON. Or arrays: a mapping of arrays by the
            inputs' names, or a list of such, one for each run; a sequence is a list of arrays.
            None means generated ones. ONNX Runtime takes no bfloat16 from Python.
        shapes: Shapes of generated inputs, by input name; the rest is solved.
        thorough: Measure rounding noise with a float64 reference and one-ulp jitter, and tell
            the error of every layer.
        seed: Seed of everything that is random.
        timeout: Seconds that one step (loading a model and running it once) may take; None for a
            minute, and more for a large model (`enough_time`).
        time: Seconds for which both models are run in turn to time them; None for as long as it
            takes to tell, about a third of a second at most; 0 not to.
        allow_narrowed: Accept a candidate that is right for fewer shapes than the original takes.
        match_outputs_by_name: Accept inputs and outputs in another order.
    """

    providers: tuple[str, ...] = ()
    inputs: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
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
            TypeError: A value is of another type; the inputs are neither a path nor arrays by name.
        """
        if not isinstance(self.inputs, str | PathLike | None):
            from bnfold.verification.arrays import as_feeds

            object.__setattr__(self, "inputs", as_feeds(self.inputs))
        if isinstance(self.providers, str):
            raise RequestError(f"providers is a tuple of names, not {self.providers!r}")
        self._require_types()
        if self.inputs is not None and self.shapes:
            raise RequestError("shapes are those of generated inputs; with inputs= there are none")
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

    def _require_types(self) -> None:
        """Raise `TypeError` for what would only be noticed by the process that runs the models."""
        for name, (kind, wanted) in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} takes {wanted}, not {value!r}")
        for provider in self.providers:
            if not isinstance(provider, str):
                raise TypeError(f"providers takes a tuple of names, not one with {provider!r}")
        for name, shape in self.shapes.items():
            if not _is_shape(shape):
                raise TypeError(f"shapes[{name!r}] takes a tuple of sizes, not {shape!r}")

    def __eq__(self, other: object) -> bool:
        """Return whether they say the same; arrays are the same if all their numbers are."""
        if not isinstance(other, VerifyOptions):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        """Return a number that is the same for options that say the same."""
        return hash((self.seed, self.thorough, self.timeout, self.time))

    @property
    def arrays(self) -> "Feeds | None":
        """The inputs, if they are arrays."""
        return self.inputs if isinstance(self.inputs, tuple) else None

    @property
    def inputs_path(self) -> Path | None:
        """Where the inputs are, if they are in files."""
        return Path(self.inputs) if isinstance(self.inputs, str | PathLike) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON-able data.

        Paths are found from any folder; of arrays it holds the dtypes, shapes and digests.
        """
        rest = fields_of(replace(self, inputs=None))
        return {**rest, "inputs": self._inputs_told()}

    def _inputs_told(self) -> str | list[dict[str, Any]] | None:
        if self.arrays is not None:
            from bnfold.verification.arrays import described

            return described(self.arrays)
        return None if self.inputs_path is None else str(self.inputs_path.absolute())

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> "VerifyOptions":
        """Return the options that `to_dict` gave.

        Args:
            data: The options, as plain data.
            inputs: The inputs, where they were arrays, of which plain data hold digests only.

        Raises:
            RequestError: They are needed and not given, or they are others.
        """
        shapes = {name: tuple(shape) for name, shape in data["shapes"].items()}
        providers = tuple(data["providers"])
        made = cls(**{**data, "providers": providers, "shapes": shapes, "inputs": None})
        told = data["inputs"]
        if not isinstance(told, list):
            return replace(made, inputs=told)
        if inputs is None:
            raise RequestError("the inputs were arrays, which are not told: give them as inputs=")
        made = replace(made, inputs=inputs)
        if made.to_dict()["inputs"] != told:
            raise RequestError("these inputs are others than those that were given then")
        return made


def _is_shape(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(size, Integral) for size in value)


def enough_time(size: int, nodes: int) -> float:
    """Return how many seconds a step may take, unless somebody says otherwise.

    Networks that run at all run much faster; a few kilobytes that keep a runtime busy do not.
    """
    return round(_SECONDS + size / _BYTES_PER_SECOND + nodes / _NODES_PER_SECOND)
