"""Estimated statistics as text for a terminal."""

from collections.abc import Iterator, Sequence

from bnfold.errors import one_line
from bnfold.statistics.estimate import Estimate, NormalizationEstimate
from bnfold.units import counted


def statistics_lines(estimate: Estimate, *, verbose: bool) -> Iterator[str]:
    """Tell how far the statistics moved, how sure they are, and what is doubtful."""
    found = estimate.normalizations
    normalizations = counted(len(found), "batch normalization")
    batches = counted(estimate.batches, "batch", "batches")
    yield f"statistics of {normalizations} estimated from {batches}"
    for each in found if verbose else _most_moved(found):
        yield f"  {_moved(each)}"
    errors = [each.uncertainty.value for each in found if each.uncertainty is not None]
    if errors:
        yield f"  standard error of the means: at most {max(errors):.2g} standard deviations"
    else:
        yield "  one batch says nothing of how sure they are; give several, or --batch-size"
    for warning in estimate.warnings:
        yield f"  warning: {one_line(warning)}"
    for skipped in estimate.skipped:
        yield f"  kept as they are: {one_line(skipped)}"


def _most_moved(found: Sequence[NormalizationEstimate]) -> list[NormalizationEstimate]:
    known = [(each.moved.value, each) for each in found if each.moved is not None]
    return [max(known, key=lambda pair: pair[0])[1]] if known else []


def _moved(each: NormalizationEstimate) -> str:
    """Say how far the worst channel of a normalization moved, and its spread."""
    name, values = one_line(each.name), f"{each.values} values per channel"
    moved, spread = each.moved, each.spread
    if moved is None or spread is None:
        return f"{name}: {values}; its stored statistics are not known"
    return (
        f"{name}: the mean of channel {moved.channel} moved by {moved.value:.2g} standard "
        f"deviations, the standard deviation of channel {spread.channel} is {spread.value:.3g} "
        f"times what was stored ({values})"
    )
