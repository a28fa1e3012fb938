"""What one search found, and what becomes of a sum."""

from collections.abc import Mapping
from dataclasses import field

from bnfold.frozen import frozen, slotted
from bnfold.graph.index.view import Edge
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.plan import How
from bnfold.rules.affine import Affine
from bnfold.rules.stated import Numbers


@slotted
class Proposal:
    """What one search found.

    Attributes:
        how: Up or down.
        removed: For each run, the nodes of it that go, from and to.
        linear: The new state of linear nodes.
        before: What runs get merged in from above.
        after: What runs get merged in from below.
        constants: The affine that constant operands are put through.
        parameters: The nodes of normalizations that read these constants as their parameters.
        stated: The new numbers that nodes state themselves.
        through: Nodes that are passed.
        changed: Tensors that hold other numbers from then on.
        widened: Runs that the fold passes; together with it they vary along two axes.
        left: What runs are from now on, of which only the scale goes.
        rescaled: What runs are from now on, which a scale passes.
        parted: Linear nodes whose bias is from now on an Add that affines pass.
    """

    how: How
    removed: dict[int, tuple[int, int]] = field(default_factory=dict)
    linear: dict[int, Absorbed] = field(default_factory=dict)
    before: dict[int, Affine] = field(default_factory=dict)
    after: dict[int, Affine] = field(default_factory=dict)
    constants: dict[Edge, Affine] = field(default_factory=dict)
    parameters: set[int] = field(default_factory=set)
    stated: dict[int, Numbers] = field(default_factory=dict)
    through: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    widened: set[int] = field(default_factory=set)
    left: dict[int, Affine] = field(default_factory=dict)
    rescaled: dict[int, Affine] = field(default_factory=dict)
    parted: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        """How many values are held for it."""
        kinds = (self.before, self.after, self.constants, self.left, self.rescaled)
        affines = (affine for kind in kinds for affine in kind.values())
        return sum(a.size for a in affines) + sum(state.size for state in self.linear.values())


@frozen(eq=False)
class MergedSum:
    """A sum some of whose branches are one.

    Attributes:
        states: The new states of the linear nodes that hold them.
        affines: The affines of the runs that hold them, by number.
        taken: The nodes that go: branches, and sums of which one term is left.
        runs: The runs among them, by number.
        stands: For what a node that goes made, the tensor that takes its place.
        lost: Where a branch was read that is gone.
        signs: The signs of those sums that stay and whose terms change, 0 for what is lost.
        through: The sums that stay.
        root: The node that made the result.
    """

    states: Mapping[int, Absorbed]
    affines: Mapping[int, Affine]
    taken: tuple[int, ...]
    runs: tuple[int, ...]
    stands: Mapping[int, int]
    lost: frozenset[Edge]
    signs: Mapping[int, tuple[int, ...]]
    through: tuple[int, ...]
    root: int

    @property
    def proposal(self) -> Proposal:
        """What it takes of memory, as a proposal."""
        return Proposal(How.SUM, linear=dict(self.states))
