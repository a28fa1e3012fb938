"""What a caller may choose about a verification."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class VerifyOptions:
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
        timeout: Seconds that one step (loading a model and running it once) may take.
    """

    providers: tuple[str, ...] = ()
    inputs: str | Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    thorough: bool = False
    seed: int = 0
    timeout: float = DEFAULT_TIMEOUT

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON-able data."""
        return {
            "providers": list(self.providers),
            "inputs": None if self.inputs is None else str(Path(self.inputs).absolute()),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "thorough": self.thorough,
            "seed": self.seed,
            "timeout": self.timeout,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "VerifyOptions":
        """Return the options that `to_dict` gave."""
        return cls(
            providers=tuple(data["providers"]),
            inputs=None if data["inputs"] is None else Path(data["inputs"]),
            shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
            thorough=data["thorough"],
            seed=data["seed"],
            timeout=data["timeout"],
        )
