"""A plan: what will be folded into what, and what stays and why. Pure data; nothing is edited.

Nodes and tensors are the numbers of `bnfold.graph.index.view`. A plan names everything that will
change; what it does not name stays as it is.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from bnfold.frozen import frozen
from bnfold.graph.facts.composites import Composite
from bnfold.graph.index.view import Edge
from bnfold.graph.plan.absorbed import Absorbed, Parted
from bnfold.reasons import Obstacle, Reason
from bnfold.region import Region
from bnfold.rules.affine import Affine
from bnfold.rules.stated import Numbers


class How(Enum):
    """The direction of a fold; the value is the code in reports."""

    OUTPUT = "output"  # sunk into what makes its input
    INPUT = "input"  # hoisted into what reads its output
    MERGED = "merged"  # put together with other affines, no linear operator near
    NOTHING = "nothing"  # dropped, for it changes nothing
    COMPUTED = "computed"  # of constants alone, so that what it comes to is stored
    SUM = "sum"  # branches of one tensor that were added up, now one linear operator


@frozen
class Fold:
    """Nodes that are removed, and the nodes that do their work now.

    Attributes:
        taken: The nodes that are removed.
        into: The linear nodes that absorb them, or the affine nodes that they are merged into.
        through: The nodes that the affine passes on the way.
        how: The direction.
    """

    taken: tuple[int, ...]
    into: tuple[int, ...]
    through: tuple[int, ...]
    how: How


@frozen
class Kept:
    """Nodes that stay.

    Attributes:
        nodes: The run of affine nodes, or the one node that is no affine.
        obstacle: What stands in the way of going up, or in the node itself.
        below: What stands in the way of going down, where that was tried.
        beside: What stands in the way of becoming one with the branches that they are added to.
    """

    nodes: tuple[int, ...]
    obstacle: Obstacle
    below: Obstacle | None = None
    beside: Obstacle | None = None


@frozen(eq=False)
class RunEdit:
    """A run of affine nodes that becomes fewer nodes.

    Attributes:
        nodes: The nodes of the run, in order.
        total: What they are, together.
        normalization: The BatchNormalization among them that can hold it all; or None.
    """

    nodes: tuple[int, ...]
    total: Affine
    normalization: int | None

    @property
    def stay(self) -> tuple[int, ...]:
        """The nodes that are left: the normalization, or one for the scale, one for the shift."""
        if self.normalization is not None:
            return (self.normalization,)
        return self.nodes[: max(self.total.has_scale + self.total.has_shift, 1)]


@frozen(eq=False)
class Plan:
    """Everything that will change.

    Attributes:
        folds: What goes, in the order of the decisions.
        kept: What stays and why.
        linear: The linear nodes that change, by node.
        runs: The runs that are merged.
        removed: Nodes that go; readers of their output read what `same_as` says.
        same_as: For each removed node's output, the tensor that takes its place.
        names: The name that a tensor gets, where that changes.
        changed: Tensors that hold other numbers; those that get another name may not.
        constants: For (node, input index) of a constant, the affine that it is put through.
        parted: Biases that are put through what passes them, by the linear node of each.
        stated: The new numbers that a node states itself, as a Pad its value, by node.
        computed: Where a constant is read that is computed now and stored.
        sums: The signs of what a sum still adds up, 0 for what it reads no longer, by node.
        composites: What stays whole, because runtimes know it as one operator.
        regions: Where to cut to see each connected group of folds.
    """

    folds: tuple[Fold, ...] = ()
    kept: tuple[Kept, ...] = ()
    linear: Mapping[int, Absorbed] = field(default_factory=dict)
    runs: tuple[RunEdit, ...] = ()
    removed: frozenset[int] = frozenset()
    same_as: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    changed: frozenset[int] = frozenset()
    constants: Mapping[Edge, Affine] = field(default_factory=dict)
    parted: Mapping[int, Parted] = field(default_factory=dict)
    stated: Mapping[int, Numbers] = field(default_factory=dict)
    computed: tuple[Edge, ...] = ()
    sums: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    composites: tuple[Composite, ...] = ()
    regions: tuple[Region, ...] = ()

    @property
    def lacks_shapes(self) -> bool:
        """Whether an unknown shape stood in the way of anything."""
        obstacles = (o for kept in self.kept for o in (kept.obstacle, kept.below) if o is not None)
        return any(obstacle.reason is Reason.UNKNOWN_SHAPE for obstacle in obstacles)

    @property
    def touched(self) -> frozenset[int]:
        """The nodes whose numbers change."""
        runs = {node for run in self.runs for node in run.nodes}
        constants = (node for node, _ in self.constants)
        return frozenset({*self.linear, *runs, *self.stated, *self.parted, *constants})

    @property
    def changes(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.folds)
