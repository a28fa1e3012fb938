"""The flow for one model: open → view → plan → rewrite."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

import numpy as np
import onnx

from bnfold.files import OpenedModel, RoundingOverflow, from_proto, materialize
from bnfold.frozen import frozen
from bnfold.graph.edit.rewrite import Rewritten, rewrite
from bnfold.graph.edit.rewriter import FoldOverflow
from bnfold.graph.facts.graph import Graph
from bnfold.graph.plan.inline import functions_in_the_way
from bnfold.graph.plan.plan import Plan
from bnfold.graph.plan.planner import look_closer, make_plan, read_graph
from bnfold.onnx_model.functions import FunctionId, inlined
from bnfold.reports.records import Counts, FoldRecord, KeptRecord, fold_records, kept_records

Made = TypeVar("Made")


@frozen
class Choice:
    """What may be folded.

    Attributes:
        bn_only: Fold only runs that contain a BatchNormalization.
        keep_overridable: Treat initializers that a caller may override as unknown.
    """

    bn_only: bool = False
    keep_overridable: bool = False


@frozen(eq=False)
class Decision:
    """What is to be done with a model, and the model as it will be.

    Attributes:
        opened: The model that the numbers are read from; its functions may be inlined.
        graph: What is known of it.
        plan: The folds.
        rewritten: The folded model, its new numbers still to be made.
        inlined: The local functions that were inlined, by domain and name.
        overflowing: Linear nodes that cannot take anything up, by number.
    """

    opened: OpenedModel
    graph: Graph
    plan: Plan
    rewritten: Rewritten
    inlined: tuple[FunctionId, ...] = ()
    overflowing: frozenset[int] = frozenset()

    def into_weight(self, name: str) -> frozenset[int]:
        """Return the linear nodes that something is folded into and that have this weight."""
        view = self.graph.view
        return frozenset(
            edit.node
            for edit in self.plan.linear.values()
            if view.tensors[view.nodes[edit.node].inputs[edit.layout.weight]].name == name
        )


@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """A folded model in memory.

    Attributes:
        model: The folded model; it shares nothing with the one that was given.
        plan: Every decision, by the numbers of nodes and tensors.
        folds: What went, and where.
        kept: What stayed, and why.
        before: Counts of the given model.
        after: Counts of the folded model.
        unlisted: Initializers that are no longer listed as graph inputs, because what they hold
            was folded.
        inlined: Local functions that were inlined because a fold goes across their boundary.
    """

    model: onnx.ModelProto
    plan: Plan
    folds: tuple[FoldRecord, ...]
    kept: tuple[KeptRecord, ...]
    before: Counts
    after: Counts
    unlisted: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()


_EVERYTHING = Choice()

_PATIENCE = 16
"""Plans; a model of which more than so many overflow is not worth planning once for each node, nor
one of which more than so many functions show one after the other that they are in the way."""


@np.errstate(all="ignore")  # what is not finite is refused, and by name
def decide(opened: OpenedModel, choice: Choice = _EVERYTHING) -> Decision:
    """Plan the folds of an opened model and carry them out on a copy of its structure.

    A fold whose numbers turn out not to fit into their element type is taken out of the plan. Of
    the numbers that are made later, `carry_out` takes care.

    Args:
        opened: The model.
        choice: What may be folded.

    Raises:
        ModelError: The graph makes no sense.
    """
    graph, plan = _planned(opened, choice)
    opened, graph, plan, functions = _inlined(opened, choice, graph, plan)
    return _rewritten(opened, choice, graph, plan, functions)


def carry_out(decision: Decision, choice: Choice, make: Callable[[Decision], Made]) -> Made:
    """Make the numbers of a decision, or of one without those folds whose weights overflow.

    Args:
        decision: What is to be done.
        choice: What may be folded.
        make: Makes a folded model; raises RoundingOverflow.
    """
    for attempt in count():
        try:
            return make(decision)
        except RoundingOverflow as overflow:
            nodes = decision.into_weight(overflow.name)
            if not nodes:
                raise
            decision = _without(decision, choice, _given_up(decision.plan, nodes, attempt))
    raise AssertionError  # for the type checker: count() does not end


@np.errstate(all="ignore")
def _without(decision: Decision, choice: Choice, nodes: frozenset[int]) -> Decision:
    """Decide again, folding nothing into some linear nodes."""
    overflowing = decision.overflowing | nodes
    graph = decision.graph
    plan = make_plan(graph, bn_only=choice.bn_only, overflowing=overflowing)
    return _rewritten(decision.opened, choice, graph, plan, decision.inlined, overflowing)


def _rewritten(
    opened: OpenedModel,
    choice: Choice,
    graph: Graph,
    plan: Plan,
    inlined: tuple[FunctionId, ...],
    overflowing: frozenset[int] = frozenset(),
) -> Decision:
    for attempt in count():
        try:
            rewritten = rewrite(opened, graph, plan)
        except FoldOverflow as overflow:
            overflowing |= _given_up(plan, frozenset({overflow.node}), attempt)
            plan = make_plan(graph, bn_only=choice.bn_only, overflowing=overflowing)
        else:
            return Decision(opened, graph, plan, rewritten, inlined, overflowing)
    raise AssertionError  # for the type checker: count() does not end


def _given_up(plan: Plan, nodes: frozenset[int], attempt: int) -> frozenset[int]:
    """Return the nodes that take nothing up any more: those that overflowed, in the end all."""
    return nodes if attempt < _PATIENCE else plan.touched


def _planned(opened: OpenedModel, choice: Choice) -> tuple[Graph, Plan]:
    graph = read_graph(opened, keep_overridable=choice.keep_overridable)
    plan = make_plan(graph, bn_only=choice.bn_only)
    if plan.lacks_shapes or (plan.kept and graph.constants.hide_a_shape()):
        graph = look_closer(opened, graph, keep_overridable=choice.keep_overridable)
        plan = make_plan(graph, bn_only=choice.bn_only)
    return graph, plan


def _inlined(
    opened: OpenedModel, choice: Choice, graph: Graph, plan: Plan
) -> tuple[OpenedModel, Graph, Plan, tuple[FunctionId, ...]]:
    """Inline functions where that leaves fewer batch normalizations; else leave all as it is.

    What one normalization needs to be inlined may show only when another function is.
    """
    best = (opened, graph, plan, tuple[FunctionId, ...]())
    every = frozenset((f.domain, f.name) for f in opened.proto.functions)
    for below in (False, True):
        _, graph, plan, done = best
        functions = frozenset(done)
        for attempt in count():
            more = functions_in_the_way(graph, plan, below=below) - functions
            if not more:
                break
            functions |= more if attempt < _PATIENCE else every
            model = inlined(opened.proto, functions)
            if model is None:
                break
            flat = replace(opened, proto=model)
            graph, plan = _planned(flat, choice)
            if _left(graph, plan) < _left(best[1], best[2]):
                best = (flat, graph, plan, tuple(sorted(functions)))
    return best


def _left(graph: Graph, plan: Plan) -> int:
    """Return how many batch normalizations a plan leaves."""
    nodes = (node.number for node in graph.view.nodes)
    return sum(graph.is_normalization(n) and n not in plan.removed for n in nodes)


def fold(
    model: onnx.ModelProto, *, bn_only: bool = False, keep_overridable: bool = False
) -> Folding:
    """Fold the batch normalizations, and other channel affines, of a model in memory.

    Args:
        model: The model; it is not changed. Its tensors must be inside it.
        bn_only: Fold only runs of nodes that contain a BatchNormalization.
        keep_overridable: Leave alone what a caller may override: initializers that are also
            listed as graph inputs, from IR version 4 on.

    Returns:
        The folded model, what was folded and what was kept.

    Raises:
        ModelError: The graph makes no sense.
        TypeError: This is no ModelProto.
    """
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            f"fold takes an onnx.ModelProto, not {type(model).__name__}; fold_file takes a path"
        )
    with from_proto(model) as opened:
        choice = Choice(bn_only, keep_overridable)
        decision, folded = carry_out(decide(opened, choice), choice, _in_memory)
        return Folding(
            model=folded,
            plan=decision.plan,
            folds=fold_records(decision.graph, decision.plan),
            kept=kept_records(decision.graph, decision.plan, decision.rewritten.dropped),
            before=Counts.of(model),
            after=Counts.of(folded),
            unlisted=decision.rewritten.unlisted,
            inlined=function_names(decision.inlined),
        )


def _in_memory(decision: Decision) -> tuple[Decision, onnx.ModelProto]:
    rewritten = decision.rewritten
    return decision, materialize(decision.opened, rewritten.proto, rewritten.recipes)


def function_names(functions: Iterable[FunctionId]) -> tuple[str, ...]:
    """Return the names of local functions for a reader."""
    return tuple(f"{domain}::{name}" if domain else name for domain, name in functions)
