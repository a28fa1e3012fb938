"""The flow for one model: open → view → plan → rewrite."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx

from bnfold.files import OpenedModel, UnfitNumbers, from_proto, materialize
from bnfold.frozen import frozen, sealed
from bnfold.graph.edit.rewrite import Rewritten, rewrite
from bnfold.graph.edit.unread import without_unread
from bnfold.graph.facts.graph import Graph
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.draft import NOTHING_UNFIT
from bnfold.graph.plan.inline import functions_in_the_way
from bnfold.graph.plan.plan import How, Plan
from bnfold.graph.plan.planner import look_closer, make_plan, read_graph
from bnfold.onnx_model.functions import FunctionId, inlined
from bnfold.plain import to_plain
from bnfold.reasons import Reason
from bnfold.region import Region
from bnfold.reports.records import (
    CompositeRecord,
    Counts,
    FoldRecord,
    KeptRecord,
    composite_records,
    fold_records,
    kept_records,
)
from bnfold.rules.composites import checked_names
from bnfold.shown import Shown
from bnfold.units import counted
from bnfold.verification import VerifyOptions

if TYPE_CHECKING:
    from bnfold.verification import Verification

Result = TypeVar("Result")
_VERIFY = VerifyOptions()


@frozen(eq=False)
class Decision:
    """A plan for a model, and the folded model without its new numbers.

    Attributes:
        opened: The model that the numbers are read from; its functions may be inlined.
        graph: The index of its nodes and tensors, with shapes, constants and roles.
        plan: The folds.
        rewritten: The folded model; its new weights are recipes that are computed on saving.
        unfit: For each node whose folded numbers cannot be stored, what is wrong with them.
        inlined: The local functions that were inlined, by domain and name.
    """

    opened: OpenedModel
    graph: Graph
    plan: Plan
    rewritten: Rewritten
    unfit: Mapping[int, Reason]
    inlined: tuple[FunctionId, ...] = ()


@sealed(eq=False)
class Folding(Shown):
    """A folded model in memory.

    Attributes:
        model: The folded model; it shares nothing with the one that was given.
        regions: Where the two models differ, by the names of tensors; `verify` takes them.
        folds: The folds: which nodes were removed, and which nodes absorbed them.
        kept: The nodes that could have been folded but were not, with the reasons.
        before: Node counts of the given model.
        after: Node counts of the folded model.
        unlisted: Initializers that are no longer listed as graph inputs, because what they hold
            was folded.
        notes: Other changes that folding made necessary, in sentences.
        adds: How many Add nodes were written: in place of a BatchNormalization of which only the
            shift stays, or behind an operator that has no bias.
        inlined: Local functions that were inlined because a fold goes across their boundary.
        composites: Subgraphs that stayed whole, because runtimes know each as one operator.
        lifted: How many constants were moved from nodes into initializers.
        original: The model that was given, itself and no copy; `verify` compares with it.
    """

    model: onnx.ModelProto
    regions: tuple[Region, ...]
    folds: tuple[FoldRecord, ...]
    kept: tuple[KeptRecord, ...]
    before: Counts
    after: Counts
    unlisted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    adds: int = 0
    inlined: tuple[str, ...] = ()
    composites: tuple[CompositeRecord, ...] = ()
    lifted: int = 0
    original: onnx.ModelProto = field(kw_only=True)

    def verify(
        self,
        *,
        options: VerifyOptions = _VERIFY,
        step: Callable[[str], None] = lambda _: None,
    ) -> "Verification":
        """Verify that the folded model computes what the given one computes, but for rounding.

        Both are taken as they are now: what was changed in one of them since counts.

        Args:
            options: How to verify.
            step: Called with a text when each step begins.

        Returns:
            The verdict, with the evidence for it.

        Raises:
            RequestError: The inputs or providers that `options` names cannot be used.
            ModelError: One of the two is no valid model any more.
        """
        from bnfold.verification import verify

        return verify(self.original, self.model, regions=self.regions, options=options, step=step)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data: all but the two models."""
        names = (n for n in self.__dataclass_fields__ if n not in ("model", "original"))
        return {name: to_plain(getattr(self, name)) for name in names}

    def told(self) -> dict[str, str]:
        """Return the counts of nodes, folds and kept nodes, as short texts by label."""
        before, after = self.before, self.after
        return {
            "batch normalizations": f"{before.batch_normalizations} → {after.batch_normalizations}",
            "nodes": f"{before.nodes} → {after.nodes}",
            "folds": str(len(self.folds)),
            "kept": str(len(self.kept)),
        }


