"""Sizes and counts as people write them."""

import math

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def byte_size(count: float | None) -> str:
    """Return a number of bytes as people write it."""
    if count is None:
        return ""
    power = min(int(math.log(count, 1000)), len(_UNITS) - 1) if count else 0
    return f"{count / 1000**power:.{1 if power else 0}f} {_UNITS[power]}"


def instead_of(new: float, old: float) -> str:
    """Return two numbers that differ, with as many digits as tell them apart, and six at least."""
    for digits in range(6, 18):
        texts = f"{new:.{digits}g}", f"{old:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return " instead of ".join(texts)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
