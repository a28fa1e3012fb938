"""How far the candidate's region may be from the original's for nothing but rounding.

See `probe` for the formula.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from bnfold.verification.dtypes import Array, smallest_normal, unit_roundoff
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.proof.computing import Weights, identical, lifted
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.facts import (
    linear_depth,
    normalizations_in_series,
    parameters,
    roundings_in_series,
    roundoff_of_shapes,
    sums_in_series,
)
from bnfold.verification.proof.finding import Allowed
from bnfold.verification.proof.proportion import Rounding, reads_stored_weights

_ROUNDINGS = 4.0
_ONCE = 1.05
"""One rounding of each weight, and 5 % for products of two rounding errors."""
_FEW = 16
"""The most constants of a region that are searched for in the candidate, pair by pair."""


class Sides:
    """A region in both models.

    Attributes:
        old: The region in the original.
        new: The region in the candidate.
        weights: The constants of both, float64.
    """

    def __init__(self, old: Cone, new: Cone, weights: tuple[Weights, Weights]) -> None:
        self.old, self.new, self.weights = old, new, weights
        self.old_weights, self.new_weights = weights


class Bound(Sides):
    """What rounding may make of the difference between two regions.

    Attributes:
        tight: Whether each weight may have been rounded once only.
    """

    def __init__(
        self, old: Cone, new: Cone, weights: tuple[Weights, Weights], *, tight: bool
    ) -> None:
        super().__init__(old, new, weights)
        self.tight = tight

    @cached_property
    def _roundings(self) -> float:
        """How often a weight may have been rounded."""
        if not self.tight:
            return _ROUNDINGS
        # What an operator makes of stored numbers, a DequantizeLinear, say, it rounds, too.
        stored = reads_stored_weights(self.old) and reads_stored_weights(self.new)
        return _ONCE if stored else 2 * _ONCE

    def allowed(self) -> Allowed:
        """Return the bound for an output, as fractions of its magnitude."""
        u = 0.0 if self.is_exact else self._roundoff()
        terms = max((_terms(array) for array in self.old_weights.values.values()), default=1)
        evaluation = (2.0 * terms + 8.0) * 2.0**-53
        series = self._series()
        slack = _ROUNDINGS * series * u + evaluation
        return Allowed(u, slack, (self._roundings * series * u + evaluation) / slack)

    def of_weights(self, *, summed: bool) -> Rounding:
        """Return what a weight of the candidate may be off by, or one with what is behind it."""
        times = self._roundings * (self._series() if summed and self.tight else 1)
        relative, tiny = times * self._roundoff() + 2.0**-50, _tiny(self.new_weights)
        # Some tools run with subnormal numbers flushed to zero.
        return Rounding(relative, relative * tiny if self.tight else tiny, tiny)

    def sizes_of_candidate(self) -> Mapping[str, Tracked] | None:
        """Return the candidate's constants with magnitudes; of parameters one rounding counts."""
        rounded = dict.fromkeys(self._parameters[1], self._one_rounding)
        return _with_parts(self.new_weights, rounded)

    def sizes(self, parts: Mapping[str, float]) -> Mapping[str, Tracked]:
        """Return the original's constants with magnitudes; of `parts` those fractions count."""
        return _with_parts(self.old_weights, parts) or self.old_weights.tracked()

    def _roundoff(self) -> float:
        stored = max(map(unit_roundoff, self.old_weights.dtypes), default=0.0)
        return max(stored, roundoff_of_shapes(self.old)) or 2.0**-24

    def _series(self) -> float:
        """Return for how many rounded constants in series the bound allows; r in `probe`.

        Unless `tight`, each normalization may have been folded by itself, and where branches were
        merged into one operator its weight may have been rounded at each addition.
        """
        # A candidate with more constants in series than the original does not get a wider bound.
        had = roundings_in_series(self.old, _unlike(self.old_weights, self.new_weights))
        series = min(roundings_in_series(self.new, self._changed()), had)
        if self.tight:
            return series
        before, after = (normalizations_in_series(cone) for cone in (self.old, self.new))
        met = (sums_in_series(cone) for cone in (self.old, self.new))
        return max(series, before - after) + max(next(met) - next(met), 0) / _ROUNDINGS

    def underflow(self) -> dict[str, Tracked] | None:
        """Return the candidate's constants with the magnitudes that underflow gives them."""
        if not self.is_like_a_fold():
            return None
        return lifted(self.new_weights, self.old_weights, _tiny(self.new_weights))

    def is_like_a_fold(self) -> bool:
        """Tell whether the candidate's own magnitudes may be used in the bound.

        They may if it begins where the original does and has no more linear operators in series.
        The magnitude of anything else may be so large that any difference is within the bound.
        """
        within = set(self.new.leaves) <= set(self.old.leaves)
        return within and linear_depth(self.new) <= linear_depth(self.old)

    def _changed(self) -> frozenset[str]:
        """Return the candidate's constants that the original lacks or has otherwise, by name."""
        return _unlike(self.new_weights, self.old_weights)

    @cached_property
    def is_exact(self) -> bool:
        """Tell whether both regions have the same weights, so that nothing was rounded.

        Parameters of operators that are not linear are left aside: `_parts` looks at them.
        """
        mine, theirs = self._parameters
        aside = mine.keys() | theirs.keys()
        old, new = (
            [array for name, array in weights.values.items() if name not in aside]
            for weights in self.weights
        )
        return len(old) <= _FEW and _all_in(old, new) and _all_in(new, old)

    @cached_property
    def _parameters(self) -> tuple[dict[str, str], dict[str, str]]:
        """The parameters of both regions; see `parameters`."""
        return parameters(self.old), parameters(self.new)

    def parts(self) -> dict[str, float]:
        """Return what fraction of its magnitude counts, for each parameter of a nonlinear operator.

        None of it where the candidate has the same parameters; else enough for one rounding.
        """
        mine, theirs = self._parameters
        if not mine:
            return {}
        old, new = (
            Counter(
                (kind, weights.values[name].tobytes())
                for name, kind in named.items()
                if kind in mine.values()
            )
            for named, weights in zip((mine, theirs), self.weights, strict=True)
        )
        return dict.fromkeys(mine, 0.0 if old == new else self._one_rounding)

    @property
    def _one_rounding(self) -> float:
        """The fraction of a magnitude for which the bound allows one rounding."""
        return 1.0 if self.tight else 1.0 / _ROUNDINGS


def _with_parts(weights: Weights, parts: Mapping[str, float]) -> dict[str, Tracked] | None:
    """Return constants, some with fractions of their magnitudes; None if `parts` is empty."""
    if not parts:
        return None
    values = {n: array for n in parts if (array := weights.values[n]).dtype.kind == "f"}
    return weights.tracked() | {
        name: Tracked(array, np.abs(array) * parts[name], constant=True)
        for name, array in values.items()
    }


def _unlike(weights: Weights, others: Weights) -> frozenset[str]:
    """Return the names of constants that the other model lacks or has with other values."""
    return frozenset(
        name
        for name, array in weights.values.items()
        if name not in others.values or not identical(others.values[name], array)
    )


def _all_in(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Tell whether each array of `some` is identical to one of `others`."""
    return all(any(identical(array, other) for other in others) for array in some)


def _tiny(weights: Weights) -> float:
    """Return the smallest normal number of the coarsest stored dtype."""
    return max(map(smallest_normal, weights.dtypes), default=0.0)


def _terms(weight: Array) -> int:
    """Return the largest number of terms that a sum over this weight can have."""
    lengths = (*weight.shape[:2], weight.size)
    return max(int(weight.size // max(length, 1)) for length in lengths)
