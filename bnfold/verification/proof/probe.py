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
cancel at the border, each rounded by itself; so there the larger of the two magnitudes counts. So
do the bounds of a Clip that a shift has passed, and the bias that takes it back.

The bound is about sums: behind a kernel of 4608 weights a relative error of 10⁻⁵ drowns in it
when all inputs are alike. So most inputs are sparse: together they have an element of every
channel, and each has few, so that a window sees few weights at a time; and they are large, so that
the biases do not cover the weights. One is zero, so that the biases stand alone.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from bnfold.frozen import frozen
from bnfold.verification.dtypes import unit_roundoff
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import EvaluationError, UnsupportedError
from bnfold.verification.proof.bound import Sides
from bnfold.verification.proof.comparing import MixedError, Pair
from bnfold.verification.proof.computing import weights_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.demands import demanded, merged
from bnfold.verification.proof.facts import (
    Cast,
    casts,
    check_provable,
    is_only_measured,
    kept,
    scales,
    treats_samples_alike,
)
from bnfold.verification.proof.finding import Finding
from bnfold.verification.proof.receptive_field import far_counts, reach, steps, tells_apart
from bnfold.verification.proof.samples import ALL, PAIR, VOLUME, Sizes, channel_hints, trials
from bnfold.verification.proof.scaling import NOTHING_MULTIPLIED, Multiplied

_TRIALS = 48
_ROUNDS = 4
"""Sets of samples to compare where samples are restricted, and so show less."""
_HALF = 2.0**-11
"""Unit roundoff of half precision."""
_UNCUT = 1 << 40
"""A step longer than any axis: no axis can be cut down by a multiple of it."""
_SECOND = 8
"""How many sizes are tried to find a second one for which the original can be computed."""


def probe(
    old: Cone,
    new: Cone,
    shapes: Mapping[str, Shape],
    seed: int,
    *,
    tight: bool = False,
    never_negative: frozenset[str] = frozenset(),
    multiplied: Multiplied = NOTHING_MULTIPLIED,
    free: Mapping[str, Shape] | None = None,
) -> Finding:
    """Compare a region of the original with the candidate's.

    Args:
        old: The region in the original.
        new: The region in the candidate.
        shapes: The known shapes of the tensors that enter, by name.
        seed: Seed of the inputs.
        tight: Allow one rounding per weight only, as bnfold promises it.
        never_negative: Names of the tensors that enter and have no element below zero.
        multiplied: Which tensors of the candidate's region are the original's times factors.
        free: The shapes that the file tells, where the model takes any length for a dimension that
            it does not tell; None where it has one length, which is merely not stated.

    Returns:
        The largest error as a fraction of the bound, and for which shapes that holds.

    Raises:
        EvaluationError: The region of the original cannot be computed here, or its output shows
            nothing.
    """
    for cone in (old, new):
        check_provable(cone, multiplied=bool(multiplied.entering))
    unlike = casts_unlike(old, new)
    if unlike is not None:
        return unlike
    pair = Pair(
        old, new, (weights_of(old), weights_of(new)),
        tight=tight, never_negative=never_negative, multiplied=multiplied,
    )  # fmt: skip
    if (unlike := kept_unlike(pair)) is not None:
        return unlike
    search = Search.of(pair, shapes, seed, free=free)
    found = search.result()
    if not found.held:
        return found
    return pair.weight_by_weight(found) or replace(found, only=found.only or search.tried_only())


def casts_unlike(old: Cone, new: Cone) -> Finding | None:
    """Return a finding if the Casts of both regions differ; a probe in float64 does not see that.

    None if they agree, or differ in nothing that rounds more coarsely than the region does.

    Raises:
        UnsupportedError: A Cast that rounds has no counterpart, which need not be wrong.
    """
    before, after = casts(old), casts(new)
    if before == after:
        return None
    added, gone = after - before, before - after
    targets = [Counter(cast.target for cast in some.elements()) for some in (added, gone)]
    if added and targets[0] == targets[1]:
        said = [dict(next(iter(some)).how) or "nothing" for some in (added, gone)]
        return Finding(math.inf, f"a Cast says {said[0]} instead of {said[1]}")
    least = _coarsest(before, old)
    here = _coarsest(added)
    # Of a region without weights it is not known in what type it computes: half precision, perhaps.
    if here > max(least, _HALF):
        return Finding(math.inf, "the candidate rounds to a type that the original does not have")
    if added:
        raise UnsupportedError("the candidate casts what the original does not")
    if _coarsest(gone) > _coarsest(after, new):
        raise UnsupportedError("the candidate leaves out a Cast, which rounds in the original")
    return None


def kept_unlike(sides: Sides) -> Finding | None:
    """Return a finding if both regions have an operator whose slope, say, is another one.

    Of half precision the bound allows more than that may change. None where one of the regions has
    more such operators than the other: then they do not correspond.
    """
    before = kept(sides.old, sides.old_weights.values)
    after = kept(sides.new, sides.new_weights.values)
    for op_type in before.keys() & after.keys():
        mine, theirs = before[op_type], after[op_type]
        if mine != theirs and mine.total() == theirs.total():
            (called, _), *_ = theirs - mine
            return Finding(math.inf, f"the {called} of a {op_type} is not the original's")
    return None


