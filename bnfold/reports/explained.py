"""What was tried for a node that somebody asks about, in names that a reader of the graph knows."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import onnx

from bnfold.errors import RequestError
from bnfold.frozen import sealed
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE, View
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.attempts import Attempt
from bnfold.graph.plan.explaining import Explanation, explain
from bnfold.plain import Plain
from bnfold.reasons import Reason
from bnfold.reports.records import (
    FoldRecord,
    KeptRecord,
    NodeRecord,
    ObstacleRecord,
    fold_record,
    kept_record,
    node_record,
    node_records,
    obstacle_record,
)

_AT_ONCE = 8
"""Nodes of one name that are explained together."""

_BY_INLINER = re.compile(r"(__\d+)+")
"""What ONNX's inliner adds to each name in a function, another number at each call."""

_OFFERED = 3
"""Names that are like one that is not there."""


@sealed
class StepRecord(Plain):
    """What a node does in an attempt.

    Attributes:
        node: The node.
        did: The code of a `bnfold.graph.plan.attempts.Did`.
        detail: Which way is taken, at a fork; else empty.
    """

    node: NodeRecord
    did: str
    detail: str = ""


@sealed
class AttemptRecord(Plain):
    """One attempt to fold nodes.

    Attributes:
        how: `output` (up), `input` (down) or `nothing` (to drop them).
        nodes: The nodes that would go.
        is_scale: Whether only their scale would go, and their shift would stay.
        steps: What other nodes do, in the order in which they are asked.
        refused: Where it ends; None where it succeeds.
        times: How often it was made to the same end: again whenever something else was folded.
    """

    how: str
    nodes: tuple[NodeRecord, ...]
    is_scale: bool
    steps: tuple[StepRecord, ...]
    refused: ObstacleRecord | None
    times: int = 1


@sealed
class ExplainedRecord(Plain):
    """What was tried for a node.

    Attributes:
        node: The node.
        role: The code of a `bnfold.graph.plan.explaining.Role`.
        obstacle: Why it is not what its operator may be; None where it is.
        partner: The linear operator whose bias it is; None where it is no bias.
        run: The nodes of the run that it belongs to at first; empty where it is in none.
        attempts: What was tried to fold the runs that it belongs to, in order.
        folds: The folds that take it, go into it or pass it.
        kept: The runs that stay and hold it, and those in whose way it stands.
    """

    node: NodeRecord
    role: str
    obstacle: ObstacleRecord | None
    partner: NodeRecord | None
    run: tuple[NodeRecord, ...]
    attempts: tuple[AttemptRecord, ...]
    folds: tuple[FoldRecord, ...]
    kept: tuple[KeptRecord, ...]


def explained_records(
    graph: Graph, options: FoldOptions, unfit: Mapping[int, Reason], asked: str
) -> tuple[ExplainedRecord, ...]:
    """Tell what was tried for every node that is called `asked` or makes a tensor of that name.

    Raises:
        RequestError: There is no such node, or there are very many.
    """
    found = _find(graph.view, asked)
    return tuple(_record(graph.view, explain(graph, options, unfit, node)) for node in found)


def _find(view: View, asked: str) -> Sequence[int]:
    found = [node.number for node in view.nodes if asked and _bears(view, node.number, asked)]
    if not found and asked:
        found = [node.number for node in view.nodes if _bore(node.proto, asked)]
    if not found:
        raise RequestError(_not_there(view, asked))
    if len(found) > _AT_ONCE:
        outputs = ", ".join(f"'{next(iter(view.nodes[n].proto.output), '')}'" for n in found[:3])
        raise RequestError(
            f"{len(found)} nodes are called '{asked}'; name one by its output: {outputs}, …"
        )
    return found


def _bears(view: View, number: int, asked: str) -> bool:
    node = view.nodes[number]
    return asked in (node.proto.name, str(node_record(view, number))) or asked in node.proto.output


def _bore(node: onnx.NodeProto, asked: str) -> bool:
    """Tell whether a node bears a name in a local function that has been inlined by now."""
    names = [name for name in (node.name, *node.output) if name.startswith(f"{asked}__")]
    return any(_BY_INLINER.fullmatch(name, len(asked)) for name in names)


def _not_there(view: View, asked: str) -> str:
    """Say that there is no such node, and which names are like it."""
    from difflib import get_close_matches

    if asked and any(tensor.name == asked for tensor in view.tensors):
        return f"'{asked}' is an input or a stored tensor; no node makes it"
    names = dict.fromkeys(
        name for node in view.nodes for name in (node.proto.name, *node.proto.output) if name
    )
    within = [name for name in names if asked and asked.lower() in name.lower()]
    alike = dict.fromkeys([*within[:_OFFERED], *get_close_matches(asked, names, _OFFERED)])
    offered = " or ".join(f"'{name}'" for name in list(alike)[:_OFFERED])
    hint = f"is {offered} meant?" if alike else "--check -v names what is folded and what is kept"
    return f"no node or output is called '{asked}'; {hint}"


def _record(view: View, found: Explanation) -> ExplainedRecord:
    node, plan = found.node, found.plan
    folds = [f for f in plan.folds if node in (*f.taken, *f.into, *f.through)]
    label = view.nodes[node].label
    kept = [
        one
        for one in plan.kept
        if node in one.nodes
        or any(o is not None and o.at == label for o in (one.obstacle, one.below, one.beside))
    ]
    return ExplainedRecord(
        node=node_record(view, node),
        role=found.role.value,
        obstacle=None if found.obstacle is None else obstacle_record(found.obstacle),
        partner=None if found.partner == NONE else node_record(view, found.partner),
        run=node_records(view, found.run),
        attempts=tuple(_attempts(view, found.attempts)),
        folds=tuple(fold_record(view, fold) for fold in folds),
        kept=tuple(kept_record(view, one) for one in kept),
    )


def _attempts(view: View, attempts: Iterable[Attempt]) -> Iterator[AttemptRecord]:
    """Yield the attempts in order; of those that are made again to the same end, the first."""
    told = Counter(_attempt(view, attempt) for attempt in attempts)
    return (replace(attempt, times=times) for attempt, times in told.items())


def _attempt(view: View, attempt: Attempt) -> AttemptRecord:
    return AttemptRecord(
        how=attempt.how.value,
        nodes=node_records(view, attempt.nodes),
        is_scale=attempt.is_scale,
        steps=tuple(
            StepRecord(node_record(view, step.node), step.did.value, step.detail)
            for step in attempt.steps
        ),
        refused=None if attempt.obstacle is None else obstacle_record(attempt.obstacle),
    )
