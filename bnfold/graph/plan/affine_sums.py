"""Affines of one tensor that add up to one: x + BN(x), BN(x) + BN(x), x - γ x.

    Σ_j (s_j x + t_j) = (Σ_j s_j) x + Σ_j t_j

One of the runs becomes the whole, so that the others and what added them up go. No linear operator
takes part; where one does, see `parts`.
"""

from collections.abc import Sequence
from functools import reduce

from bnfold.frozen import frozen
from bnfold.graph.plan.branches import Branch
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.run import Run
from bnfold.graph.plan.spelling import require_nodes
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine


@frozen(eq=False)
class AffineSum:
    """Branches that become one affine.

    Attributes:
        branches: The branches.
        holder: The one whose run becomes the whole.
        run: That run.
        total: What they are where that run stands.
    """

    branches: tuple[Branch, ...]
    holder: Branch
    run: Run
    total: Affine


def is_affine(branch: Branch) -> bool:
    """Whether a branch is a tensor itself or an affine of it."""
    return branch.term is None and branch.linear is None


def affine_sum(draft: Draft, branches: Sequence[Branch]) -> AffineSum | None:
    """Return affines of one tensor as one; None where there is nothing to hold it.

    Raises:
        Refusal: Together they vary along several axes, or need more nodes than each of them has.
    """
    holders = [(b, draft.runs[b.runs[0]]) for b in branches if len(b.runs) == 1]
    if not holders or len(branches) < 2:  # noqa: PLR2004 - a sum
        return None
    rank = holders[0][1].total.rank
    terms = [b.before.up(b.affine or Affine.identity(rank)).times(b.sign) for b in branches]
    of_source = reduce(Affine.plus, terms)
    refused = Refusal(Reason.NO_GAIN)
    found: list[tuple[int, AffineSum]] = []
    for branch, run in holders:
        total = branch.before.down(of_source)
        try:
            size = require_nodes(draft.graph, run.nodes, total)
        except Refusal as refusal:
            refused = refusal
        else:
            found.append((size, AffineSum(tuple(branches), branch, run, total)))
    if not found:
        raise refused
    return min(found, key=lambda one: one[0])[1]
