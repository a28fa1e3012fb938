"""What was gained, as text for a terminal: one line, and another where something was lost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bnfold.verification import ProviderReport
    from bnfold.verification.gain import Executed, Timing

_AS_WRITTEN = "ORT_DISABLE_ALL"


def gain_lines(provider: "ProviderReport") -> Iterator[str]:
    """Tell what a provider executes before and after, and how long it takes."""
    levels = [each for each in provider.executed if each.before and each.after]
    if not levels:
        return
    yield f"{provider.name}: " + "; ".join(map(_level, levels))
    for each in levels:
        yield from _warnings(each)


def _level(executed: "Executed") -> str:
    before, after = executed.nodes
    time = "" if executed.timing is None else f" in {_times(executed.timing)}"
    if executed.level == _AS_WRITTEN:
        return f"{before} → {after} nodes executed{time}"
    return f"optimized by ONNX Runtime {before} → {after}{time}"


def _times(timing: "Timing") -> str:
    """Tell the medians, and by how much they differ where the spread does not cover it."""
    before, after = timing.before.median, timing.after.median
    unit, factor = ("ms", 1e3) if max(before, after) >= 1e-3 else ("µs", 1e6)  # noqa: PLR2004
    spread = max((t.high - t.low) / 2 / t.median for t in (timing.before, timing.after))
    share = abs(after - before) / before
    claims = {"faster": f"{share:.0%} less", "slower": f"{share:.0%} more"}
    claim = claims.get(timing.verdict, timing.claim)
    return f"{before * factor:.3g} → {after * factor:.3g} {unit} (± {spread:.0%}: {claim})"


_REORDERING = frozenset({"ReorderInput", "ReorderOutput"})


def _warnings(executed: "Executed") -> Iterator[str]:
    before, after = executed.nodes
    level = executed.level.removeprefix("ORT_")
    found = []
    if executed.grown:
        found.append(f"more is executed after than before, {before} → {after} nodes")
        reorders = executed.grown.keys() <= _REORDERING
        why = ", for convolutions in a layout of ONNX Runtime's own" if reorders else ""
        found.append(f"{_pairs(executed.grown)}{why}")
    if executed.lost:
        found.append(f"fused operators were lost: {_pairs(executed.lost)}")
    if found:
        yield click.style(f"warning: at {level} {'; '.join(found)}", fg="yellow")


def _pairs(pairs: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {before} → {after}" for name, (before, after) in pairs.items())
