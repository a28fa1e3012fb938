"""The local probe: one region of both models, in float64, on a few small inputs.

The two results must satisfy, elementwise,

    |new − old| ≤ (4 r u + (2 n + 8) 2⁻⁵³) · mag(old) + underflow

with u the unit roundoff of the coarsest dtype that the original stores here, `mag` as in
`magnitude`, and n the number of terms in the longest sum: float64 rounds too, in the probe as in
the fold. r is how many changed constants a value meets on its way through the region, 1 behind a
single convolution: where folds hang together over several linear operators each has rounded its own
weights. Where nobody says how it was folded, r is no less than the number of normalizations in
series that are gone: each was perhaps folded by itself. A fold that is computed in float64 and
rounded once is at a quarter of the bound at most; where a fold promises that, it is held to it,
which leaves coarse dtypes no room for small mistakes.

Underflow adds 4 u times what the candidate's magnitude grows by when all of its constants that were
rounded below the smallest normal number are as large as that.

Where the candidate pads explicitly what the original padded with zeros, the pad value and the bias
cancel at the border, each rounded by itself; so there the larger of the two magnitudes counts.

The bound is about sums: behind a kernel of 4608 weights a relative error of 10⁻⁵ drowns in it
when all inputs are alike. So most inputs are sparse: together they have an element of every
channel, and each has few, so that a window sees few weights at a time; and they are large, so that
the biases do not cover the weights. One is zero, so that the biases stand alone.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array, smallest_normal, unit_roundoff
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.operators.node import EvaluationError, UnsupportedError
from bnfold.verification.proof.computing import (
    Weights,
    identical,
    lifted,
    tracked_of,
    value_of,
    weights_of,
)
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.demands import demanded
from bnfold.verification.proof.facts import (
    brings_numbers_in,
    casts,
    check_provable,
    is_alike_for_all_shapes,
    linear_depth,
    normalizations_in_series,
    roundings_in_series,
)
from bnfold.verification.proof.proportion import (
    Rounding,
    branches_merged,
    disproportion,
    reads_stored_weights,
    weights_are_bound,
)
from bnfold.verification.proof.receptive_field import reach
from bnfold.verification.proof.samples import VOLUME, batches, channel_hints, trials
from bnfold.verification.proof.scaling import Factors, factors_between
from bnfold.verification.proof.summation import sums_differ

_ROUNDINGS = 4.0
_ONCE = 1.05
"""One rounding of each weight, and a little for what is of second order."""
_TRIALS = 48
_NO_FACTORS: Mapping[str, Factors] = {}
_AT_A_TIME = 1 << 16
"""Elements of two results that are compared together: they stay in a processor's cache."""
_ROUNDS = 4
"""Sets of samples where they are restricted."""


@frozen
class Finding:
    """What a probe measured.

    Attributes:
        fraction: The largest |new − old| / bound.
        note: Where that is.
        limit: What the fraction may be.
        comparable: Both could be computed, so that a difference is one.
        zero: The original gives nothing but zeros, whatever enters.
        factors: What the candidate's is the original's times, where that was asked for.
    """

    fraction: float
    note: str = ""
    limit: float = 1.0
    comparable: bool = True
    zero: bool = False
    factors: Factors | None = None

    @property
    def held(self) -> bool:
        """The bound held everywhere."""
        return self.fraction <= self.limit