_PATIENCE = 16
"""How often a model is planned anew for nodes whose folded numbers cannot be stored, or for
a single function that is in the way. After that, all of them are given up, or inlined, at once."""
_ONE_BY_ONE = 4
"""How often for a single such node, although more may be known."""


def carry_out(
    opened: OpenedModel, options: FoldOptions, make: Callable[[Decision], Result]
) -> Result:
    """Plan the folds of an opened model, carry them out on a copy, and pass both to `make`.

    Where the numbers of a fold do not fit their element type or are NaN, the model is planned anew
    without that fold, and `make` is called again.

    Args:
        opened: The model.
        options: What may be folded.
        make: Turns the decision into the result, by saving the model, say; raises UnfitNumbers
            where a new number cannot be stored.

    Raises:
        ModelError: The graph is not valid ONNX.
    """
    opened, graph, plan, functions = _planned_inlined(opened, options)
    opened, graph, plan, unread = _planned_without_unread(opened, graph, plan, options)
    unfit = dict(NOTHING_UNFIT)
    for attempt in count():
        try:
            rewritten = rewrite(opened, graph, plan, lift=options.lift_constants)
            if unread:
                rewritten = replace(rewritten, notes=(*rewritten.notes, _gone(unread)))
            return make(Decision(opened, graph, plan, rewritten, dict(unfit), functions))
        except UnfitNumbers as error:
            unfit |= _given_up(error, plan, attempt)
            plan = make_plan(graph, options, unfit)
    raise AssertionError  # for the type checker: count() does not end


def _given_up(error: UnfitNumbers, plan: Plan, attempt: int) -> Mapping[int, Reason]:
    """Return the nodes that take part in no fold from now on, each with the reason.

    At first it is one at a time: without its fold those of others may become possible.
    """
    if attempt < _ONE_BY_ONE:
        return {error.node: error.reason}
    return error.met if attempt < _PATIENCE else dict.fromkeys(plan.touched, error.reason)


def _planned(
    opened: OpenedModel, options: FoldOptions, *, check: bool = False
) -> tuple[Graph, Plan]:
    graph = read_graph(opened, options, check=check)
    plan = make_plan(graph, options)
    if plan.lacks_shapes or (plan.kept and graph.constants.may_reveal_a_shape()):
        graph = look_closer(opened, graph, options)
        plan = make_plan(graph, options)
    return graph, plan


@np.errstate(all="ignore")  # what is not finite is refused, and by name
def _planned_inlined(
    opened: OpenedModel, options: FoldOptions
) -> tuple[OpenedModel, Graph, Plan, tuple[FunctionId, ...]]:
    """Plan a model, with functions inlined if that leaves fewer normalizations or branches.

    Inlining one function may show that a normalization in it needs another one inlined, too.
    """
    graph, plan = _planned(opened, options, check=True)
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
            graph, plan = _planned(flat, options)
            if _left(graph, plan) < _left(best[1], best[2]):
                best = (flat, graph, plan, tuple(sorted(functions)))
    return best


