"""Where marks stand on the page's scales and plots."""

import math
from collections.abc import Iterable, Sequence

from bnfold.frozen import frozen
from bnfold.reports.page.numbers import Data, power, relative


@frozen
class Scale:
    """A logarithmic scale.

    Attributes:
        low: The power of ten at its lower end.
        high: The power of ten at its upper end.
    """

    low: int
    high: int

    @classmethod
    def around(cls, values: Iterable[float | None]) -> "Scale":
        """Return the scale that holds all values that a logarithmic scale can hold."""
        powers = [math.log10(value) for value in values if value]
        if not powers:
            return cls(-8, -4)
        low, high = math.floor(min(powers)), math.ceil(max(powers))
        return cls(low, max(high, low + 1))

    def at(self, value: float | None) -> float:
        """Return where a value stands, from 0 to 1; zero is at the lower end, infinity at 1."""
        if value is None:
            return 1.0
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def percent(self, value: float | None) -> str:
        """Return where a value stands as CSS and SVG say it."""
        return f"{100 * self.at(value):.2f}%"

    @property
    def ticks(self) -> list[tuple[int, str]]:
        """Return powers of ten to write at the scale, at most six, and what to write."""
        step = max(1, math.ceil((self.high - self.low) / 5))
        powers = range(self.low, self.high + 1, step)
        return [(exponent, power(exponent)) for exponent in powers]


@frozen
class Plot:
    """The errors of the layers, in the order of computation.

    Attributes:
        layers: What the report says of each.
        width: The width of the drawing, without what stands at its sides.
        height: Its height.
    """

    layers: Sequence[Data]
    width: int = 640
    height: int = 200

    @property
    def scale(self) -> Scale:
        """The vertical scale."""
        return Scale.around(
            relative(layer, key) for layer in self.layers for key in ("difference", "noise")
        )

    def x(self, number: int) -> float:
        """Return where a layer stands."""
        return round(self.width * (number + 0.5) / len(self.layers), 1)

    def y(self, value: float | None) -> float:
        """Return where an error stands."""
        return round(self.height * (1 - self.scale.at(value)), 1)

    def line(self, key: str) -> str:
        """Return the points of one of the lines."""
        return " ".join(
            f"{self.x(i)},{self.y(relative(layer, key))}" for i, layer in enumerate(self.layers)
        )


@frozen
class Ranges:
    """The ranges of a weight's channels before and after, as lines over the channels.

    Attributes:
        before: The largest |w| of each channel before; nothing where the weight is a sum now.
        after: The same after.
        width: The width of the drawing.
        height: Its height.
    """

    before: Sequence[float]
    after: Sequence[float]
    width: int = 120
    height: int = 26

    @classmethod
    def of(cls, weight: Data) -> "Ranges":
        """Return the plot of one of a report's weights."""
        before = weight["before"]
        return cls(before["ranges"] if before else (), weight["after"]["ranges"])

    @property
    def scale(self) -> Scale:
        """The vertical scale; what is a millionth of the largest or less is at the lower end."""
        values = [value for value in (*self.before, *self.after) if value]
        floor = max(values, default=1.0) * 1e-6
        return Scale.around(max(value, floor) for value in values)

    def points(self, ranges: Sequence[float]) -> str:
        """Return the points of one of the lines."""
        scale, step = self.scale, self.width / max(len(ranges), 1)
        levels = [round(self.height * (1 - scale.at(value)), 1) for value in ranges]
        return " ".join(
            f"{step * (i + side):.1f},{level}" for i, level in enumerate(levels) for side in (0, 1)
        )
