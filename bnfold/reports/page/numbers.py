"""Numbers and names as people write them."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnfold.verification.gain import Times, Timing

if TYPE_CHECKING:
    from markupsafe import Markup

Data = Mapping[str, Any]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WHOLE = 100
"""A number from here on is written without decimals."""
_HUGE = 1e6
"""A number from here on is told as a power of ten."""


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
    """Return a number with two digits, a huge one as a power of ten."""
    if value is None:
        return "∞"
    if value >= _HUGE:
        return scientific(value)
    return f"{value:.2g}" if value < _WHOLE else f"{value:.0f}"


def exact(value: float | None) -> str:
    """Return a number with six digits, as the text tells it; nothing for None."""
    return "" if value is None else f"{value:.6g}"


def decibels(value: float | None) -> str:
    """Return a ratio in dB, without the unit; None is infinity."""
    return "∞" if value is None else f"{value:.1f}"


def relative(output: Data, key: str) -> float | None:
    """Return one of an output's numbers in proportion to the output; None for infinity."""
    value: float | None = output[key]
    return value / output["magnitude"] if value is not None and output["magnitude"] else value


def breakable(name: str) -> "Markup":
    """Return a name as markup in which lines may break at its slashes and dots."""
    import markupsafe

    parts = (markupsafe.escape(part) for part in re.split(r"(?<=[/.:])", name))
    return markupsafe.Markup("<wbr>").join(parts)


def with_code(text: str) -> "Markup":
    """Return a text in which what stands between backticks is marked as code."""
    import markupsafe

    code = markupsafe.Markup("<code>{}</code>")
    parts = enumerate(text.split("`"))
    return markupsafe.Markup("").join(code.format(p) if i % 2 else p for i, p in parts)


def claim(timing: Data) -> str:
    """Return in words what the times of both models say."""
    times = (Times(**timing[model]) for model in ("before", "after"))
    return Timing(timing["runs"], *times).claim
