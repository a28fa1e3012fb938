"""Numbers as people write them."""

import pytest

from bnfold.reports.page.numbers import (
    breakable,
    decibels,
    power,
    scientific,
    short,
    with_code,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (None, "∞"), (3.3e-7, "3.3 × 10⁻⁷"), (1.0, "1.0 × 10⁰"), (2.5e12, "2.5 × 10¹²")],
)
def test_numbers_are_written_as_people_do(value: float | None, text: str) -> None:
    assert scientific(value) == text


def test_ratios() -> None:
    assert [short(v) for v in (0.2149, 1.0, 17.3, 18148.2, None)] == [
        "0.21", "1", "17", "18148", "∞",
    ]  # fmt: skip
    assert power(-12) == "10⁻¹²"
    assert [decibels(41.23), decibels(None)] == ["41.2", "∞"]


def test_texts_are_escaped() -> None:
    assert str(with_code("a < b, `x <- y`.")) == "a &lt; b, <code>x &lt;- y</code>."
    assert str(breakable("<a>/b")) == "&lt;a&gt;/<wbr>b"
