"""What a fold did, told in names that a reader of the graph knows; plain values, JSON-able."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import field

import onnx

from bnfold.errors import one_line
from bnfold.files.walk import OWN_DOMAINS
from bnfold.frozen import sealed
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import View
from bnfold.graph.plan.plan import Fold, Kept, Plan
from bnfold.plain import Plain
from bnfold.reasons import Obstacle, Reason
from bnfold.rules.affine_nodes import NORMALIZATION


@sealed
class NodeRecord(Plain):
    """A node.

    Attributes:
        op_type: Its operator.
        name: Its name; may be empty.
        output: The name of its first output.
        scope: Where it is: empty in the main graph, else the path into a subgraph or function.
    """

    op_type: str
    name: str
    output: str
    scope: str = ""

    def __str__(self) -> str:
        where = f" in {self.scope}" if self.scope else ""
        return one_line(f"{self.op_type} '{self.name or self.output}'{where}")


@sealed
class FoldRecord(Plain):
    """Nodes that went.

    Attributes:
        how: `output` (sunk into what makes its input), `input` (hoisted into what reads its
            output), `merged` (put together with other affines), `sum` (branches of one tensor
            that were added up, and are one linear operator now) or `nothing` (dropped, because
            they change nothing).
        taken: The nodes that went; of merged ones, those that are now one.
        into: The nodes that took them up.
        through: The nodes that the affine passed on the way.
    """

    how: str
    taken: tuple[NodeRecord, ...]
    into: tuple[NodeRecord, ...]
    through: tuple[NodeRecord, ...]


@sealed
class ObstacleRecord(Plain):
    """What stood in the way.

    Attributes:
        reason: The code of a `bnfold.reasons.Reason`.
        at: The tensor or node in the way.
        text: The whole in words.
    """

    reason: str
    at: str
    text: str


@sealed
class KeptRecord(Plain):
    """Nodes that stayed.

    Attributes:
        nodes: A run of affine nodes, or one node that is none.
        above: What stood in the way of going up, or in the nodes themselves.
        below: What stood in the way of going down, where that was tried.
        beside: What stood in the way of becoming one with the branches that they are added to; of
            a branch that is no run of affines, this is `above`, too.
    """

    nodes: tuple[NodeRecord, ...]
    above: ObstacleRecord
    below: ObstacleRecord | None
    beside: ObstacleRecord | None = None

    @property
    def is_normalization(self) -> bool:
        """Whether a BatchNormalization is among the nodes."""
        return any(node.op_type == NORMALIZATION for node in self.nodes)

    @property
    def in_training(self) -> bool:
        """Whether it stayed because it is in training mode."""
        return self.above.reason == Reason.TRAINING_MODE.value


@sealed
class CompositeRecord(Plain):
    """Nodes that runtimes know as one operator, and that stayed whole.

    Attributes:
        name: What people call it.
        nodes: Its nodes, in the order of the data.
    """

    name: str
    nodes: tuple[NodeRecord, ...]


@sealed
class Counts(Plain):
    """How large a model is, subgraphs and functions included.

    Attributes:
        nodes: The number of nodes.
        batch_normalizations: The number of BatchNormalization nodes among them.
        operators: How many of each operator; one that is not ONNX's own is called domain::name.
    """

    nodes: int
    batch_normalizations: int
    operators: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "Counts":
        """Count the nodes of a model."""
        operators: Counter[str] = Counter()
        waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
        while waiting:
            for node in waiting.pop().node:
                domain = "" if node.domain in OWN_DOMAINS else f"{node.domain}::"
                operators[f"{domain}{node.op_type}"] += 1
                waiting.extend(a.g for a in node.attribute if a.HasField("g"))
        return cls(operators.total(), operators[NORMALIZATION], dict(sorted(operators.items())))


def fold_records(graph: Graph, plan: Plan) -> tuple[FoldRecord, ...]:
    """Tell the folds of a plan."""
    return tuple(fold_record(graph.view, fold) for fold in plan.folds)


def kept_records(
    graph: Graph, plan: Plan, dropped: Container[int] = frozenset()
) -> tuple[KeptRecord, ...]:
    """Tell what a plan keeps, and why.

    Args:
        graph: What the plan was made for.
        plan: The plan.
        dropped: Nodes that turned out to be needed by nothing any more; they are not kept.
    """
    return tuple(kept_record(graph.view, kept) for kept in staying(plan, dropped))


def staying(plan: Plan, dropped: Container[int] = frozenset()) -> Iterator[Kept]:
    """Yield what a plan keeps, but for what turned out to be needed by nothing any more."""
    for kept in plan.kept:
        if not all(node in dropped for node in kept.nodes):
            yield kept


def composite_records(graph: Graph, plan: Plan) -> tuple[CompositeRecord, ...]:
    """Tell what a plan leaves whole."""
    return tuple(
        CompositeRecord(c.name, node_records(graph.view, c.nodes)) for c in plan.composites
    )


def fold_record(view: View, fold: Fold) -> FoldRecord:
    """Tell a fold in names."""
    return FoldRecord(
        fold.how.value,
        node_records(view, fold.taken),
        node_records(view, fold.into),
        node_records(view, fold.through),
    )


def kept_record(view: View, kept: Kept) -> KeptRecord:
    """Tell what stays in names."""
    others = (None if o is None else obstacle_record(o) for o in (kept.below, kept.beside))
    return KeptRecord(node_records(view, kept.nodes), obstacle_record(kept.obstacle), *others)


def obstacle_record(obstacle: Obstacle) -> ObstacleRecord:
    """Tell an obstacle in names."""
    return ObstacleRecord(obstacle.reason.value, obstacle.at, one_line(str(obstacle)))


def node_records(view: View, numbers: Iterable[int]) -> tuple[NodeRecord, ...]:
    """Tell nodes in names."""
    return tuple(node_record(view, number) for number in numbers)


def node_record(view: View, number: int) -> NodeRecord:
    """Tell a node in names."""
    node = view.nodes[number]
    path = view.scopes[node.scope].path
    scope = "/".join(f"{owner}.{attribute}" if attribute else owner for owner, attribute in path)
    return NodeRecord(node.proto.op_type, node.proto.name, next(iter(node.proto.output), ""), scope)