def probe(
    old: Cone,
    new: Cone,
    shapes: Mapping[str, Shape],
    seed: int,
    *,
    tight: bool = False,
    never_negative: frozenset[str] = frozenset(),
    factors: Mapping[str, Factors] = _NO_FACTORS,
    along: int | None = None,
) -> Finding:
    """Compare a region of the original with the candidate's.

    Args:
        old: The region in the original.
        new: The region in the candidate.
        shapes: What is known of the shapes of the tensors that enter.
        seed: Seed of the inputs.
        tight: Allow one rounding per weight only, as bnfold promises it.
        never_negative: The tensors that enter and have no element below zero.
        factors: By which those that enter the candidate's region are multiplied.
        along: The axis along which the output may be multiplied; None where it may not.

    Raises:
        EvaluationError: The region of the original cannot be computed here.
    """
    for cone in (old, new):
        check_provable(cone)
    if casts(new) - casts(old):
        raise UnsupportedError("the candidate casts what the original does not")
    pair = _Pair(old, new, weights_of(old), weights_of(new), tight, never_negative, factors, along)
    leaves = list(dict.fromkeys((*old.leaves, *new.leaves)))
    demands = {**demanded(new, pair.new_weights), **demanded(old, pair.old_weights)}
    hints = channel_hints(old, pair.old_weights)
    alike = is_alike_for_all_shapes(old) and is_alike_for_all_shapes(new)
    alike &= all(leaf in shapes or leaf in demands for leaf in leaves)
    reason = EvaluationError("no shapes for its inputs were found")
    broken: Finding | None = None
    least = reach(old, pair.old_weights)
    # What is not negative leaves a Relu closed more often than open.
    rounds = _ROUNDS if never_negative else 1
    tries = itertools.islice(trials(leaves, shapes, demands, hints, least), _TRIALS)
    for sizes, stacked in ((sizes, stacked) for sizes in tries for stacked in (True, False)):
        try:
            finding = pair.compare_rounds(sizes, seed, rounds, stacked=stacked)
        except UnsupportedError:
            raise
        except EvaluationError as error:
            reason = error
            continue
        if finding.held:
            return pair.weight_by_weight(finding) or finding
        broken = broken or finding
        if alike:
            return broken
        if not stacked:
            break
    if broken is None:
        raise reason
    return _at_declared_shapes(pair, leaves, shapes, seed) or broken


