"""The state of planning: the view, as it would look after the folds decided so far.

A draft starts as a copy of the view and applies one *proposal* after the other, each found by
`bnfold.graph.plan.search`. It marks the output of a removed node as the *same as* the tensor that
takes its place, and it collects what each linear node absorbs. It does not change the model.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.lattice import keep_exact
from bnfold.graph.facts.roles import find_roles
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.graph.options import EVERYTHING, FoldOptions
from bnfold.graph.plan.absorbed import Absorbed, Parted
from bnfold.graph.plan.budget import Budget
from bnfold.graph.plan.plan import Fold, How
from bnfold.graph.plan.precision import Precision
from bnfold.graph.plan.proposal import MergedSum, Proposal
from bnfold.graph.plan.run import Run, can_follow
from bnfold.limits import AFFINES
from bnfold.reasons import Obstacle, Reason
from bnfold.rules.affine import Affine
from bnfold.rules.branching import Sum
from bnfold.rules.linear import Linear

NOTHING_UNFIT: Mapping[int, Reason] = MappingProxyType({})


class Draft:
    """See the module."""

    def __init__(
        self,
        graph: Graph,
        unfit: Mapping[int, Reason] = NOTHING_UNFIT,
        options: FoldOptions = EVERYTHING,
    ) -> None:
        self.graph = graph
        self.view = graph.view
        self.roles = find_roles(graph, options.take_apart)
        keep_exact(graph, self.roles)
        for node, reason in unfit.items():
            self.roles.linear.pop(node, None)
            self.roles.affine.pop(node, None)
            self.roles.carry.pop(node, None)
            self.roles.refused[node] = Obstacle(reason)
            self.roles.normalized = {
                output: composite
                for output, composite in self.roles.normalized.items()
                if node not in composite.behind
            }
        self.folds: list[Fold] = []
        self.changed: set[int] = set()
        self.removed: set[int] = set()
        self.names: dict[int, str] = {}
        self.constants: dict[Edge, Affine] = {}
        self.parted: dict[int, Parted] = {}
        self._linear_of_parted: dict[int, int] = {}
        self.stated: dict[int, tuple[float, ...]] = {}
        self.sums: dict[int, tuple[int, ...]] = {}
        self.outputs = {t.number: t.outputs for t in self.view.tensors if t.outputs}
        self.budget = Budget(graph)
        self.precision = Precision(graph, options) if options.for_quantization else None
        self._readers: dict[int, list[Edge]] = {}
        self._same_as: dict[int, int] = {}
        self.bias_nodes = self._find_bias_nodes()
        self.absorbed: dict[int, Absorbed] = {}
        self.runs = self._find_runs()
        self.run_of = {node: run.number for run in self.runs for node in run.nodes}

    # -- asking -------------------------------------------------------------------------------

    def root(self, tensor: int) -> int:
        """Return the tensor that takes the place of one: itself unless its maker is removed."""
        root = tensor
        while root in self._same_as:
            root = self._same_as[root]
        while tensor != root:  # compress the path, so that long chains stay linear
            self._same_as[tensor], tensor = root, self._same_as[tensor]
        return root

    def readers(self, tensor: int) -> list[Edge]:
        """Return the edges that read a root tensor, in the graph as it is planned so far."""
        found = self._readers.get(tensor)
        return found if found is not None else self.view.tensors[tensor].readers

    def number_readers(self, tensor: int) -> list[Edge]:
        """Return the edges that depend on a root tensor's numbers, not only on its shape or type.

        An edge in a subgraph counts in any case: a subgraph captures a tensor by its name, so the
        name has to stay.
        """
        scope = self.view.tensors[tensor].scope
        return [
            (node, index)
            for node, index in self.readers(tensor)
            if self.view.nodes[node].scope != scope or not self.graph.makes_constants(node)
        ]

    def state(self, node: int) -> Absorbed:
        """Return what a linear node has absorbed."""
        state = self.absorbed.get(node)
        return state or Absorbed.nothing(node, self.roles.linear[node], self.bias_nodes.get(node))

    def extra_nodes(self, node: int) -> int:
        """Return how many nodes have to be added for what a linear node has absorbed."""
        state = self.absorbed.get(node)
        return state.extra_nodes if state else 0

    def linear_behind(self, tensor: int) -> int | None:
        """Return the linear node that makes a tensor, itself or with the Add that is its bias."""
        maker = self.view.tensors[tensor].producer
        if maker in self.roles.linear and maker not in self.bias_nodes:
            return maker if self.view.nodes[maker].outputs[0] == tensor else None
        return self.linear_of_bias.get(maker)

    def bias_of(self, state: Absorbed) -> int | None:
        """Return the tensor that is the bias of a linear node, if it has one."""
        inputs = self.view.nodes[state.node].inputs
        if state.bias_node is not None:
            inputs = self.view.nodes[state.bias_node].inputs
            return next(t for t in inputs if t in self.graph.constants)
        index = state.layout.bias
        if index is None or index >= len(inputs) or inputs[index] == NONE:
            return None
        return inputs[index]

    def label(self, tensor: int) -> str:
        """Return the words by which a person finds a tensor in the model."""
        return f"tensor '{self.view.tensors[tensor].name}'"

    # -- building -----------------------------------------------------------------------------

    def _find_bias_nodes(self) -> dict[int, int]:
        """Return the Add that serves as the bias of each linear operator that takes none."""
        found: dict[int, int] = {}
        for number, layout in self.roles.linear.items():
            if layout.bias is not None:
                continue
            reader = self._only_reader(self.view.nodes[number])
            affine = None if reader is None else self.roles.affine.get(reader)
            if reader is None or affine is None or affine.affine.has_scale:
                continue
            if not affine.affine.has_shift or not _along(affine.affine, layout):
                continue
            if not self._adds_its_constant(reader, affine.affine):
                continue
            found[number] = reader
        for reader in found.values():
            del self.roles.affine[reader]
        self.linear_of_bias = {reader: number for number, reader in found.items()}
        return found

    def _adds_its_constant(self, node: int, affine: Affine) -> bool:
        """Whether a node adds its one constant as it is stored; a Sub does not."""
        operator = self.graph.operator(node)
        if operator.attributes.get("axis") is not None:
            return False  # opset 6: the constant is not aligned on the right, as a bias is
        inputs = operator.inputs
        constants = [value for value in inputs if value is not None and value.is_constant]
        if len(constants) != 1:
            return False
        return bool(np.all(affine.shift == constants[0].numbers().astype(np.float64)))

    def _only_reader(self, node: Node) -> int | None:
        """Return the one node of the same scope that reads the numbers of a node's output."""
        readers = self.number_readers(node.outputs[0])
        if self.outputs.get(node.outputs[0]) or len(readers) != 1:
            return None
        reader = self.view.nodes[readers[0][0]]
        return reader.number if reader.scope == node.scope else None

    def _find_runs(self) -> list[Run]:
        runs: list[Run] = []
        seen: set[int] = set()
        for number in sorted(self.roles.affine):
            if number in seen:
                continue
            nodes, total = [number], self.roles.affine[number].affine
            while (reader := self._only_reader(self.view.nodes[nodes[-1]])) is not None:
                affine = self.roles.affine.get(reader)
                if affine is None or not can_follow(total, affine.affine):
                    break
                if max(total.size, affine.affine.size) * len(nodes) > AFFINES:
                    break  # to put them together again and again would take too long
                nodes.append(reader)
                total = total.then(affine.affine)
            seen.update(nodes)
            steps = [self.roles.affine[node].affine for node in nodes]
            runs.append(Run(len(runs), nodes, steps))
        return runs

    def follower(self, run: Run) -> Run | None:
        """Return the run that this one can be joined with, now that nothing is between them."""
        reader = self._only_reader(self.view.nodes[run.nodes[-1]])
        number = None if reader is None else self.run_of.get(reader)
        if number is None or self.runs[number].nodes[0] != reader:
            return None
        other = self.runs[number]
        return other if can_follow(run.total, other.total) else None

    def join(self, run: Run, follower: Run) -> None:
        """Append a run to another."""
        if run.is_merged or follower.is_merged:
            run.steps = [*run.plain_steps(), *follower.plain_steps()]
            run.before, run.after = Affine.identity(run.steps[0].rank), None
        else:
            run.steps = [*run.steps, *follower.steps]
        run.nodes = [*run.nodes, *follower.nodes]
        self.run_of |= dict.fromkeys(follower.nodes, run.number)
        follower.nodes, follower.steps = [], []

    # -- taking up a proposal -----------------------------------------------------------------

    def apply(self, proposal: Proposal) -> None:
        """Apply a proposal.

        Raises:
            Refusal: It takes too much memory; the draft is unchanged then.
        """
        linear = self.absorbed
        replaced = [linear[node] for node in proposal.linear if node in linear]
        self.budget.take_room(proposal, replaced)
        taken: list[int] = []
        into = [*proposal.linear, *sorted(proposal.parameters)]
        for number, (begin, end) in proposal.removed.items():
            output = self.view.nodes[self.runs[number].nodes[end - 1]].outputs[0]
            dropped = proposal.how is How.NOTHING and output in self.outputs
            renames = proposal.how is How.OUTPUT or dropped
            taken.extend(self._remove(number, begin, end, renames=renames))
        self.absorbed.update(proposal.linear)
        for number, affine in proposal.before.items():
            run = self.runs[number]
            run.before = affine if run.before is None else affine.then(run.before)
            into.extend(run.nodes)
        for number, affine in proposal.after.items():
            run = self.runs[number]
            run.after = affine if run.after is None else run.after.then(affine)
            into.extend(run.nodes)
        for node in proposal.parted:
            self._part(node)
        for edge, affine in proposal.constants.items():
            self._put_through(edge, affine)
        self.stated.update(proposal.stated)
        self.changed |= proposal.changed
        for number in proposal.widened:
            self._widen(number)
        for number, affine in proposal.rescaled.items():
            self.runs[number].become(affine)
        for number, affine in proposal.left.items():
            self.runs[number].become(affine)
            taken.extend(self.runs[number].nodes)
        through = tuple(sorted(proposal.through))
        self.folds.append(Fold(tuple(taken), tuple(into), through, proposal.how))

    def _part(self, linear: int) -> None:
        """Let the Add behind a linear node be its bias no longer, but one that affines pass.

        What the bias is by then goes through those. The linear node has none from now on.
        """
        state = self.state(linear)
        node = self.bias_nodes.pop(linear)
        del self.linear_of_bias[node]
        self.roles.carry[node] = self.roles.also_carry[node]
        self._linear_of_parted[node] = linear
        self.parted[linear] = Parted(state)
        if linear in self.absorbed:
            self.absorbed[linear] = state.without_bias()

    def _put_through(self, edge: Edge, affine: Affine) -> None:
        """Let a constant operand become an affine of it."""
        linear = self._linear_of_parted.get(edge[0])
        if linear is not None:
            self.parted[linear] = self.parted[linear].then(affine)
            return
        earlier = self.constants.get(edge)
        self.constants[edge] = affine if earlier is None else earlier.then(affine)

    def _widen(self, number: int) -> None:
        """Let the nodes of a run be passed by affines from now on; those are in no run any more.

        What changes nothing behind the others stays one, which may be joined with the next.
        """
        run = self.runs[number]
        behind = (i for i, step in enumerate(run.steps, start=1) if not step.is_identity)
        count = max(behind, default=0)
        for node in run.nodes[:count]:
            del self.roles.affine[node], self.run_of[node]
            self.roles.carry[node] = self.roles.also_carry[node]
        run.nodes, run.steps = run.nodes[count:], run.steps[count:]

    def _remove(self, number: int, begin: int, end: int, *, renames: bool) -> list[int]:
        """Remove nodes from a run: their output becomes the same as the tensor that they read."""
        run = self.runs[number]
        nodes = run.nodes[begin:end]
        source = self.root(self.data_of(nodes[0]))
        output = self.view.nodes[nodes[-1]].outputs[0]
        stay = [edge for edge in self.readers(source) if edge[0] != nodes[0]]
        self._readers[source] = stay + self.readers(output)
        for node in nodes:
            self._same_as[self.view.nodes[node].outputs[0]] = source
        if renames and (output in self.outputs or source not in self.outputs):
            self.names[source] = self._name_of(output)
        if output in self.outputs:
            self.outputs[source] = self.outputs.get(source, 0) + self.outputs.pop(output)
        run.before = None if begin == 0 else run.before
        run.after = None if end == len(run.nodes) else run.after
        del run.nodes[begin:end], run.steps[begin:end]
        self.removed.update(nodes)
        return nodes

    def take_up_sum(self, merged: MergedSum) -> None:
        """Let branches of a sum be one.

        Raises:
            Refusal: There is no room for it; nothing has happened then.
        """
        self.budget.take_room(merged.proposal, ())
        gone = {*merged.taken}
        made = (t for node in gone for t in self.view.nodes[node].inputs if t != NONE)
        read = {self.root(t) for t in made if t not in self.graph.constants}
        read |= {self.root(self.view.nodes[node].inputs[index]) for node, index in merged.lost}
        stale = {edge for edge in merged.lost if edge[0] not in gone}
        self._same_as |= merged.stands
        for tensor in {*read, *merged.stands}:
            left = [e for e in self.readers(tensor) if e[0] not in gone and e not in stale]
            self._readers[tensor] = left
            root = self.root(tensor)
            if root != tensor:
                self._readers[root] = self.readers(root) + left
        self._forget_roles(merged)
        result = self.view.nodes[merged.root].outputs[0]
        root = self.root(result)
        if root != result:
            self.names[root] = self._name_of(result)
            if result in self.outputs:
                self.outputs[root] = self.outputs.pop(result)
        kept = (node for number in merged.affines for node in self.runs[number].nodes)
        into = (*merged.states, *kept)
        self.folds.append(Fold(merged.taken, into, merged.through, How.SUM))

    def _forget_roles(self, merged: MergedSum) -> None:
        """Let the roles of nodes be what they are once branches of a sum are one."""
        for node in merged.taken:
            for roles in (self.roles.linear, self.roles.carry, self.absorbed, self.bias_nodes):
                roles.pop(node, None)
        for run in merged.runs:
            self.runs[run].nodes, self.runs[run].steps = [], []
            self.runs[run].before = self.runs[run].after = None
        for run, affine in merged.affines.items():
            self.runs[run].become(affine)
        for node, state in merged.states.items():
            self.roles.linear[node] = state.layout
        for node, signs in merged.signs.items():
            self.roles.carry[node] = Sum(signs)
        self.sums |= merged.signs
        self.absorbed |= merged.states
        self.removed |= {*merged.taken}

    def _name_of(self, tensor: int) -> str:
        return self.names.get(tensor, self.view.tensors[tensor].name)

    def data_of(self, node: int) -> int:
        """Return the tensor that an affine node reads, as the view has it."""
        return self.view.nodes[node].inputs[self.roles.affine[node].data]

    def run_input(self, run: Run) -> int:
        """Return the tensor that a run reads."""
        return self.root(self.data_of(run.nodes[0]))

    def run_output(self, run: Run) -> int:
        """Return the tensor that a run makes."""
        return self.view.nodes[run.nodes[-1]].outputs[0]

    # -- results ------------------------------------------------------------------------------

    def same_as(self) -> dict[int, int]:
        """Return for every removed output the tensor that takes its place."""
        return {tensor: self.root(tensor) for tensor in tuple(self._same_as)}


def _along(affine: Affine, layout: Linear) -> bool:
    """Whether an affine varies along a linear operator's output channels alone."""
    axes = [axis % affine.rank for axis in layout.out_axes]
    return all(axis in axes for axis in affine.axes)
