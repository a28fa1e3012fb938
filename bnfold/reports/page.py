"""Reports as one HTML page that needs nothing but itself; takes the extra `bnfold[html]`.

What is written is what `to_dict` says; this module adds only the positions of marks on scales.
Every name comes from somebody's model, so everything is escaped.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from bnfold.errors import RequestError
from bnfold.frozen import frozen

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_LONG = 24
"""Tables with more rows than this are folded away at first."""

Data = Mapping[str, Any]


def require_jinja() -> None:
    """Make sure that a page can be rendered.

    Raises:
        RequestError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise RequestError(
            "an HTML report needs Jinja: pip install 'bnfold[html]', or write a .json report"
        ) from error
    del jinja2


def render(entries: Sequence[Data]) -> str:
    """Return the page about so many models.

    Args:
        entries: What the `to_dict` of a report, a comparison or a failure gave.

    Raises:
        RequestError: Jinja is not installed.
    """
    require_jinja()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bnfold.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "scientific": scientific,
        "size": size,
        "short": short,
        "name": _breakable,
    }
    environment.globals |= {"relative": relative, "power": power, "long": _LONG}
    models = [_Model(entry) for entry in entries]
    return environment.get_template("report.html").render(models=models)


def _breakable(name: str) -> str:
    """Return a name as markup in which lines may break at its slashes and dots."""
    import markupsafe

    parts = (markupsafe.escape(part) for part in re.split(r"(?<=[/.:])", name))
    return markupsafe.Markup("<wbr>").join(parts)


def scientific(value: float | None) -> str:
    """Return a number as people write it: 3.3 × 10⁻⁷."""
    if value is None:
        return "∞"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × {power(int(exponent))}"


def power(exponent: int) -> str:
    """Return a power of ten as people write it: 10⁻⁷."""
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def short(value: float | None) -> str:
    """Return a number with two digits."""
    return "∞" if value is None else f"{value:.2g}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004


def size(count: float | None) -> str:
    """Return a number of bytes as people write it."""
    if count is None:
        return ""
    power = min(int(math.log(count, 1000)), len(_UNITS) - 1) if count else 0
    return f"{count / 1000**power:.{1 if power else 0}f} {_UNITS[power]}"


def relative(output: Data, key: str) -> float | None:
    """Return one of an output's numbers in proportion to the output; None for infinity."""
    value: float | None = output[key]
    return value / output["magnitude"] if value is not None and output["magnitude"] else value


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


class _Model:
    """One entry of a report file as the page shows it."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.versions: Data = data["versions"]
        self.verification: Data | None = data.get("verification")
        self.tone, self.headline = _headline(data)

    @property
    def title(self) -> str:
        """The name of the model, or of both."""
        if "candidate" in self.data:
            files = self.data["candidate"], self.data["original"]
            names = {_name(file) for file in files}
            shown = [_name(file) if len(names) > 1 else file["path"] for file in files]
            return " against ".join(shown)
        return _name(self.data["source"])

    @property
    def files(self) -> list[tuple[str, Data]]:
        """The files, each with its part."""
        parts = ("source", "target", "original", "candidate")
        return [(part, self.data[part]) for part in parts if self.data.get(part)]

    @property
    def outputs(self) -> list[Data]:
        """All outputs on all providers."""
        providers = self.verification["providers"] if self.verification else []
        return [output for provider in providers for output in provider["outputs"]]

    @property
    def scale(self) -> Scale:
        """The scale of all outputs, so that they can be compared."""
        keys = ("difference", "noise", "allowance")
        return Scale.around(
            relative(output, key) for output in self.outputs if output["magnitude"] for key in keys
        )

    @property
    def plot(self) -> Plot | None:
        """The plot of the layers, where there are any to plot."""
        layers = self.verification["layers"] if self.verification else []
        floats = [layer for layer in layers if layer["magnitude"]]
        return Plot(floats) if len(floats) > 1 else None

    @property
    def worst(self) -> float | None:
        """The largest fraction of its bound that a fold takes."""
        probes = self.verification["probes"] if self.verification else []
        return max((p["fraction"] for p in probes if p["verdict"] == "held"), default=None)


def _name(file: Data) -> str:
    return "standard input" if file["path"] == "-" else PurePath(file["path"]).name


def _headline(data: Data) -> tuple[str, str]:
    """Return the colour of the outcome, and the outcome in a few words."""
    if data["error"]:
        verdict = (
            f"Verification {data['verification']['verdict']}" if "verification" in data else ""
        )
        return "bad", _BAD_HEADLINES.get(data["exit_code"]) or verdict
    if "candidate" in data:
        return "good", "Both models compute the same but for rounding"
    if not data["folds"]:
        return "plain", "Nothing to fold"
    if data["target"] is None:
        return "plain", "Can be folded"
    if data["verification"] is None:
        return "fair", "Folded, but not verified"
    return "good", "Folded, and verified to compute the same"


_BAD_HEADLINES = {
    2: "Could not be folded",
    4: "A provider that was asked for cannot run",
    5: "More batch normalizations remain than may",
}
