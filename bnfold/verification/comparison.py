"""An output of both models, compared: the value that reports are made of."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import numpy as np

from bnfold.frozen import sealed
from bnfold.plain import Plain, fields_of, to_plain
from bnfold.verification.dtypes import Array

Outputs = Mapping[str, Array]

_SECOND_RUN = re.compile(r"(.+) (for .+ \[[\d, ]*\])", re.DOTALL)
"""The name of an output of a second run, at other sizes, and which input it was run for."""
_EXACT = 100
"""A ratio from here on is written with all its digits."""


class OutputVerdict(StrEnum):
    """What one output says."""

    AGREES = "agrees"
    DIFFERS = "differs"
    INCONCLUSIVE = "inconclusive"


@sealed
class OutputComparison(Plain):
    """One output of both models, compared; see `compare` for the definitions.

    Attributes:
        name: The output's name; an element of a sequence is `name[i]`. Of a second run, at other
            sizes, it is followed by an input and its shape there: `name for x [2, 3]`.
        level: ONNX Runtime's optimization level that both models ran at.
        verdict: The conclusion.
        difference: The largest |candidate − original|; infinite where they are not comparable.
        noise: How far the original moves when only its rounding changes.
        magnitude: The largest |original|.
        allowance: What the difference may be.
        size: Number of elements.
        no_evidence: Elements that are NaN or infinite on both sides, or masked by a huge number.
        note: Why, where the numbers do not say it.
    """

    name: str
    level: str
    verdict: OutputVerdict
    difference: float
    noise: float
    magnitude: float
    allowance: float
    size: int
    no_evidence: int = 0
    note: str = ""

    @property
    def called(self) -> str:
        """Its name in quotes, and behind it for which input, where that was a second run."""
        second = _SECOND_RUN.fullmatch(self.name)
        return f"{second[1]!r} {second[2]}" if second else repr(self.name)

    @property
    def ratio(self) -> float:
        """The difference in multiples of the noise; infinite if it should be none at all."""
        if self.difference == 0:
            return 0.0
        return self.difference / self.noise if self.noise else math.inf

    @property
    def noise_is(self) -> str:
        """What the noise is: how far the original is from what both models are compared with."""
        if " against " in self.level:
            return "what the original differs by"
        return "the original's own rounding noise"

    @property
    def used(self) -> float:
        """The part of the allowance that the difference takes."""
        if self.difference == 0:
            return 0.0
        return self.difference / self.allowance if self.allowance else math.inf

    def __str__(self) -> str:
        """Say it in one line, with the numbers."""
        note = f" ({self.note})" if self.note else ""
        missing = f", {self.no_evidence} of {self.size} no evidence" if self.no_evidence else ""
        verdict = "" if self.numbers() == self.verdict else f": {self.verdict}"
        return f"{self.name} at {self.level} {self.numbers()}{missing}{verdict}{note}"

    def numbers(self) -> str:
        """Say how large the difference is, in proportion to the output and to its noise."""
        if self.size and self.no_evidence >= self.size:
            return "shows nothing"
        if self.verdict is OutputVerdict.DIFFERS and self.used <= 1:
            return "differs"  # in what is no number
        if self.difference == 0:
            return "is the same to the last bit"
        if not self.magnitude:
            return "differs"
        relative = f"differs by {self.difference / self.magnitude:.1e} of its magnitude"
        if not self.noise:
            return f"{relative}, {self.used:.2g} of what is allowed"
        ratio = f"{self.ratio:.2g}" if self.ratio < _EXACT else f"{self.ratio:,.0f}"
        return f"{relative}, {ratio} × {self.noise_is}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data, with the ratio; what is not finite becomes None."""
        return {**fields_of(self), "ratio": to_plain(self.ratio)}


def encode(compared: OutputComparison) -> dict[str, Any]:
    """Return a comparison for the pipe between the processes."""
    return asdict(compared)


def decode(data: Mapping[str, Any]) -> OutputComparison:
    """Return the comparison that `encode` was given."""
    return OutputComparison(**{**data, "verdict": OutputVerdict(data["verdict"])})


def flatten(name: str, value: Any) -> dict[str, Array]:  # noqa: ANN401 - any ONNX value
    """Return the arrays of one output by name: sequences and maps are opened, None is absent."""
    if value is None:
        return {}
    if isinstance(value, dict):
        keys = sorted(value, key=str)
        return {
            f"{name}.keys": np.asarray([str(key) for key in keys], dtype=object),
            f"{name}.values": np.asarray([value[key] for key in keys]),
        }
    if isinstance(value, list):
        parts = [flatten(f"{name}[{i}]", item) for i, item in enumerate(value)]
        return {key: array for part in parts for key, array in part.items()}
    return {name: np.asarray(value)}
