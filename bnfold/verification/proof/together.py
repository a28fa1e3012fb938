"""Probing the outputs of a region together: what leads to several of them is computed once.

Behind each layer of a dense block all layers before it are joined, so most of what leads to one
output leads to the next, too. Each output is held to the bound that it has by itself. Where that is
not the bound of all of them together, or anything but a clear success comes of it, nothing is said
of an output here: it is to be probed by itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.bound import Bound
from bnfold.verification.proof.comparing import (
    Pair,
    count_of,
    first_of,
    growth,
    stands_alone,
)
from bnfold.verification.proof.computing import all_tracked, values_of, weights_of
from bnfold.verification.proof.cone import Cone, joined
from bnfold.verification.proof.evidence import Evidence
from bnfold.verification.proof.facts import (
    brings_numbers_in,
    check_provable,
    keeps_samples_apart,
    parameters,
)
from bnfold.verification.proof.finding import Allowed, Finding, Made
from bnfold.verification.proof.probe import Search, casts_unlike, kept_unlike
from bnfold.verification.proof.proportion import are_paired, branches_merged
from bnfold.verification.proof.samples import ALL, Sizes

Cones = tuple[Cone, Cone]
"""What an output is computed from in the original, and in the candidate."""


def probe_together(
    cones: Sequence[Cones],
    shapes: Mapping[str, Shape],
    seed: int,
    *,
    free: Mapping[str, Shape] | None,
) -> dict[str, Finding]:
    """Probe several outputs of one region, whose weights were rounded once; see `probe`.

    Args:
        cones: What each output is computed from, in the order of computation.
        shapes: The known shapes of tensors, by name.
        seed: Seed of the inputs.
        free: The shapes that the file tells, where any length is taken for what it does not tell.

    Returns:
        The findings for those of which the bound certainly holds, by their names.
    """
    try:
        bundle = _bundle(cones)
        if bundle is None:
            return {}
        search = Search.of(bundle.whole, shapes, seed, free=free)
        if (search.lengths_are_free and not bundle.whole.is_general) or search.tried_only():
            return {}
        return bundle.held(next(search.tries()), seed)
    except (EvaluationError, StopIteration):
        return {}


class _Look:
    """What an output has shown so far.

    Attributes:
        pair: What leads to it.
        worst: The largest difference, as a fraction of the bound.
        evidence: Whether it depends on what enters.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair, self.worst = pair, 0.0
        self.evidence = Evidence(pair.old, pair.old_weights, certain=pair.is_general)

    def at(self, batch: Mapping[str, Array], made: Made, allowed: Allowed) -> None:
        """Take in what both models make of an input."""
        self.evidence.look_at(batch, made[0])
        alike = made[0].shape == made[1].shape
        self.worst = max(self.worst, allowed.fraction(made).fraction if alike else math.inf)


@frozen
class _Bundle:
    """Outputs of a region that are held to the same bound.

    Attributes:
        pairs: What leads to each of them.
        whole: What leads to any.
    """

    pairs: tuple[Pair, ...]
    whole: Pair

    def held(self, sizes: Sizes, seed: int) -> dict[str, Finding]:
        """Return the findings for outputs that are within the bound, and show something.

        Raises:
            EvaluationError: The region cannot be computed with these sizes.
        """
        whole, bound = self.whole, self.whole.bound
        allowed, underflow = bound.allowed(), bound.underflow()
        looks, magnitudes = [_Look(pair) for pair in self.pairs], whole.old_weights.tracked()
        stacked = all(shape[:1] == (1,) for shape in sizes.values())
        for number, batch in enumerate(whole.inputs(sizes, seed, together=ALL)):
            made = self._made(batch, magnitudes, underflow, allowed.slack)
            alone = self._alone(batch) if stacked and not number else None
            for look, each in zip(looks, made, strict=True):
                if alone is not None and not stands_alone(next(alone), each[0], count_of(batch)):
                    raise EvaluationError("samples that are stacked meet")
                look.at(batch, each, allowed)
        if whole.weight_by_weight(Finding(0.0, limit=allowed.limit)) is not None:
            return {}
        return {
            look.pair.old.output: Finding(look.worst, limit=allowed.limit)
            for look in looks
            if look.worst <= allowed.limit and look.evidence.suffices()
        }

    def _made(
        self,
        batch: Mapping[str, Array],
        sizes: Mapping[str, Tracked],
        underflow: Mapping[str, Tracked] | None,
        slack: float,
    ) -> Iterator[Made]:
        """Yield both values of each output for an input, the magnitude, and underflow's share."""
        olds, news = self._cones
        before = all_tracked(olds, self.whole.old_weights, batch, sizes, slack)
        if underflow is None:
            after = values_of(news, self.whole.new_weights, batch)
            for old, new in zip(olds, news, strict=True):
                known = before.output(old)
                yield known.value, after.output(new), known.magnitude, 0.0
            return
        usual, lifted = (
            all_tracked(news, self.whole.new_weights, batch, some) for some in (None, underflow)
        )
        for old, new in zip(olds, news, strict=True):
            known, made = before.output(old), usual.output(new)
            yield known.value, made.value, known.magnitude, growth(made, lifted.output(new))

    def _alone(self, batch: Mapping[str, Array]) -> Iterator[Array] | None:
        """Yield the original's outputs for the first of stacked samples; None if none meet."""
        if not batch or keeps_samples_apart(self.whole.old):
            return None
        olds, _ = self._cones
        return map(values_of(olds, self.whole.old_weights, first_of(batch)).output, olds)

    @property
    def _cones(self) -> tuple[list[Cone], list[Cone]]:
        return [pair.old for pair in self.pairs], [pair.new for pair in self.pairs]


def _bundle(cones: Sequence[Cones]) -> _Bundle | None:
    """Return those outputs that can be probed together; None where there are none.

    Raises:
        EvaluationError: A constant cannot be computed.
    """
    plain = [pair for pair in cones if _is_plain(pair)]
    if len(plain) < 2:  # noqa: PLR2004 - nothing to do together
        return None
    before, after = (joined(side) for side in zip(*plain, strict=True))
    if before is None or after is None or not are_paired(before, after):
        return None
    if any(brings_numbers_in(cone) or parameters(cone) for cone in (before, after)):
        return None
    if branches_merged(before, after):
        return None
    reads = [cache(cone.scope.wide_constant) for cone in (before, after)]

    def pair_of(old: Cone, new: Cone) -> Pair:
        weights = weights_of(old, reads[0]), weights_of(new, reads[1])
        return Pair(old, new, weights, tight=True)

    whole = pair_of(before, after)
    if kept_unlike(whole) is not None:
        return None
    pairs, held_to = (pair_of(old, new) for old, new in plain), _held_to(whole.bound)
    held_alike = tuple(pair for pair in pairs if _held_to(pair.bound) == held_to)
    return _Bundle(held_alike, whole) if len(held_alike) > 1 else None


def _is_plain(cones: Cones) -> bool:
    """Tell whether what leads to an output begins alike, and can be proved."""
    old, new = cones
    try:
        check_provable(old)
        check_provable(new)
        return set(old.leaves) == set(new.leaves) and casts_unlike(old, new) is None
    except EvaluationError:
        return False


def _held_to(bound: Bound) -> tuple[object, ...]:
    """Return all that decides how far a candidate may be from the original."""
    return bound.allowed(), bound.of_weights(summed=False), bound.is_like_a_fold()