@np.errstate(all="ignore")  # likewise
def _planned_without_unread(
    opened: OpenedModel, graph: Graph, plan: Plan, options: FoldOptions
) -> tuple[OpenedModel, Graph, Plan, int]:
    """Plan a model without the nodes on which nothing depends, if more can be folded then.

    Returns:
        What is to be folded, and how many such nodes are gone from it.
    """
    if not plan.kept:
        return opened, graph, plan, 0
    model, unread = without_unread(opened.proto)
    if not unread:
        return opened, graph, plan, 0
    pruned = replace(opened, proto=model)
    other_graph, other = _planned(pruned, options)
    if _removed(other_graph, other) <= _removed(graph, plan):
        return opened, graph, plan, 0
    return pruned, other_graph, other, unread


def _removed(graph: Graph, plan: Plan) -> set[str]:
    """Return the names of what the nodes made that are gone."""
    return {name for node in plan.removed for name in graph.view.nodes[node].proto.output}


def _gone(unread: int) -> str:
    """Return the note that nodes are gone because nothing depends on them."""
    return f"left out, for nothing depends on what they made: {counted(unread, 'node')}"


def _left(graph: Graph, plan: Plan) -> tuple[int, int]:
    """Return how many BatchNormalization nodes remain, and by how many less the branches are."""
    nodes = (node.number for node in graph.view.nodes)
    normalizations = sum(graph.is_normalization(n) and n not in plan.removed for n in nodes)
    return normalizations, -sum(fold.how is How.SUM for fold in plan.folds)


def fold(
    model: onnx.ModelProto,
    *,
    bn_only: bool = False,
    keep_overridable: bool = False,
    merge: bool = True,
    take_apart: Collection[str] = (),
    lift_constants: bool = False,
    for_quantization: bool = False,
    per_tensor: bool = False,
) -> Folding:
    """Fold the batch normalizations, and other channel affines, of a model in memory.

    Args:
        model: The model; it is not changed. Its tensors must be inside it.
        bn_only: Fold only runs of nodes that contain a BatchNormalization.
        keep_overridable: Do not change initializers that are also listed as graph inputs: from IR
            version 4 on, who runs the model may replace them.
        merge: Merge branches that read one tensor and are added up, as in RepVGG, into one linear
            operator.
        take_apart: Names of composites (`bnfold ops` lists them; `all` for any) whose nodes may
            be folded, although some runtimes then no longer fuse them into one operator.
        lift_constants: Write the constants that nodes hold as initializers, for toolchains that
            do not read them in every form.
        for_quantization: Do not make folds that lower the signal-to-quantization-noise ratio of
            a weight by more than 3 dB, when it is stored as int8 with one scale for each output
            channel.
        per_tensor: With `for_quantization`: measure with one scale for the whole weight instead.

    Returns:
        The folded model, with the folds and with what was kept and why.

    Raises:
        ModelError: The graph is not valid ONNX.
        RequestError: `per_tensor` without `for_quantization`, or `take_apart` names no composite.
        TypeError: `model` is not an `onnx.ModelProto`.
    """
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            f"fold takes an onnx.ModelProto, not {type(model).__name__}; fold_file takes a path"
        )

    def make(decision: Decision) -> Folding:
        rewritten = decision.rewritten
        folded = materialize(decision.opened, rewritten.proto, rewritten.recipes)
        return Folding(
            model=folded,
            regions=decision.plan.regions,
            folds=fold_records(decision.graph, decision.plan),
            kept=kept_records(decision.graph, decision.plan, rewritten.dropped),
            before=Counts.of(model),
            after=Counts.of(folded),
            unlisted=rewritten.unlisted,
            notes=rewritten.notes,
            adds=rewritten.adds,
            lifted=rewritten.lifted,
            inlined=function_names(decision.inlined),
            composites=composite_records(decision.graph, decision.plan),
            original=model,
        )

    with from_proto(model) as opened:
        options = FoldOptions(
            bn_only,
            keep_overridable,
            merge,
            checked_names(take_apart),
            lift_constants,
            for_quantization,
            per_tensor,
        )
        return carry_out(opened, options, make)


def function_names(functions: Iterable[FunctionId]) -> tuple[str, ...]:
    """Return the names of local functions as reports show them."""
    return tuple(f"{domain}::{name}" if domain else name for domain, name in functions)
