"""Compare every weight of an operator with the sum of the branches that it stands for.

A probe sees a sum of thousands of weights at a time, and the factors that `proportion` looks for
say nothing of a sum. So both regions are written as linear maps of what enters, in float64, and the
kernels are compared number by number. They must be the same, and the biases too, where nothing
behind the sum multiplies by constants or adds any. Elsewhere they may differ by a factor for each
output and each input, as in `proportion`.
"""

from collections.abc import Collection, Iterator

import numpy as np

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.linear_map import Map, OtherMapError, Way, aligned
from bnfold.verification.operators.table import TABLE
from bnfold.verification.proof.computing import Weights
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.linear_walk import results
from bnfold.verification.proof.proportion import Excess, Rounding, largest, worst_of
from bnfold.verification.proof.scaling import Factors

_NOISE = 2.0**-48
"""What float64 may be off by, relative to the magnitude of a sum."""

_EACH = 4
"""A number of a sum may have so many times the error of one fold where each of its terms was
rounded to float32 before they were added up in float32."""

_JOINS = {"Transpose"} | {name for name, row in TABLE.items() if row.adds}
"""Where a region is cut at one of these, branches may have become one over the cut."""


@np.errstate(all="ignore")
def sums_differ(
    old: Cone,
    new: Cone,
    weights: tuple[Weights, Weights],
    rounding: Rounding,
    *,
    tight: bool,
    multiplied: Collection[str] = (),
    factors: Factors | None = None,
) -> Excess:
    """Return how far the candidate's kernels are from the sums of the original's, and where.

    Args:
        old: A region of the original, …
        new: … and the candidate's, of which a probe has held.
        weights: The constants of both.
        rounding: What a weight may be off by.
        tight: Each number was rounded once; else every one that was added up may have been.
        multiplied: Tensors that enter the candidate's region multiplied.
        factors: By which the candidate's output is a multiple of the original's.

    Returns:
        The largest error; none where the two regions do not correspond, so that nothing can be
        said.
    """
    try:
        before, after = (
            results(cone, known.values) for cone, known in zip((old, new), weights, strict=True)
        )
    except OtherMapError:
        return Excess()
    cuts = [what for what, _ in before]
    if cuts != [what for what, _ in after] or not _JOINS.isdisjoint(cuts):
        return Excess()
    if factors is not None:
        if before[-1][1].order:
            return Excess()
        before[-1] = "", before[-1][1].then(factors.values, factors.shifts)
    maps = [one for _, one in (*before, *after)]
    exact = not multiplied and all(_is_first(one, old) or one.is_bare for one in maps)
    if not (exact or tight):  # an error of a sum's magnitude is no ratio of its numbers
        return Excess()
    worst = Excess()
    for (_, one), (_, made) in zip(before, after, strict=True):
        other = _in_the_order_of(one, made)
        if other is not None and one.kernels.keys() == other.kernels.keys():
            for found in _differences(one, other, rounding, tight=tight, exact=exact):
                worst = max(worst, found, key=lambda each: each.fraction)
    return worst


def _in_the_order_of(one: Map, other: Map) -> Map | None:
    """Return a map with the order behind that another has; None where that cannot be."""
    axes = max((len(way.strides) for way in one.kernels), default=0)
    try:
        return other.with_order(one.order, -1 - axes)
    except OtherMapError:
        return None


def _differences(
    one: Map, other: Map, rounding: Rounding, *, tight: bool, exact: bool
) -> Iterator[Excess]:
    """Yield how far each kernel and the bias of two maps are apart, and which."""
    for way in one.kernels:
        fraction = _kernels(one, other, way, rounding, tight=tight, exact=exact)
        yield Excess(fraction, f"a weight for {way.leaf!r} is not the sum of the original's")
    if exact:
        sizes = one.size, other.size
        fraction = _difference(one.bias, other.bias, sizes, rounding, tight=tight)
        yield Excess(fraction, "a bias is not the sum of the original's")


def _is_first(made: Map, cone: Cone) -> bool:
    """Tell whether a map is one of what enters, so that nothing can have been multiplied before."""
    return all(way.leaf in cone.leaves for way in made.kernels)


def _kernels(
    before: Map, after: Map, way: Way, rounding: Rounding, *, tight: bool, exact: bool
) -> float:
    try:
        one, other = aligned([before.kernels[way], after.kernels[way]])
    except OtherMapError:
        return 0.0
    if exact:
        sizes = one.sizes, other.sizes
        return _difference(one.values, other.values, sizes, rounding, tight=tight)
    shape = (*one.values.shape[:3], -1)
    return worst_of(one.values.reshape(shape), other.values.reshape(shape), rounding)


def _difference(
    before: Array, after: Array, sizes: tuple[Array, Array], rounding: Rounding, *, tight: bool
) -> float:
    """Return the largest error of numbers that must be the same, as a fraction of the allowed.

    Where the candidate adds several numbers up, as branches that stay apart, each was rounded.
    """
    size, made = sizes
    rounded = np.maximum(np.abs(before), made) if tight else _EACH * np.abs(size)
    allowed = rounding.relative * rounded + _NOISE * np.abs(size) + rounding.slack(after)
    return largest(np.abs(after - before), allowed)[0]
