"""When two outputs are the same but for rounding.

Let A be what the original gives, B what it gives when only its rounding changes (the same model
at another optimization level, or with its weights moved by one ulp) and C what the candidate
gives. Per output and over all its elements

    difference = max |C − A|        noise = max |B − A|        magnitude = max |A|

and the candidate agrees where

    difference ≤ 16 × max(noise, u × magnitude),      u the unit roundoff of the output's dtype.

The maximum norm is taken on both sides because single elements of |B − A| are zero by
accident all the time. The floor `u × magnitude` is what one rounding of the largest element
costs: a model of which ONNX Runtime changes nothing between two levels has no noise at all, yet
a candidate whose sums are taken in another order still differs in the last digits.

Where the noise is above `HOPELESS` of the magnitude the original has too few correct digits for
its outputs to prove anything: agreement is then *inconclusive*, disagreement still counts.

A mask of huge numbers sets no allowance for the rest: elements are judged by groups of like
magnitude where there are such (`magnitudes`).

What is NaN or infinite in one model only is a difference, unless the original's own rounding
changes as many elements so, up to the same factor: then it is *inconclusive*.

Where the true outputs are known (the original computed in float64) they take the place of A, the
difference is the candidate's error, the noise is the largest error of the original in all its
variants, and the candidate may have 5 times that.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnfold.frozen import frozen
from bnfold.units import counted
from bnfold.verification.comparison import OutputComparison, Outputs, OutputVerdict
from bnfold.verification.dtypes import Array, is_float, largest, unit_roundoff, wide, wide_stretches
from bnfold.verification.runs.magnitudes import Group, groups

FACTOR = 16.0
"""Largest ratio seen over 2,399 correct folds: 9.9."""

TRUE_FACTOR = 5.0
"""Largest ratio of errors against float64 seen over 388 correct folds: 1.75."""

_EMPTY = "it has no elements here"
_CONSTANT = "all its elements are the same here, which shows nothing"

HOPELESS = 1e-3
"""Relative noise above which an agreement says nothing."""


@frozen
class Rule:
    """What an output may differ by.

    Attributes:
        factor: How many times the noise.
        u: Unit roundoff of the models' output; None for that of the array.
        hopeless: What to say where the noise is too large to judge by.
    """

    factor: float = FACTOR
    u: float | None = None
    hopeless: str = "the original has too few correct digits here"


_FAST = Rule()
_MISSING = "the candidate has no such output"


def distance(a: Array, b: Array) -> float:
    """Return max |a − b| over the elements that are finite in both; inf for unlike arrays.

    For integers, booleans and strings it is the number of elements that differ.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if not is_float(a):
        return float(np.count_nonzero(a != b))
    return _extent(a, b).difference


@frozen
class _Extent:
    """How large two arrays are, and how far apart.

    Attributes:
        magnitude: The largest element of the first that is finite.
        difference: The largest difference of two elements that are both finite.
        both: How many elements are finite in both.
    """

    magnitude: float
    difference: float
    both: int


def _extent(a: Array, b: Array) -> _Extent:
    magnitude, difference, count = 0.0, 0.0, 0
    for x, y in wide_stretches(a, b):
        finite = np.isfinite(x)
        both = finite & np.isfinite(y)
        magnitude = max(magnitude, float(np.max(np.abs(x[finite]), initial=0.0)))
        difference = max(difference, float(np.max(np.abs(x[both] - y[both]), initial=0.0)))
        count += int(np.count_nonzero(both))
    return _Extent(magnitude, difference, count)


def compare_output(
    name: str,
    level: str,
    original: Array,
    variants: Sequence[Array],
    candidate: Array,
    rule: Rule = _FAST,
) -> OutputComparison:
    """Judge one output.

    Args:
        name: The output's name.
        level: The optimization level, for the report.
        original: A, any shape and dtype.
        variants: Every B: the original with nothing but its rounding changed.
        candidate: C.
        rule: What is allowed.
    """
    noise = max((distance(original, variant) for variant in variants), default=0.0)
    if candidate.shape != original.shape or candidate.dtype != original.dtype:
        return _unlike(name, level, noise, original, candidate)
    if not is_float(original):
        return _exact(name, level, noise, original, candidate)
    parts = groups(original)
    if len(parts) > 1:
        return _by_groups(parts, name, level, original, variants, candidate, rule)
    return _rounded(name, level, noise, original, variants, candidate, rule)


