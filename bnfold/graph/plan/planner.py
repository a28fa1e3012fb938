"""Planning: which runs go up, which go down, what is merged, what stays and why.

1. Find the runs: chains of affine nodes.
2. Try to fold each run, in the order of the data: upwards, then downwards; the whole run first,
   then fewer of its nodes. For quantization, all are tried upwards first. Join runs between which
   nothing is left. Repeat until nothing more is folded, so that a folded model has nothing to fold.
3. Merge what is left of a run into fewer nodes, where that is possible.
4. Give a reason for every other node that stays.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from bnfold.files.opened import OpenedModel
from bnfold.frozen import frozen
from bnfold.graph.facts.constants import Constants
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.shapes import Shapes, inference
from bnfold.graph.index.view import View
from bnfold.graph.options import EVERYTHING, FoldOptions
from bnfold.graph.plan.attempts import SILENT, Tracer
from bnfold.graph.plan.backtracking import Backtracking
from bnfold.graph.plan.computed import computed_constants
from bnfold.graph.plan.draft import NOTHING_UNFIT, Draft
from bnfold.graph.plan.plan import Fold, How, Kept, Plan, RunEdit
from bnfold.graph.plan.proposal import Proposal
from bnfold.graph.plan.regions import find_regions
from bnfold.graph.plan.run import Run
from bnfold.graph.plan.search import Search
from bnfold.graph.plan.spelling import nodes_needed, normalization_for, require_nodes
from bnfold.graph.plan.sums import Sums
from bnfold.reasons import Obstacle, Reason, Refusal

_LONGEST_IN_PARTS = 16
"""Nodes; a longer run is folded as a whole or not at all, so that planning stays linear."""


def read_graph(
    opened: OpenedModel, options: FoldOptions = EVERYTHING, *, check: bool = False
) -> Graph:
    """Return all that planning reads of a model; if asked, `check` first that its nodes are valid.

    Raises:
        ModelError: The graph makes no sense.
    """
    with inference(opened.proto, check=check) as inferring:  # while it goes on, the index is made
        view = View(opened.proto)
        shapes = Shapes(view, inferring.result())
    constants = Constants(opened, view, shapes, options)
    return Graph(view, shapes, constants)


def look_closer(opened: OpenedModel, graph: Graph, options: FoldOptions = EVERYTHING) -> Graph:
    """Return what is known of a model once the constants that shapes depend on are computed.

    ONNX's shape inference computes only some operators. This takes longer and is only worth it
    where an unknown shape stood in the way, or may have.
    """
    view = graph.view
    computed = {
        view.tensors[tensor].name: value
        for tensor, value in graph.constants.computed_values().items()
        if view.tensors[tensor].scope == 0
    }
    graph.constants.forget()
    with inference(view.model, computed) as inferring:
        shapes = Shapes(view, inferring.result(), computed)
    constants = Constants(opened, view, shapes, options)
    return Graph(view, shapes, constants)


@np.errstate(all="ignore")  # what is not finite is refused, and by name
def make_plan(
    graph: Graph,
    options: FoldOptions = EVERYTHING,
    unfit: Mapping[int, Reason] = NOTHING_UNFIT,
    tracer: Tracer = SILENT,
) -> Plan:
    """Decide what to fold; nothing goes into `unfit` nodes, whose new numbers cannot be stored.

    The tracer gets to know each attempt.
    """
    return Planner(graph, options, unfit, tracer).plan()


@frozen(eq=False)
class Way:
    """A way to fold nodes of a run.

    Attributes:
        how: Up, down, or to drop them.
        span: The nodes of the run that would go, from and to.
        search: Finds what folds them.
        is_scale: Whether only their scale would go.
    """

    how: How
    span: tuple[int, int]
    search: Callable[[Search], Proposal]
    is_scale: bool = False


class Planner:
    """See the module."""

    def __init__(
        self, graph: Graph, options: FoldOptions, unfit: Mapping[int, Reason], tracer: Tracer
    ) -> None:
        self._graph = graph
        self._tracer = tracer
        self._draft = Draft(graph, unfit, options)
        self._options = options
        self._sums = Sums(self._draft, bn_only=options.bn_only) if options.merge else None
        self._had_normalization = {
            run.number for run in self._draft.runs if self._normalizations(run.nodes)
        }
        self._worth = {run.number for run in self._draft.runs if self._is_candidate(run)}

    def plan(self) -> Plan:
        """Return the plan."""
        while self._step():
            pass
        edits = tuple(self._merges())
        draft = self._draft
        computed = computed_constants(draft)
        for node, edges in computed.items():
            readers = tuple(dict.fromkeys(reader for reader, _ in edges))
            draft.folds.append(Fold((node,), readers, (), How.COMPUTED))
        folds = tuple(draft.folds)
        return Plan(
            folds=folds,
            kept=tuple(self._kept({edit.nodes: edit.stay for edit in edits})),
            linear=draft.absorbed,
            runs=edits,
            removed=frozenset(draft.removed),
            same_as=draft.same_as(),
            names=draft.names,
            changed=frozenset(draft.changed),
            constants=draft.constants,
            parted=draft.parted,
            stated=draft.stated,
            sums=draft.sums,
            computed=tuple(dict.fromkeys(edge for edges in computed.values() for edge in edges)),
            composites=draft.roles.composites,
            regions=find_regions(draft),
        )

    def _step(self) -> bool:
        """Let go what goes now; return whether anything did."""
        if self._sums is not None and self._sums.merge_all():
            self._worth |= self._sums.holders
            return True
        if self._options.for_quantization and self._try_all(self._candidates(), only_up=True):
            return True  # a weight has no room for its input channels that its output ones need
        return self._try_all(self._candidates()) or self._join_all() or self._respell_all()

    # -- 1, 2: folding runs -------------------------------------------------------------------

    def _normalizations(self, nodes: list[int]) -> list[int]:
        return [node for node in nodes if self._graph.is_normalization(node)]

    def _is_candidate(self, run: Run) -> bool:
        """Whether a run should be folded: it changes something, and `bn_only` allows it."""
        if run.number in self._had_normalization:
            return True
        changes = any(not step.is_identity for step in run.steps)
        arithmetic = any(map(self._graph.is_arithmetic, run.nodes))  # it may still be dropped
        return not self._options.bn_only and (changes or arithmetic)

    def _candidates(self) -> list[Run]:
        """Return the runs that should be folded and of which nodes are left."""
        return [run for run in self._draft.runs if run.nodes and run.number in self._worth]

    def _try_all(self, runs: list[Run], *, only_up: bool = False) -> bool:
        """Try to fold each run once; return whether any was folded."""
        folded = False
        for run in runs:
            if run.nodes and self._try(run, only_up=only_up):
                folded = True
        return folded

    def _join_all(self) -> bool:
        """Join runs between which no node is left; return whether there were any."""
        joined = False
        for run in self._draft.runs:
            while run.nodes and (follower := self._draft.follower(run)) is not None:
                for numbers in (self._worth, self._had_normalization):
                    if follower.number in numbers:
                        numbers.add(run.number)
                self._draft.join(run, follower)
                joined = True
        return joined

    def _try(self, run: Run, *, only_up: bool = False) -> bool:
        """Fold a run, or as much of it as possible; return whether anything was folded."""
        obstacles: dict[bool, Obstacle] = {}
        for way in self._ways(run):
            if only_up and way.how is How.INPUT:
                continue
            forks = Backtracking()
            while True:
                self._tracer.begin(run, way.span, way.how, is_scale=way.is_scale)
                try:
                    proposal = way.search(Search(self._draft, way.how, forks, self._tracer))
                    self._check_gain(proposal)
                    self._draft.apply(proposal)
                except Refusal as refusal:
                    self._tracer.end(refusal.obstacle)
                    obstacles.setdefault(way.how is not How.INPUT, refusal.obstacle)
                else:
                    self._tracer.end()
                    return True
                if not forks.try_again():
                    break
        run.above, run.below = obstacles.get(True), obstacles.get(False)
        return False

    def _ways(self, run: Run) -> Iterator[Way]:
        """Yield the ways to fold a run: up, then down; the whole run, then parts."""
        size = len(run.nodes)
        parts = range(1, size) if size <= _LONGEST_IN_PARTS else ()
        whole = (0, size)
        if run.total.is_identity and all(map(self._graph.is_arithmetic, run.nodes)):
            yield Way(How.NOTHING, whole, partial(Search.drop, run=run))
        for count in (size, *reversed(parts)):
            yield Way(How.OUTPUT, (0, count), partial(Search.sink, run=run, count=count))
        if self._normalizations(run.nodes) or (parts and not run.prefix(1).has_scale):
            yield Way(How.OUTPUT, whole, partial(Search.sink_scale, run=run), is_scale=True)
        for start in (0, *parts):
            yield Way(How.INPUT, (start, size), partial(Search.hoist, run=run, start=start))
        if (
            parts
            and not run.suffix(size - 1).has_scale
            and nodes_needed(self._graph, run.nodes, run.total) > 1
        ):
            # One normalization is no more than the Add that would be left, and runtimes know better
            # what to do with it: ONNX Runtime keeps no Add of channels in its blocked layout.
            yield Way(How.INPUT, whole, partial(Search.hoist_scale, run=run), is_scale=True)

    def _check_gain(self, proposal: Proposal) -> None:
        """Refuse a fold that leaves as many nodes, unless a normalization goes into a weight.

        A normalization that becomes an Add is worth it: quantization wants its scale in the weight,
        and an Add computes no more than a BatchNormalization.
        """
        gain, normalizations = 0, 0
        for number, (begin, end) in proposal.removed.items():
            run = self._draft.runs[number]
            gain += self._current_size(run) - self._size_without(run, begin, end)
            normalizations += len(self._normalizations(run.nodes[begin:end]))
        for number in proposal.left:
            nodes = self._draft.runs[number].nodes
            # Elsewhere an Add would be no less than what it takes the place of.
            if proposal.through & self._draft.roles.linear.keys():
                normalizations += len(self._normalizations(nodes))
        for node, state in proposal.linear.items():
            gain -= state.extra_nodes - self._draft.extra_nodes(node)
        merges = [
            *((n, a.then(self._draft.runs[n].total)) for n, a in proposal.before.items()),
            *((n, self._draft.runs[n].total.then(a)) for n, a in proposal.after.items()),
        ]
        for number, total in merges:
            run = self._draft.runs[number]
            gain -= require_nodes(self._graph, run.nodes, total) - self._current_size(run)
        to_linear = bool(proposal.linear) and not merges
        if gain > 0 or (gain == 0 and normalizations and to_linear):
            return
        raise Refusal(Reason.NO_GAIN)

    def _current_size(self, run: Run) -> int:
        return nodes_needed(self._graph, run.nodes, run.total) if run.is_merged else len(run.nodes)

    def _size_without(self, run: Run, begin: int, end: int) -> int:
        """Return how many nodes a run has when some of its nodes are removed."""
        left = run.nodes[:begin] + run.nodes[end:]
        if not left or not run.is_merged:
            return len(left)
        total = run.prefix(begin) if begin else run.suffix(end)
        return require_nodes(self._graph, left, total)

    # -- 3: merging ---------------------------------------------------------------------------

    def _respell_all(self) -> bool:
        """Plan runs that will be a Mul and an Add as these two; return whether any was not yet.

        Each of the two can then be folded by itself. Otherwise a second fold of the folded model
        would find something to fold.
        """
        return any([self._respell(run) for run in self._candidates()])  # noqa: C419 - every run

    def _respell(self, run: Run) -> bool:
        total = run.total
        is_two = (
            total.has_scale
            and total.has_shift
            and normalization_for(self._graph, run.nodes, total) is None
        )
        shrinks = run.is_merged or len(run.nodes) > 2  # noqa: PLR2004 - a Mul and an Add
        if not is_two or not shrinks or run.is_respelled:
            return False
        if not run.is_merged:
            nodes = tuple(run.nodes)
            self._draft.folds.append(Fold(nodes, nodes, (), How.MERGED))
        run.respell()
        return True

    def _merges(self) -> Iterator[RunEdit]:
        """Yield the runs that become fewer nodes, and those that another run was merged into."""
        for run in self._draft.runs:
            if not run.nodes or not (run.is_merged or run.number in self._worth):
                continue
            total = run.total
            if not run.is_merged and nodes_needed(self._graph, run.nodes, total) >= len(run.nodes):
                continue
            holder = normalization_for(self._graph, run.nodes, total)
            if not run.is_merged:
                nodes = tuple(run.nodes)
                self._draft.folds.append(Fold(nodes, nodes, (), How.MERGED))
            yield RunEdit(tuple(run.nodes), total, holder)

    # -- 4: what stays ------------------------------------------------------------------------

    def _kept(self, merged: Mapping[tuple[int, ...], tuple[int, ...]]) -> Iterator[Kept]:
        beside = dict(self._sums.kept) if self._sums is not None else {}
        stay: list[Kept] = []
        for run in self._candidates():
            nodes = tuple(run.nodes)
            if self._normalizations(run.nodes) and run.is_merged and not run.total.has_scale:
                continue  # its normalization is gone; an Add is left of it
            above = run.above or Obstacle(Reason.NO_GAIN)
            apart = beside.pop(nodes, None)
            stay.append(Kept(merged.get(nodes, nodes), above, run.below, apart))
        stay.extend(Kept(nodes, apart, beside=apart) for nodes, apart in beside.items())
        stay.extend(
            Kept((node,), obstacle)
            for node, obstacle in self._draft.roles.refused.items()
            if self._graph.is_normalization(node) or obstacle.reason is Reason.EXACT_SUMS
        )
        yield from sorted(stay, key=lambda kept: kept.nodes[0])
