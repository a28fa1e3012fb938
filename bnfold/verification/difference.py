"""A place where a candidate does not compute what the original computes, as a value."""

import math

from bnfold.frozen import sealed
from bnfold.plain import Plain
from bnfold.units import instead_of


@sealed
class Difference(Plain):
    """A tensor that the candidate computes otherwise, though from what is the same in both.

    Attributes:
        tensor: Its name.
        op_type: The operator of the candidate that makes it.
        name: That node's name; may be empty.
        what: How the two models differ there, in words: an attribute, an input, a constant, an
            operator; empty where they differ in nothing but numbers that a fold may change.
        weights: The constants of the candidate that are to blame, by name; where there are
            several, one or more of them are.
        channel: Where the difference is largest; None where that is not known.
        original: The number that the original makes there of a made-up input, in float64.
        candidate: The number that the candidate makes there of the same input.
        fraction: How many times the rounding bound the difference is; None where nothing was
            measured, infinite where no difference is allowed.
        before: The outputs of the regions that lead to it, and hold.
        behind: The outputs of the regions that it leads to, and that hold for what enters them.
    """

    tensor: str
    op_type: str
    name: str = ""
    what: str = ""
    weights: tuple[str, ...] = ()
    channel: int | None = None
    original: float | None = None
    candidate: float | None = None
    fraction: float | None = None
    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The operator that makes the tensor."""
        return f"{self.op_type} {self.name!r}" if self.name else self.op_type

    @property
    def where(self) -> str:
        """The tensor, and the operator that makes it."""
        return f"{self.tensor!r} ({self.node})"

    @property
    def how(self) -> str:
        """What differs, and by how much."""
        parts = [self.what] if self.what else []
        if self.original is not None and self.candidate is not None:
            makes = "it makes " if parts else ""
            where = "" if self.channel is None else f" in channel {self.channel}"
            parts.append(f"{makes}{instead_of(self.candidate, self.original)}{where}")
            if self.fraction is not None:
                parts[-1] += f", {times_the_bound(self.fraction)}"
        if self.weights:
            parts.append(f"because of {' or '.join(map(repr, self.weights))}")
        return "; ".join(parts)

    def __str__(self) -> str:
        """Say in one line what differs, and by how much."""
        return f"{self.where}: {self.how}" if self.how else self.where


def times_the_bound(fraction: float) -> str:
    """Say how large a difference is that is more than rounding."""
    if math.isinf(fraction):
        return "where no difference is allowed"
    return f"{fraction:.3g} times the rounding bound"