def _coarsest(some: "Counter[Cast]", cone: Cone | None = None) -> float:
    """Return the largest unit roundoff of Casts and of the weights of a region, if one is given."""
    found = [cast.roundoff for cast in some]
    if cone is not None:
        found += map(unit_roundoff, weights_of(cone).dtypes)
    return max(found, default=0.0)


@frozen
class Search:
    """Looks for sizes at which the two regions can be compared.

    Attributes:
        pair: The regions.
        leaves: Names of the tensors that enter either.
        shapes: Their known shapes.
        demands: The shapes that the nodes which read them demand.
        seed: Seed of the inputs.
        free: The shapes that the file tells, where any length is taken for what it does not tell.
    """

    pair: Pair
    leaves: tuple[str, ...]
    shapes: Mapping[str, Shape]
    demands: Mapping[str, Shape]
    seed: int
    free: Mapping[str, Shape] | None

    @classmethod
    def of(
        cls, pair: Pair, shapes: Mapping[str, Shape], seed: int, *, free: Mapping[str, Shape] | None
    ) -> Self:
        """Return a search, given the known shapes of all tensors."""
        leaves = tuple(dict.fromkeys((*pair.old.leaves, *pair.new.leaves)))
        known = {leaf: shapes[leaf] for leaf in leaves if leaf in shapes}
        demands = {
            **demanded(pair.new, pair.new_weights, known),
            **demanded(pair.old, pair.old_weights, known),
        }
        # An axis of factors is not cut down.
        for leaf, factors in pair.multiplied.entering.items():
            fixed: list[int | None] = [None] * len(shapes[leaf])
            fixed[factors.axis] = factors.values.size
            demands[leaf] = merged(demands.get(leaf), tuple(fixed))
        # Nor is any axis of what is only measured: one of the models may have stored its length.
        for leaf, shape in known.items():
            if all(is_only_measured(cone, leaf) for cone in (pair.old, pair.new)):
                demands[leaf] = merged(demands.get(leaf), shape)
        return cls(pair, leaves, known, demands, seed, free)

    def result(self) -> Finding:
        """Return the finding for the first sizes at which the output depends on the input.

        Where lengths are free, a second size is compared, of other parity.

        Raises:
            EvaluationError: At no size that was tried can the original be computed, or its output
                depends on its input.
        """
        reason = EvaluationError("no shapes for its inputs were found")
        empty = False
        tries = self.tries()
        for sizes in tries:
            try:
                finding = self._compared(sizes)
            except UnsupportedError:
                raise
            except EvaluationError as error:
                reason = error
                continue
            if not finding.held:
                return self._at_declared_shapes() or finding
            if not finding.evident:
                empty = True
            elif self.lengths_are_free and not self.pair.is_general:
                return self._twice(sizes, finding, tries)
            else:
                return finding
        if empty and (declared := self._at_declared_shapes()) is not None:
            return declared
        raise _nothing_shows() if empty else reason

    def tries(self) -> "Iterator[Sizes]":
        """Yield sizes to try.

        Raises:
            UnsupportedError: No sizes show how the two differ.
        """
        old, new = self.pair.old, self.pair.new
        hints = channel_hints(old, self.pair.old_weights)
        apart = tells_apart(old, new, self.pair.weights)
        least = dict.fromkeys(self.leaves, apart)
        for wanted in map(reach, (old, new), self.pair.weights):
            least |= {leaf: max(length, least[leaf]) for leaf, length in wanted.items()}
        # Where the models calculate with known lengths, only those lengths themselves test that.
        step = _UNCUT if apart else math.lcm(steps(old), steps(new))
        both = self.lengths_are_free and not self.pair.is_general
        tried = (
            trials(self.leaves, shapes, self.demands, hints, least, step=step, both=both)
            for shapes in (*self._of_one_sample(), self.shapes)
        )
        return itertools.islice(itertools.chain.from_iterable(tried), _TRIALS)

    def _of_one_sample(self) -> Iterator[Mapping[str, Shape]]:
        """Yield the shapes with one sample of many, if that says as much as all of them.

        A graph has a hundred thousand nodes, say. What has fewer axes than the others is the same
        for all samples.
        """
        if any(leaf not in self.shapes for leaf in self.leaves):
            return
        rank = max(map(len, self.shapes.values()), default=0)
        many = {
            leaf: (1, *shape[1:])
            for leaf, shape in self.shapes.items()
            if len(shape) == rank
            and any(length is not None and length > 1 for length in shape[:1])
            and self.demands.get(leaf, (None,))[:1] == (None,)
        }
        pair = self.pair
        sides = (pair.old, pair.old_weights), (pair.new, pair.new_weights)
        if many and all(treats_samples_alike(cone, w.values, rank) for cone, w in sides):
            yield {**self.shapes, **many}

    def _compared(self, sizes: "Sizes") -> Finding:
        """Return the finding for samples in a batch or, where that fails, for one at a time."""
        # Inputs without negative elements close more Relus, so that one set of samples sees less.
        rounds = _ROUNDS if self.pair.never_negative else 1
        finding, mixed = None, False
        try:
            finding = self.pair.compare_rounds(sizes, self.seed, rounds, together=ALL)
        except UnsupportedError:
            raise
        except MixedError:
            mixed = True
        except EvaluationError:
            pass
        if mixed or (finding is not None and finding.held and not finding.evident):
            # A Slice along axis 0 may take nothing of many samples, and something of two.
            finding = self._of_two(sizes, rounds)
        certain = self.pair.is_general and None not in self._known and not mixed
        shown = finding is not None and finding.held and finding.evident and not mixed
        if finding is not None and (shown or certain):
            return finding
        alone = self.pair.compare_rounds(sizes, self.seed, rounds, together=1)
        if finding is None or finding.held:
            both = (alone,) if finding is None else (alone, finding)
            return max(both, key=lambda each: (not each.held, each.evident))
        if alone.held and self._batch_is_free:
            return replace(alone, only=f"a batch of 1 only ({finding.note} for another)")
        return alone if alone.held else finding

    def _of_two(self, sizes: "Sizes", rounds: int) -> Finding | None:
        """Return the finding for samples in twos; None where that cannot be computed."""
        try:
            return self.pair.compare_rounds(sizes, self.seed, rounds, together=PAIR)
        except UnsupportedError:
            raise
        except EvaluationError:
            return None

    def _twice(self, first: "Sizes", finding: Finding, tries: "Iterator[Sizes]") -> Finding:
        """Return a finding for even and odd lengths; its `only` says so if it holds for one kind.

        A stride of 2 treats the two differently.
        """
        for sizes in itertools.islice(tries, _SECOND):
            if _parities(first) == _parities(sizes):
                continue
            try:
                second = self._compared(sizes)
            except EvaluationError:
                continue
            if not second.evident:
                continue
            if not second.held:
                some = ", ".join(f"{list(shape)}" for shape in first.values())
                return replace(finding, only=f"some lengths, as for {some} ({second.note})")
            worse = max(finding, second, key=lambda each: each.fraction)
            return replace(worse, only=finding.only or second.only)
        return finding

    def _at_declared_shapes(self) -> Finding | None:
        """Compare once more with the shapes that the model declares; None if it declares none.

        Some tools write declared shapes into the model as constants, of a Reshape, say. Then the
        two models differ for all other shapes, and neither is wrong.
        """
        sizes: dict[str, tuple[int, ...]] = {}
        for leaf in self.leaves:
            shape = self.shapes.get(leaf, (None,))
            if None in shape:
                return None
            sizes[leaf] = tuple(dim for dim in shape if dim is not None)
        if self.pair.is_general or sum(map(math.prod, sizes.values())) > VOLUME:
            return None
        try:
            # A sample of a large input has relatively fewer nonzero elements.
            finding = self.pair.compare_rounds(sizes, self.seed, _ROUNDS, together=1)
        except EvaluationError:
            return None
        if not finding.evident:
            raise _nothing_shows()
        return finding

    def tried_only(self) -> str:
        """Say for which lengths alone the finding holds; nothing where it is for all.

        Short lengths show neither by what lengths are multiplied nor how many elements are left out
        far from where an axis begins.
        """
        if self.free is None or all(None not in self.free.get(n, (None,)) for n in self.leaves):
            return ""
        sides = (self.pair.old, self.pair.old_weights), (self.pair.new, self.pair.new_weights)
        mine, theirs = (scales(cone, weights.values) for cone, weights in sides)
        if mine - theirs and theirs - mine:
            after, before = (
                ", ".join(f"{number:.9g}" for number in next(each.elements()))
                for each in (theirs - mine, mine - theirs)
            )
            return f"the lengths that were tried (scales are {after} instead of {before})"
        counts, others = (far_counts(*side) for side in sides)
        if counts != others:
            number = next(iter((others - counts) | (counts - others)))
            return f"the lengths that were tried (elements are counted up to {number} in one only)"
        return ""

    @property
    def _batch_is_free(self) -> bool:
        """Whether axis 0 of some leaf is a batch of any size."""
        firsts = [shape is None or shape[:1] == (None,) for shape in self._known]
        return self.free is not None and any(firsts)

    @property
    def lengths_are_free(self) -> bool:
        """Whether some leaf may have any length along an axis other than axis 0."""
        return self.free is not None and any(
            shape is None or None in shape[1:] for shape in self._known
        )

    @property
    def _known(self) -> "list[Shape | None]":
        """The shape of each leaf, as far as it is known or demanded; None without a rank."""
        return [
            merged(self.shapes.get(leaf), self.demands[leaf])
            if leaf in self.demands
            else self.shapes.get(leaf)
            for leaf in self.leaves
        ]


def _parities(sizes: Mapping[str, Sequence[int]]) -> list[int]:
    return [length % 2 for shape in sizes.values() for length in shape]


def _nothing_shows() -> EvaluationError:
    return EvaluationError(
        "its output has no elements, or depends on nothing that enters, at any size that was tried"
    )