def _at_declared_shapes(
    pair: "_Pair", leaves: Sequence[str], shapes: Mapping[str, Shape], seed: int
) -> Finding | None:
    """Compare once more with the shapes that the model declares; None if it declares none.

    Some tools write the declared shapes into the model, into a Reshape, say. For any other shape
    the two are then different, and rightly so.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for leaf in leaves:
        shape = shapes.get(leaf, (None,))
        sizes[leaf] = tuple(dim for dim in shape if dim is not None)
        if len(sizes[leaf]) != len(shape):
            return None
    if sum(map(math.prod, sizes.values())) > VOLUME:
        return None
    try:
        # In large inputs a sample sees less.
        finding = pair.compare_rounds(sizes, seed, _ROUNDS, stacked=False)
    except EvaluationError:
        return None
    return (pair.weight_by_weight(finding) or finding) if finding.held else finding


_Made = tuple[Array, Array, Array, Array | float]
"""What the original and the candidate make, its magnitude, and what underflow adds."""


@frozen
class _Allowed:
    """What the results may differ by.

    Attributes:
        u: Unit roundoff.
        slack: Times the magnitude.
        limit: What the fraction of that may be.
    """

    u: float
    slack: float
    limit: float

    def fraction(self, made: _Made, factors: Factors | None = None) -> Finding:
        """Return the worst difference as a fraction of its bound."""
        old, new, magnitude, extra = made
        if old.dtype.kind != "f":
            unequal = int(np.count_nonzero(old != new))
            return Finding(math.inf if unequal else 0.0, f"{unequal} integers differ")
        if factors is not None:
            old, magnitude = factors.times(old), factors.times(magnitude)
            extra = factors.times(np.broadcast_to(extra, old.shape))
        worst, place = 0.0, 0
        for start in range(0, old.size, _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            fractions = self._fractions(
                *(_stretch(array, old.shape, part) for array in (old, new, magnitude, extra))
            )
            largest = int(np.argmax(fractions))
            if fractions[largest] > worst:
                worst, place = float(fractions[largest]), start + largest
        if not worst:
            return Finding(0.0)
        index = np.unravel_index(place, old.shape)
        where = f" in channel {index[1]}" if len(index) > 1 else ""
        return Finding(
            worst,
            f"{float(new[index]):.6g} instead of {float(old[index]):.6g}{where}, "
            f"{worst:.3g} of the rounding bound",
        )

    @np.errstate(invalid="ignore", divide="ignore")
    def _fractions(self, old: Array, new: Array, magnitude: Array, extra: Array) -> Array:
        """Return |new − old| / bound, 0 / 0 being 0."""
        bound = self.slack * magnitude + 4.0 * self.u * extra
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        fractions = np.where(same, 0.0, np.abs(new - old) / bound)
        return np.where(np.isnan(fractions), math.inf, fractions)


def _stretch(array: Array | float, shape: tuple[int, ...], part: slice) -> Array:
    """Return a stretch of the elements of what is broadcast to a shape."""
    if np.ndim(array) == 0:
        return np.asarray(array)
    return np.broadcast_to(array, shape).reshape(-1)[part]


@frozen
class _Pair:
    old: Cone
    new: Cone
    old_weights: Weights
    new_weights: Weights
    tight: bool
    never_negative: frozenset[str] = frozenset()
    factors: Mapping[str, Factors] = field(default_factory=dict)
    along: int | None = None

    @property
    def roundings(self) -> float:
        """How often a weight may have been rounded."""
        if not self.tight:
            return _ROUNDINGS
        # What an operator makes of stored numbers, a DequantizeLinear, say, it rounds, too.
        stored = reads_stored_weights(self.old) and reads_stored_weights(self.new)
        return _ONCE if stored else 2 * _ONCE

    def compare_rounds(
        self, sizes: Mapping[str, tuple[int, ...]], seed: int, rounds: int, *, stacked: bool
    ) -> Finding:
        """Return the worst of several sets of samples; see `compare`."""
        findings = (
            self.compare(batches(sizes, each, stacked=stacked))
            for each in range(seed, seed + rounds)
        )
        return max(findings, key=lambda finding: finding.fraction)

    def compare(self, inputs: Iterable[Mapping[str, Array]]) -> Finding:
        """Return the worst of several inputs, of which one is looked at after the other.

        Raises:
            EvaluationError: The original's region cannot be computed for such inputs.
        """
        allowed = self._allowed()
        underflow = self._underflow()
        worst, zero = Finding(0.0), True
        held_back: list[_Made] = []
        for batch in map(self._possible, inputs):
            made = self._made(batch, underflow)
            if isinstance(made, Finding):
                return made
            zero &= not made[0].any()
            if self.along is None:
                worst = max(worst, allowed.fraction(made), key=lambda f: f.fraction)
            else:
                held_back.append(made)
            del made  # before the next are made: those of pictures are large
        factors = None
        if self.along is not None:
            factors = factors_between(
                [m[0] for m in held_back], [m[1] for m in held_back], self.along
            )
            if factors is None:
                return Finding(math.inf, "no factors for its channels", comparable=False)
            findings = (allowed.fraction(made, factors) for made in held_back)
            worst = max((worst, *findings), key=lambda f: f.fraction)
        return replace(worst, limit=allowed.limit, zero=zero, factors=factors)

    def _made(
        self, batch: Mapping[str, Array], underflow: Mapping[str, Tracked] | None
    ) -> "_Made | Finding":
        """Return what both make of an input, or why that cannot be compared."""
        before = tracked_of(self.old, self.old_weights, batch)
        try:
            found = self._candidate(before.magnitude, underflow, self._multiplied(batch))
        except EvaluationError as error:
            note = f"the candidate's part cannot be computed: {error}"
            return Finding(math.inf, note, comparable=False)
        if before.value.shape != found[0].shape:
            shapes = f"{list(found[0].shape)} instead of {list(before.value.shape)}"
            return Finding(math.inf, f"of shape {shapes}")
        return (before.value, *found)

    def _allowed(self) -> "_Allowed":
        u = self._roundoff()
        terms = max((_terms(array) for array in self.old_weights.values.values()), default=1)
        evaluation = (2.0 * terms + 8.0) * 2.0**-53
        series = self._series()
        slack = _ROUNDINGS * series * u + evaluation
        return _Allowed(u, slack, (self.roundings * series * u + evaluation) / slack)

    def _multiplied(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return what enters the candidate's region."""
        some = {n: self.factors[n].times(a) for n, a in batch.items() if n in self.factors}
        return {**batch, **some}

    def weight_by_weight(self, held: Finding) -> Finding | None:
        """Return what the sums of a probe that held have hidden; see `proportion`."""
        merged = branches_merged(self.old, self.new)
        # Where it is tight it is known what was done.
        if not (self.tight or merged or weights_are_bound(self.old, self.new)):
            return None
        weights = self.old_weights, self.new_weights
        relative, tiny = self.roundings * self._roundoff() + 2.0**-50, _tiny(weights[1])
        # Some tools work where numbers below the smallest normal one are taken for zero.
        rounding = Rounding(relative, relative * tiny if self.tight else tiny, tiny)
        if merged:
            fraction, note = sums_differ(
                self.old, self.new, weights, rounding, tight=self.tight, multiplied=self.factors
            )
        else:
            fraction, note = disproportion(self.old, self.new, weights, rounding, self.factors)
        return Finding(fraction * held.limit, note, held.limit) if fraction > 1 else None

    def _roundoff(self) -> float:
        return max((unit_roundoff(dtype) for dtype in self.old_weights.dtypes), default=2.0**-24)

    def _possible(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        return {n: np.abs(a) if n in self.never_negative else a for n, a in batch.items()}

    def _candidate(
        self, magnitude: Array, underflow: Mapping[str, Tracked] | None, batch: Mapping[str, Array]
    ) -> tuple[Array, Array, Array | float]:
        """Return what the candidate computes, its magnitude, and what underflow adds to that.

        The magnitude is the original's, or the candidate's own where it is larger and it pads.
        """
        padding = brings_numbers_in(self.new) and self._is_like_a_fold()
        if not padding and underflow is None:
            return value_of(self.new, self.new_weights, batch), magnitude, 0.0
        after = tracked_of(self.new, self.new_weights, batch)
        extra: Array | float = 0.0
        if underflow is not None:
            more = tracked_of(self.new, self.new_weights, batch, underflow).magnitude
            extra = np.where(more > after.magnitude, more - after.magnitude, 0.0)
        if padding:
            alike = after.magnitude.shape == magnitude.shape
            magnitude = np.maximum(magnitude, after.magnitude) if alike else after.magnitude
        return after.value, magnitude, extra

    def _series(self) -> int:
        """Return how many rounded constants a value meets on its way.

        Where it is not known how it was folded, every normalization was perhaps folded by itself.
        """
        series = roundings_in_series(self.new, self._changed())
        if self.tight:
            return series
        before, after = (normalizations_in_series(cone) for cone in (self.old, self.new))
        return max(series, before - after)

    def _underflow(self) -> dict[str, Tracked] | None:
        """Return the candidate's constants with the magnitudes that underflow gives them."""
        if not self._is_like_a_fold():
            return None
        return lifted(self.new_weights, self.old_weights, _tiny(self.new_weights))

    def _is_like_a_fold(self) -> bool:
        """Tell whether the candidate's own magnitudes may count for anything.

        It begins where the original does, and has no more linear operators in a row. Something else
        could be so much larger that its rounding covers all.
        """
        within = set(self.new.leaves) <= set(self.old.leaves)
        return within and linear_depth(self.new) <= linear_depth(self.old)

    def _changed(self) -> frozenset[str]:
        """Return the constants of the candidate that the original does not have so."""
        old = self.old_weights.values
        return frozenset(
            name
            for name, array in self.new_weights.values.items()
            if name not in old or not identical(old[name], array)
        )


def _tiny(weights: Weights) -> float:
    """Return the largest number that is the smallest normal one of a stored dtype."""
    return max(map(smallest_normal, weights.dtypes), default=0.0)


def _terms(weight: Array) -> int:
    """Return the number of terms in the sums that a weight can be part of, at most."""
    lengths = (*weight.shape[:2], weight.size)
    return max(int(weight.size // max(length, 1)) for length in lengths)