def _rounded(
    name: str,
    level: str,
    noise: float,
    original: Array,
    variants: Sequence[Array],
    candidate: Array,
    rule: Rule,
) -> OutputComparison:
    """Judge floating-point numbers of like magnitude."""
    found = _extent(original, candidate)
    magnitude, difference = found.magnitude, found.difference
    u = unit_roundoff(original.dtype) if rule.u is None else rule.u
    allowance = rule.factor * max(noise, u * magnitude)
    missing = original.size - found.both
    brink = largest(original.dtype) - allowance
    unlike = _unlike_kinds(original, candidate, variants, brink) if missing else _ALIKE
    broken = 0 if unlike.is_noise(rule.factor) else unlike.steady
    # The limit is wider for float16, whose single roundings are coarse without being chaotic.
    hopeless = noise > max(HOPELESS, 32 * u) * magnitude
    verdict, note = OutputVerdict.AGREES, ""
    if not difference <= allowance:
        verdict = OutputVerdict.DIFFERS
    elif hopeless:
        verdict, note = OutputVerdict.INCONCLUSIVE, rule.hopeless
    if not found.both:
        note = "no element is finite in both models" if original.size else _EMPTY
        verdict = OutputVerdict.INCONCLUSIVE
    elif verdict is OutputVerdict.AGREES and not is_telling(original):
        verdict, note = OutputVerdict.INCONCLUSIVE, _CONSTANT
    if broken:
        verdict, note = OutputVerdict.DIFFERS, _told(broken)
    elif unlike.steady and verdict is not OutputVerdict.DIFFERS:
        verdict = OutputVerdict.INCONCLUSIVE
        note = f"{_told(unlike.steady)}; rounding alone changes {unlike.own} so in the original"
    return OutputComparison(
        name, level, verdict, difference, noise, magnitude, allowance, original.size,
        missing - broken, note,
    )  # fmt: skip


def _by_groups(
    parts: Sequence[Group],
    name: str,
    level: str,
    original: Array,
    variants: Sequence[Array],
    candidate: Array,
    rule: Rule,
) -> OutputComparison:
    """Judge the elements of like magnitude for themselves, and return the worst of them.

    What is masked is no evidence, unless it differs.
    """
    moved = [variant for variant in variants if variant.shape == original.shape]
    worst: OutputComparison | None = None
    masked = 0
    for part in parts:
        where = part.where
        found = compare_output(
            name, level, original[where], [v[where] for v in moved], candidate[where], rule
        )
        if part.mask and found.verdict is not OutputVerdict.DIFFERS:
            masked += found.size
        elif worst is None or _badness(found) > _badness(worst):
            worst = found
    assert worst is not None  # noqa: S101 - the smallest elements are no mask
    return replace(worst, size=original.size, no_evidence=worst.no_evidence + masked)


def _badness(found: OutputComparison) -> tuple[int, float]:
    order = {OutputVerdict.AGREES: 0, OutputVerdict.INCONCLUSIVE: 1, OutputVerdict.DIFFERS: 2}
    return order[found.verdict], found.used


def is_telling(values: Array) -> bool:
    """Tell whether an output can show anything: it has elements, and they are not all the same."""
    return values.size == 1 or (values.size > 0 and bool((values != values.flat[0]).any()))


def with_evidence_elsewhere(
    results: Sequence[OutputComparison], labels: Sequence[str]
) -> list[OutputComparison]:
    """Let an output that shows nothing for one feed agree where it does so for another.

    `labels` are what was added to the names of outputs for each feed.
    """

    def plain(result: OutputComparison) -> tuple[str, str]:
        label = next(each for each in reversed(labels) if result.name.endswith(each))
        return result.name.removesuffix(label) if label else result.name, result.level

    shown = {plain(r) for r in results if r.verdict is OutputVerdict.AGREES}
    return [
        replace(result, verdict=OutputVerdict.AGREES)
        if result.note in (_EMPTY, _CONSTANT)
        and result.verdict is OutputVerdict.INCONCLUSIVE
        and plain(result) in shown
        else result
        for result in results
    ]


def _kind(values: Array) -> Array:
    """Return 0 for finite elements, 1 and −1 for infinities, 2 for NaN."""
    if values.dtype.kind == "c":
        return np.asarray(np.where(np.isfinite(values), 0, 2))
    return np.asarray(np.select([np.isnan(values), np.isinf(values)], [2, np.sign(values)], 0))


@frozen
class _UnlikeKinds:
    """How many elements are NaN or infinite, and something else elsewhere.

    Attributes:
        steady: In the candidate, where all variants of the original are alike.
        all: In the candidate, wherever it is.
        own: In the variant of the original that has most of them.
    """

    steady: int
    all: int
    own: int

    def is_noise(self, factor: float) -> bool:
        """Tell whether that is what the original's own rounding makes of it, up to a factor.

        Where sums overflow within the network, rounding decides of which elements. A few variants
        of the original do not show all of them.
        """
        return self.all <= factor * self.own


_ALIKE = _UnlikeKinds(0, 0, 0)


def is_told_broken(result: OutputComparison) -> bool:
    """Tell whether an output differs in what is NaN or infinite."""
    return result.verdict is OutputVerdict.DIFFERS and result.note.endswith(_ELSE)


_ELSE = "NaN or infinite, and something else in the other model"


def _told(number: int) -> str:
    return f"{counted(number, 'element')} {'is' if number == 1 else 'are'} {_ELSE}"


