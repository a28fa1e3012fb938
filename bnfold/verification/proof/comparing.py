"""One region of both models on given inputs: how far apart they are, as a fraction of the bound.

See `probe` for the bound.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from bnfold.verification.difference import times_the_bound
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.chunks import in_step
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.bound import Bound, Sides
from bnfold.verification.proof.channels import channel_axis
from bnfold.verification.proof.computing import (
    Weights,
    tracked_in_chunks,
    tracked_of,
    value_in_chunks,
    value_of,
)
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.evidence import Evidence, digest_of, nothing_in
from bnfold.verification.proof.facts import (
    brings_numbers_in,
    integer_inputs,
    is_alike_for_all_shapes,
    keeps_samples_apart,
    scale_matters,
    several_compete,
    table_rows,
)
from bnfold.verification.proof.finding import Finding, Made
from bnfold.verification.proof.proportion import (
    branches_merged,
    disproportion,
    weights_are_bound,
)
from bnfold.verification.proof.receptive_field import windows
from bnfold.verification.proof.samples import (
    PAIR,
    Sizes,
    as_integers,
    batches,
    of_all_rows,
    of_all_sizes,
    of_any_size,
    of_one_sign,
)
from bnfold.verification.proof.scaling import (
    NOTHING_MULTIPLIED,
    Multiplied,
    Sample,
    factors_between,
    plausible_axes,
)
from bnfold.verification.proof.summation import sums_differ

_MAY_GROW = 1 << 15
"""The fewest elements of a sample from which large tensors may be computed."""
_FEW_SHIFTS = 8
"""Of so many numbers it is tried what lies around them."""
_KEPT = 1 << 20
"""The most elements of constants whose magnitudes are kept from one sample to the next."""
_NOISE = 1e-9
"""What float64 may be off by, relative to a number, where it was computed in another order."""


class MixedError(EvaluationError):
    """Samples that are stacked have to do with one another."""


class Pair(Sides):
    """A region of the original, the candidate's, and what is known of both; facts are cached.

    Attributes:
        bound: How far they may be apart.
        never_negative: Names of the leaves that have no element below zero.
        multiplied: Which tensors of the candidate's region are the original's times factors.
    """

    def __init__(
        self,
        old: Cone,
        new: Cone,
        weights: tuple[Weights, Weights],
        *,
        tight: bool,
        never_negative: frozenset[str] = frozenset(),
        multiplied: Multiplied = NOTHING_MULTIPLIED,
    ) -> None:
        super().__init__(old, new, weights)
        self.bound = Bound(old, new, weights, tight=tight)
        self.never_negative = never_negative
        self.multiplied = multiplied

    @cached_property
    def is_general(self) -> bool:
        """Whether a bound that holds for one shape holds for all shapes, and for each sample."""
        return (
            is_alike_for_all_shapes(self.old)
            and is_alike_for_all_shapes(self.new)
            and windows(self.old, self.old_weights) == windows(self.new, self.new_weights)
        )

    def compare_rounds(self, sizes: Sizes, seed: int, rounds: int, *, together: int) -> Finding:
        """Return the worst finding for several sets of samples, up to the first that fails.

        Args:
            sizes: The shape of each leaf.
            seed: Seed of the first set; each further one has the next.
            rounds: The number of sets, at least 1.
            together: How many samples of a set may be stacked along axis 0; ALL, 2, or 1.
        """
        worst: Finding | None = None
        many = together > PAIR and all(shape[:1] == (1,) for shape in sizes.values())
        large = sum(map(math.prod, sizes.values())) >= _MAY_GROW and self._has_few_constants
        for each in range(seed, seed + rounds):
            draw = partial(self.inputs, sizes, each, together=together)
            finding = self._held_in_chunks(draw()) if large else None
            if finding is None:
                finding = self.compare(draw(), stacked=many)
            if worst is None or finding.fraction > worst.fraction:
                worst = finding
            if not finding.held:
                break
        assert worst is not None  # noqa: S101 - there is one round at least
        return worst

    def inputs(self, sizes: Sizes, seed: int, *, together: int) -> Iterator[Mapping[str, Array]]:
        """Yield the samples of one set, made possible where not every number is."""
        yield from map(self._possible, batches(sizes, seed, together=together))
        yield from of_all_rows(sizes, self._table_rows, together=together)
        whole = integer_inputs(self.old)
        yield from filter(self._can_enter, of_any_size(sizes, whole, seed))
        if several_compete(self.old) or several_compete(self.new):
            yield from map(self._possible, of_one_sign(sizes, seed))
        if scale_matters(self.old) or scale_matters(self.new):
            yield from map(self._possible, of_all_sizes(sizes, seed, self._shifts))

    def compare(self, inputs: Iterable[Mapping[str, Array]], *, stacked: bool = False) -> Finding:
        """Return the worst finding for several inputs, which are computed one after the other.

        Args:
            inputs: For each, the arrays of all leaves by name, float64.
            stacked: Whether they are many samples along axis 0, of which the first is zero.

        Raises:
            EvaluationError: The original's region cannot be computed for such inputs.
            MixedError: Samples that are stacked have to do with one another.
        """
        bound, allowed = self.bound, self.bound.allowed()
        underflow, parts = bound.underflow(), bound.parts()
        kept = bound.sizes(parts) if self._has_few_constants else None
        worst, zero = Finding(0.0), True
        held_back: list[Made] = []
        evidence = Evidence(self.old, self.old_weights, certain=self.is_general)
        telling: Made | None = None
        nothing: Mapping[str, Array] = {}
        for number, batch in enumerate(inputs):
            made = self._made(batch, underflow, kept or partial(bound.sizes, parts), allowed.slack)
            if isinstance(made, Finding):
                return made
            if stacked and not number and self._mixes(batch, made[0]):
                raise MixedError("samples that are stacked meet")
            zero &= not made[0].any()
            evidence.look_at(batch, made[0])
            if self.multiplied.along is None:
                found = allowed.fraction(made)
                if found.fraction > worst.fraction:
                    worst, telling = found, made if found.fraction > allowed.limit else None
                    nothing = {} if telling is None else nothing_in(batch)
            else:
                held_back.append(made)
            del made  # before the next are made: those of pictures are large
        factors = None
        if self.multiplied.along is not None and not evidence.empty:
            factors = factors_between(
                [Sample(*each) for each in held_back],
                self.multiplied.along,
                shifted=self.multiplied.shifted,
            )
            if factors is None:
                return Finding(math.inf, "no factors for its channels", comparable=False)
            findings = (allowed.fraction(made, factors) for made in held_back)
            worst = max((worst, *findings), key=lambda f: f.fraction)
        along = () if telling is None else plausible_axes(Sample(*telling))
        if worst.fraction > allowed.limit:
            worst = self._located(worst, nothing)
        return replace(
            worst, limit=allowed.limit, zero=zero, factors=factors, along=along,
            evident=evidence.suffices(),
        )  # fmt: skip

    def _held_in_chunks(self, inputs: Iterable[Mapping[str, Array]]) -> Finding | None:
        """Return the finding for samples of which large tensors may be made, in little room.

        The outputs are computed and compared chunk by chunk. None where the bound does not hold, or
        the output may depend on nothing that enters: to find out more is for `compare`.
        """
        if self.multiplied.along is not None:
            return None
        bound, allowed = self.bound, self.bound.allowed()
        underflow, sizes = bound.underflow(), bound.sizes(bound.parts())
        worst, zero, seen = 0.0, True, set[bytes]()
        try:
            for batch in inputs:
                if count_of(batch) > 1 and not keeps_samples_apart(self.old):
                    return None
                digest = hashlib.sha256()
                for made in self._chunks(batch, underflow, sizes, allowed.slack):
                    worst = max(worst, allowed.fraction(made).fraction)
                    if worst > allowed.limit or not made[0].size:
                        return None
                    zero &= not made[0].any()
                    digest.update(digest_of(made[0]))
                seen.add(digest.digest())
        except EvaluationError:
            return None
        shows = self.is_general or len(seen) > 1
        return Finding(worst, limit=allowed.limit, zero=zero) if shows else None

    def _chunks(
        self,
        batch: Mapping[str, Array],
        underflow: Mapping[str, Tracked] | None,
        sizes: Mapping[str, Tracked],
        slack: float,
    ) -> Iterator[Made]:
        """Yield what both regions make of an input, chunk by chunk."""
        given = self._multiplied(batch)
        before = tracked_in_chunks(self.old, self.old_weights, batch, sizes, slack)
        if underflow is None and not self._pads:
            value = value_in_chunks(self.new, self.new_weights, given)
            for mine, theirs in in_step(before, value):
                yield mine.value, theirs, mine.magnitude, 0.0
            return
        lifts = [] if underflow is None else [underflow]
        after = (
            tracked_in_chunks(self.new, self.new_weights, given, some, slack)
            for some in (self.bound.sizes_of_candidate(), *lifts)
        )
        for mine, theirs, *lifted in in_step(before, *after):
            yield mine.value, *self._judged(mine.magnitude, theirs, *lifted)

    def _located(self, broken: Finding, nothing: Mapping[str, Array]) -> Finding:
        """Add where a difference is: its channel, and in words."""
        if broken.place is None:
            return broken
        axis = channel_axis(self.new, self.new_weights.values)
        index = broken.place.index
        known = axis is not None and -len(index) <= axis < len(index)
        place = replace(
            broken.place,
            nothing=nothing,
            channel=index[axis] if known and axis is not None else None,
        )
        if broken.note:
            return replace(broken, place=place)
        return replace(broken, place=place, note=f"{place}, {times_the_bound(broken.times)}")

    def _mixes(self, batch: Mapping[str, Array], value: Array) -> bool:
        """Tell whether the first of many stacked samples, zero, is another when it is alone.

        In what is summed up over the batch, say, the largest sample would cover all others.
        """
        if not batch or keeps_samples_apart(self.old):
            return False
        count = count_of(batch)
        if count == 1:  # it is alone: to compute it again would take as much room as before
            return not stands_alone(value, value, count)
        try:
            alone = value_of(self.old, self.old_weights, first_of(batch))
        except EvaluationError:
            return True
        return not stands_alone(alone, value, count)

    def _made(
        self,
        batch: Mapping[str, Array],
        underflow: Mapping[str, Tracked] | None,
        sizes: Mapping[str, Tracked] | Callable[[], Mapping[str, Tracked]],
        slack: float,
    ) -> Made | Finding:
        """Return both outputs for an input, or a finding that says why they cannot be compared."""
        # Large ones take as much room as the weights: here they are gone before the candidate's.
        known = sizes() if callable(sizes) else sizes
        before = tracked_of(self.old, self.old_weights, batch, known, slack)
        del known
        try:
            found = self._candidate(before.magnitude, underflow, self._multiplied(batch), slack)
        except EvaluationError as error:
            note = f"the candidate's part cannot be computed: {error}"
            return Finding(math.inf, note, comparable=False)
        if before.value.shape != found[0].shape:
            shapes = f"{list(found[0].shape)} instead of {list(before.value.shape)}"
            return Finding(math.inf, f"of shape {shapes}")
        return (before.value, *found)

    def _multiplied(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the inputs of the candidate's region: the original's, some times their factors."""
        factors = self.multiplied.entering
        some = {n: factors[n].of(a) for n, a in batch.items() if n in factors}
        return {**batch, **some}

    def weight_by_weight(self, held: Finding) -> Finding | None:
        """Return a finding about a weight whose error a probe's sums hide; None if there is none.

        See `proportion` and `summation`. Nothing is said of weights that need not be multiples.
        """
        merged = branches_merged(self.old, self.new)
        # A fold that promises one rounding per weight is known to be a fold; elsewhere weights may
        # have changed in ways that are right and yet no multiples of the original's.
        if not (self.bound.tight or merged or weights_are_bound(self.old, self.new)):
            return None
        rounding = self.bound.of_weights(summed=merged)
        entering = self.multiplied.entering
        if merged:
            excess = sums_differ(
                self.old, self.new, self.weights, rounding,
                tight=self.bound.tight, multiplied=entering, factors=held.factors,
            )  # fmt: skip
        else:
            excess = disproportion(self.old, self.new, self.weights, rounding, entering)
        if excess.fraction <= 1:
            return None
        note = f"{excess.note}: {excess.fraction:.3g} times what rounding may make of it"
        return Finding(excess.fraction * held.limit, note, held.limit, excess=excess)

    @cached_property
    def _table_rows(self) -> Mapping[str, int]:
        """From how many rows each integer input chooses, where the tables are not the same."""
        whole = integer_inputs(self.old)
        if not whole or self.bound.is_exact:
            return {}
        rows = table_rows(self.old, self.old_weights.values)
        return {leaf: count for leaf, count in rows.items() if leaf in whole}

    def _possible(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        integers = integer_inputs(self.old)
        possible = {n: np.abs(a) if n in self.never_negative else a for n, a in batch.items()}
        return possible | {
            name: as_integers(batch[name], dtype)
            for name, dtype in integers.items()
            if name in batch
        }

    def _can_enter(self, batch: Mapping[str, Array]) -> bool:
        """Tell whether the original's region can be computed for an input."""
        try:
            value_of(self.old, self.old_weights, batch)
        except EvaluationError:
            return False
        return True

    def _candidate(
        self,
        magnitude: Array,
        underflow: Mapping[str, Tracked] | None,
        batch: Mapping[str, Array],
        slack: float,
    ) -> tuple[Array, Array, Array | float]:
        """Return the candidate's output, the magnitude, and what underflow adds to the latter.

        The magnitude is the original's, or the candidate's own where it is larger and it pads.
        """
        if not self._pads and underflow is None:
            return value_of(self.new, self.new_weights, batch), magnitude, 0.0
        sizes = self.bound.sizes_of_candidate()
        after = tracked_of(self.new, self.new_weights, batch, sizes, slack)
        if underflow is None:
            return self._judged(magnitude, after)
        lifted = tracked_of(self.new, self.new_weights, batch, underflow, slack)
        return self._judged(magnitude, after, lifted)

    def _judged(
        self, magnitude: Array, after: Tracked, lifted: Tracked | None = None
    ) -> tuple[Array, Array, Array | float]:
        extra = growth(after, lifted) if lifted else 0.0
        if self._pads:
            alike = after.magnitude.shape == magnitude.shape
            magnitude = np.maximum(magnitude, after.magnitude) if alike else after.magnitude
        return after.value, magnitude, extra

    @cached_property
    def _shifts(self) -> tuple[float, ...]:
        """The numbers that stand by themselves in either region, a few."""
        known = (*self.old_weights.values.values(), *self.new_weights.values.values())
        single = {float(array.reshape(-1)[0]) for array in known if array.size == 1}
        return tuple(sorted(filter(math.isfinite, single))[:_FEW_SHIFTS])

    @cached_property
    def _has_few_constants(self) -> bool:
        """Whether there is room to keep the magnitudes of its constants."""
        return sum(array.size for array in self.old_weights.values.values()) <= _KEPT

    @cached_property
    def _pads(self) -> bool:
        """Whether the candidate's own magnitude counts where it is larger than the original's."""
        return brings_numbers_in(self.new) and self.bound.is_like_a_fold()


def growth(made: Tracked, lifted: Tracked) -> Array:
    """Return by how much a magnitude is larger where constants were lifted."""
    more = lifted.magnitude - made.magnitude
    return np.where(lifted.magnitude > made.magnitude, more, 0.0)


def count_of(batch: Mapping[str, Array]) -> int:
    """Return how many samples are stacked, where they are."""
    return next((len(array) for array in batch.values() if array.ndim), 1)


def first_of(batch: Mapping[str, Array]) -> dict[str, Array]:
    """Return the first of stacked samples."""
    return {name: array[:1] for name, array in batch.items()}


def stands_alone(alone: Array, value: Array, count: int) -> bool:
    """Tell whether the output for the first of `count` stacked samples is what it is alone."""
    rows = alone.shape[0] if alone.ndim else 0
    if not rows or value.shape != (count * rows, *alone.shape[1:]):
        return False
    return alone is value or np.allclose(value[:rows], alone, rtol=_NOISE, atol=0, equal_nan=True)
