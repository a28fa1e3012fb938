"""Where two models differ, as text: what the verdict's reason does not say already."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bnfold.units import counted

if TYPE_CHECKING:
    from bnfold.verification import Verification

_SHORT = 3
"""So many differences are listed, besides the first, unless all are asked for."""


def difference_lines(found: "Verification", *, verbose: bool) -> Iterator[str]:
    """Yield where the candidate differs, and which regions around each place hold."""
    shown = found.differences if verbose else found.differences[: _SHORT + 1]
    for place, difference in enumerate(shown):
        if place or not difference.how or difference.how not in found.reason:
            yield f"tensor {difference}" if place == 0 else f"also tensor {difference}"
        around = list(_around(difference.before, difference.behind, verbose=verbose))
        if around:
            yield f"  {', '.join(around)}"
    hidden = len(found.differences) - len(shown)
    if hidden:
        yield f"and {hidden} more (-v shows all)"


def _around(before: Sequence[str], behind: Sequence[str], *, verbose: bool) -> Iterator[str]:
    """Yield how many regions hold before and behind a place, with their names if all is told."""
    for names, where in ((before, "before it"), (behind, "behind it")):
        if names:
            verb = "holds" if len(names) == 1 else "hold"
            named = f" ({', '.join(names)})" if verbose else ""
            yield f"{counted(len(names), 'region')} {where} {verb}{named}"