def _unlike_kinds(
    original: Array, candidate: Array, variants: Sequence[Array], brink: float
) -> _UnlikeKinds:
    """Count what is NaN or infinite in one model only, or in one variant of the original."""
    moved = [variant for variant in variants if variant.shape == original.shape]
    steady, everywhere, own = 0, 0, [0] * len(moved)
    for A, C, *others in wide_stretches(original, candidate, *moved):
        alike, broken = np.ones(A.shape, np.bool_), _broken(A, C, brink)
        for index, variant in enumerate(others):
            alike &= _kind(variant) == _kind(A)
            own[index] += int(np.count_nonzero(_broken(A, variant, brink)))
        steady += int(np.count_nonzero(alike & broken))
        everywhere += int(np.count_nonzero(broken))
    return _UnlikeKinds(steady, everywhere, max(own, default=0))


def _broken(A: Array, C: Array, brink: float) -> Array:
    """Tell where one model has NaN or infinity and the other has something else.

    From `brink` on rounding can make a number infinite, so there an infinity of the same sign is
    no difference.
    """
    if A.dtype.kind == "c":
        return np.asarray(np.isfinite(A) != np.isfinite(C))
    nan = np.isnan(A) != np.isnan(C)
    infinite = (np.isinf(A) | np.isinf(C)) & (A != C) & ~nan & ~np.isnan(A)
    over = (np.abs(A) >= brink) & (np.abs(C) >= brink) & (np.sign(A) == np.sign(C))
    return np.asarray(nan | (infinite & ~over))


def _exact(
    name: str, level: str, noise: float, original: Array, candidate: Array
) -> OutputComparison:
    """Judge integers, booleans and strings: every difference is a flip."""
    flips = distance(original, candidate)
    verdict, note = OutputVerdict.AGREES, ""
    if flips:
        verdict = OutputVerdict.INCONCLUSIVE if noise else OutputVerdict.DIFFERS
        own = f"; rounding alone flips {noise:.0f} in the original" if noise else ""
        note = f"{flips:.0f} of {original.size} values differ{own}"
    elif not is_telling(original):
        verdict, note = OutputVerdict.INCONCLUSIVE, _CONSTANT if original.size else _EMPTY
    return OutputComparison(name, level, verdict, flips, noise, 0.0, 0.0, original.size, note=note)


def _unlike(
    name: str, level: str, noise: float, original: Array, candidate: Array
) -> OutputComparison:
    """Report an output of another shape or dtype than the original's.

    Where the original's own shape depends on rounding (the boxes left by a suppression, say) it
    proves nothing.
    """
    verdict = OutputVerdict.INCONCLUSIVE if math.isinf(noise) else OutputVerdict.DIFFERS
    note = (
        f"{candidate.dtype}{list(candidate.shape)} instead of "
        f"{original.dtype}{list(original.shape)}"
    )
    return OutputComparison(
        name, level, verdict, math.inf, noise, 0.0, 0.0, original.size, note=note
    )


def compare_all(
    level: str,
    original: Outputs,
    variants: Sequence[Outputs],
    candidate: Outputs,
    rule: Rule = _FAST,
) -> list[OutputComparison]:
    """Compare every output of the original with the candidate's of the same name."""
    results = []
    for name, values in original.items():
        others = [variant[name] for variant in variants if name in variant]
        if name in candidate:
            results.append(compare_output(name, level, values, others, candidate[name], rule))
            continue
        results.append(
            OutputComparison(
                name, level, OutputVerdict.DIFFERS, math.inf, 0.0, 0.0, 0.0, values.size,
                note=_MISSING,
            )
        )  # fmt: skip
    return results


def without_evidence(
    results: Sequence[OutputComparison], random: Collection[str]
) -> list[OutputComparison]:
    """Return comparisons, of which those that random numbers touch say nothing."""
    return [
        replace(
            result, verdict=OutputVerdict.INCONCLUSIVE, difference=0.0, noise=0.0,
            no_evidence=result.size, note="it depends on random numbers",
        )
        if result.note != _MISSING and any(_is_part(result.name, name) for name in random)
        else result
        for result in results
    ]  # fmt: skip


def _is_part(name: str, output: str) -> bool:
    """Tell whether a comparison of that name is about an output, or an element of its sequence."""
    return name == output or name.startswith(
        (f"{output}[", f"{output}.", f"{output} (input ", f"{output} for ")
    )


def compare_with_truth(
    truth: Outputs, originals: Iterable[Outputs], runs: Mapping[str, Outputs]
) -> list[OutputComparison]:
    """Compare the candidate's errors with the original's.

    `truth` is what the original gives in float64, `originals` what it gave at every level and with
    every jitter, `runs` what the candidate gave, by level.
    """
    variants = list(originals)
    results = []
    for level, outputs in runs.items():
        for name in [n for n in truth if n in outputs and is_float(outputs[n])]:
            others = [wide(variant[name]) for variant in variants if name in variant]
            rule = Rule(TRUE_FACTOR, unit_roundoff(outputs[name].dtype))
            label = f"{level} against float64"
            results.append(
                compare_output(name, label, truth[name], others, wide(outputs[name]), rule)
            )
    return results
