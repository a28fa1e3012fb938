"""The state of planning: the view, as it would look after the folds decided so far.

A draft starts as the view is and takes up one *proposal* after the other, each found by
`bnfold.graph.plan.search`. Removed nodes vanish by letting their output be the *same as* another
tensor; linear nodes gather what they absorb; nothing in the model changes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod

import numpy as np

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.roles import find_roles
from bnfold.graph.index.view import NONE, Node
from bnfold.graph.plan.plan import Fold, How, LinearEdit
from bnfold.limits import AFFINES, CLONED, STEPS, STEPS_PER_NODE
from bnfold.reasons import Obstacle, Reason, Refusal
from bnfold.rules.affine import F64, Affine, some
from bnfold.rules.linear import Border, Linear

Edge = tuple[int, int]
"""A (node, input index) that reads a tensor."""

_ASKED_AT_ONCE = 16
"""Readers or inputs that are asked in about the time that a step takes."""


@dataclass(slots=True, eq=False)
class Run:
    """A chain of affine nodes, each the only reader of the one before.

    Together they are a channel affine too: they vary along one axis.

    Attributes:
        number: Its number.
        nodes: The nodes that are left of it, in order.
        steps: What each of them is.
        before: What was merged in from above.
        after: What was merged in from below.
        above: Why it could not go up.
        below: Why it could not go down.
        respelled: Whether the steps are no longer what the nodes say.
    """

    number: int
    nodes: list[int]
    steps: list[Affine]
    before: Affine | None = None
    after: Affine | None = None
    above: Obstacle | None = None
    below: Obstacle | None = None
    respelled: bool = False

    @property
    def is_merged(self) -> bool:
        """Whether it holds more than its nodes say."""
        return self.respelled or self.before is not None or self.after is not None

    @property
    def is_respelled(self) -> bool:
        """Whether it has been put into the form of a Mul and an Add, and is still in it."""
        return self.respelled and self.before is None and self.after is None

    def respell(self) -> None:
        """Let the first node be the whole scale, the second the whole shift, the rest nothing."""
        total = self.total
        rest = [Affine.identity(total.rank)] * (len(self.nodes) - 2)
        shift = Affine.of(np.ones_like(total.scale), total.shift)
        self.steps = [total.scale_only(), shift, *rest]
        self.before = self.after = None
        self.respelled = True

    def plain_steps(self) -> list[Affine]:
        """Return the steps, with what was merged in put into the first and the last."""
        return [self.prefix(1), *self.steps[1:-1], self.suffix(len(self.steps) - 1)][
            : len(self.steps)
        ]

    def prefix(self, count: int) -> Affine:
        """Return what the first `count` nodes are together."""
        return self._composed(self.before, self.steps[:count], self._after_if(count))

    def prefixes(self) -> Iterator[Affine]:
        """Yield what the first node is, the first two are together, and so on."""
        result = self.before
        for count, step in enumerate(self.steps, start=1):
            result = step if result is None else result.then(step)
            after = self._after_if(count)
            yield result if after is None else result.then(after)

    def suffix(self, start: int) -> Affine:
        """Return what the nodes from `start` on are together."""
        before = self.before if start == 0 else None
        return self._composed(before, self.steps[start:], self.after)

    @property
    def total(self) -> Affine:
        """What the whole run is."""
        return self.prefix(len(self.nodes))

    def _after_if(self, count: int) -> Affine | None:
        return self.after if count == len(self.nodes) else None

    def _composed(self, before: Affine | None, steps: list[Affine], after: Affine | None) -> Affine:
        affines = [a for a in (before, *steps, after) if a is not None]
        if not affines:
            return Affine.identity(self.steps[0].rank)
        return reduce(Affine.then, affines)


@frozen(eq=False)
class Absorbed:
    """What a linear node has absorbed so far.

    Attributes:
        layout: How its weight lies.
        out_scale: s, [Cout].
        out_shift: t, [Cout].
        in_scale: q, [Cin].
        in_shift: r, [Cin].
        bias_node: The Add behind it that holds its bias, or None.
        pad: The value of the explicit Pad that it needs, or None.
    """

    layout: Linear
    out_scale: F64
    out_shift: F64
    in_scale: F64
    in_shift: F64
    bias_node: int | None = None
    pad: float | None = None

    @classmethod
    def nothing(cls, layout: Linear, bias_node: int | None) -> "Absorbed":
        """Return the state of a node that has absorbed nothing."""
        ones, zeros = np.ones, np.zeros
        return cls(
            layout,
            ones(layout.out_channels),
            zeros(layout.out_channels),
            ones(layout.in_channels),
            zeros(layout.in_channels),
            bias_node,
        )

    def on_output(self, affine: Affine) -> "Absorbed":
        """Return the state after one more affine on the output."""
        s, t = self.layout.output_vectors(affine)
        return replace(self, out_scale=s * self.out_scale, out_shift=s * self.out_shift + t)

    def on_input(self, affine: Affine) -> "Absorbed":
        """Return the state after one more affine on the input.

        Raises:
            Refusal: The operator reads zeros beyond its input that are no longer zeros.
        """
        q, r = self.layout.input_vectors(affine)
        scale, shift = self.in_scale * q, self.in_scale * r + self.in_shift
        return replace(self, in_scale=scale, in_shift=shift, pad=self._pad_for(scale, shift))

    def _pad_for(self, scale: F64, shift: F64) -> float | None:
        """Return the value v with scale · v + shift = 0 on every channel, if one is needed."""
        if not some(shift) or self.layout.border is Border.NOTHING:
            return None
        if self.layout.border is Border.NEVER:
            raise Refusal(Reason.ZERO_PADDING)
        with np.errstate(all="ignore"):
            values = -shift / scale
        same = np.isfinite(values).all() and np.allclose(values, values[0], rtol=1e-9, atol=0)
        if not same:
            raise Refusal(Reason.ZERO_PADDING, "the channels need different pad values")
        return float(values[0])

    @property
    def has_shift(self) -> bool:
        """Whether a bias is needed."""
        return some(self.out_shift) or some(self.in_shift)

    @property
    def size(self) -> int:
        """How many values are held for it: four vectors, and the factor that they come to."""
        layout = self.layout
        vectors = 2 * (layout.out_channels + layout.in_channels)
        both = some(self.in_scale != 1) and some(self.out_scale != 1)
        return vectors + both * layout.out_channels * layout.in_channels // layout.groups

    @property
    def extra_nodes(self) -> int:
        """How many nodes have to be added for it."""
        bias = self.has_shift and self.layout.bias is None and self.bias_node is None
        return (self.pad is not None) + (bias and self.layout.with_bias is None)


@dataclass(slots=True, eq=False)
class Proposal:
    """What one search found.

    Attributes:
        how: Up or down.
        removed: For each run, the nodes of it that go, from and to.
        linear: The new state of linear nodes.
        before: What runs get merged in from above.
        after: What runs get merged in from below.
        constants: The affine that constant operands are put through.
        fills: The new values of Pads.
        through: Nodes that are passed.
    """

    how: How
    removed: dict[int, tuple[int, int]] = field(default_factory=dict)
    linear: dict[int, Absorbed] = field(default_factory=dict)
    before: dict[int, Affine] = field(default_factory=dict)
    after: dict[int, Affine] = field(default_factory=dict)
    constants: dict[Edge, Affine] = field(default_factory=dict)
    fills: dict[int, float] = field(default_factory=dict)
    through: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        """How many values are held for it."""
        affines = (*self.before.values(), *self.after.values(), *self.constants.values())
        return sum(a.size for a in affines) + sum(state.size for state in self.linear.values())


class Draft:
    """See the module."""

    def __init__(self, graph: Graph, overflowing: Iterable[int] = ()) -> None:
        self.graph = graph
        self.view = graph.view
        self.roles = find_roles(graph)
        for node in overflowing:
            self.roles.linear.pop(node, None)
            self.roles.affine.pop(node, None)
            self.roles.carry.pop(node, None)
            self.roles.refused[node] = Obstacle(Reason.OVERFLOW)
        self.folds: list[Fold] = []
        self.removed: set[int] = set()
        self.names: dict[int, str] = {}
        self.constants: dict[Edge, Affine] = {}
        self.fills: dict[int, float] = {}
        self.outputs = {t.number: t.outputs for t in self.view.tensors if t.outputs}
        self._held = 0  # values of what was taken up
        self._steps = 0  # of all searches
        self._cloned = 0  # elements of constants that will be written besides the model's own
        self._rewritten: dict[int, Edge] = {}  # the first that changes a constant, by constant
        self._edges: set[Edge] = set()  # all that change one
        self._readers: dict[int, list[Edge]] = {}
        self._same_as: dict[int, int] = {}
        self.bias_nodes = self._find_bias_nodes()
        self.absorbed: dict[int, Absorbed] = {}
        self.runs = self._find_runs()
        self.run_of = {node: run.number for run in self.runs for node in run.nodes}

    # -- looking ------------------------------------------------------------------------------

    def root(self, tensor: int) -> int:
        """Return the tensor that stands where `tensor` stood."""
        root = tensor
        while root in self._same_as:
            root = self._same_as[root]
        while tensor != root:  # so that the next look is short
            self._same_as[tensor], tensor = root, self._same_as[tensor]
        return root

    def readers(self, tensor: int) -> list[Edge]:
        """Return who reads a root tensor now."""
        found = self._readers.get(tensor)
        return found if found is not None else self.view.tensors[tensor].readers

    def number_readers(self, tensor: int) -> list[Edge]:
        """Return who reads a root tensor's numbers now, and not its shape or type alone.

        Whoever reads it inside a subgraph is counted: there it has to keep its name.
        """
        scope = self.view.tensors[tensor].scope
        return [
            (node, index)
            for node, index in self.readers(tensor)
            if self.view.nodes[node].scope != scope or not self.makes_constants(node)
        ]

    def count_step(self, asked: int) -> None:
        """Count a step of a search: a tensor of so many readers, or a node of so many inputs.

        Raises:
            Refusal: There have been more than any network needs.
        """
        self._steps += 1 + asked // _ASKED_AT_ONCE
        if self._steps > STEPS + STEPS_PER_NODE * len(self.view.nodes):
            raise Refusal(Reason.TOO_LARGE, "so many steps have been taken to plan")

    def makes_constants(self, node: int) -> bool:
        """Whether a node makes constants, whatever the numbers that it reads are."""
        constants = self.graph.constants
        return all(t == NONE or t in constants for t in self.view.nodes[node].outputs)

    def state(self, node: int) -> Absorbed:
        """Return what a linear node has absorbed."""
        state = self.absorbed.get(node)
        return state or Absorbed.nothing(self.roles.linear[node], self.bias_nodes.get(node))

    def extra_nodes(self, node: int) -> int:
        """Return how many nodes have to be added for what a linear node has absorbed."""
        state = self.absorbed.get(node)
        return state.extra_nodes if state else 0

    def linear_output(self, node: int) -> int:
        """Return the output of a linear node with its bias."""
        return self.view.nodes[self.bias_nodes.get(node, node)].outputs[0]

    def linear_behind(self, tensor: int) -> int | None:
        """Return the linear node whose output, bias included, a tensor is."""
        maker = self.view.tensors[tensor].producer
        if maker in self.roles.linear and maker not in self.bias_nodes:
            return maker if self.view.nodes[maker].outputs[0] == tensor else None
        return self._linear_of_bias.get(maker)

    def label(self, tensor: int) -> str:
        """Return how a person finds a tensor."""
        return f"tensor '{self.view.tensors[tensor].name}'"

    # -- building -----------------------------------------------------------------------------

    def _find_bias_nodes(self) -> dict[int, int]:
        """Find the Adds that are the bias of a linear operator without one."""
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
        self._linear_of_bias = {reader: number for number, reader in found.items()}
        return found

    def _adds_its_constant(self, node: int, affine: Affine) -> bool:
        """Whether a node's shift is what its one constant says; a Sub's has the other sign."""
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
        """Return the run that could be one with this one, now that others went from between."""
        reader = self._only_reader(self.view.nodes[run.nodes[-1]])
        number = None if reader is None else self.run_of.get(reader)
        if number is None or self.runs[number].nodes[0] != reader:
            return None
        other = self.runs[number]
        return other if can_follow(run.total, other.total) else None

    def join(self, run: Run, follower: Run) -> None:
        """Let two runs be one."""
        if run.is_merged or follower.is_merged:
            run.steps = [*run.plain_steps(), *follower.plain_steps()]
            run.before, run.after = Affine.identity(run.steps[0].rank), None
        else:
            run.steps = [*run.steps, *follower.steps]
        run.nodes = [*run.nodes, *follower.nodes]
        self.run_of |= dict.fromkeys(follower.nodes, run.number)
        follower.nodes, follower.steps = [], []

    # -- taking up a proposal -----------------------------------------------------------------

    def _take_room(self, proposal: Proposal) -> None:
        """Refuse a proposal whose affines, or whose clones of weights, have no room in memory."""
        held = self._held + proposal.size
        if held > AFFINES:
            raise Refusal(Reason.TOO_LARGE, "all affines together")
        clones = self._clones(proposal)
        cloned = self._cloned + sum(clones.values())
        if cloned > CLONED:
            raise Refusal(Reason.TOO_LARGE, "clones of shared weights")
        replaced = (self.absorbed[node] for node in proposal.linear if node in self.absorbed)
        self._held = held - sum(state.size for state in replaced)
        self._cloned = cloned
        self._edges.update(clones)
        for node, index in clones:
            self._rewritten.setdefault(self.view.nodes[node].inputs[index], (node, index))

    def _clones(self, proposal: Proposal) -> dict[Edge, int]:
        """Return how many elements each new reader of a changed constant adds to the model.

        The first that changes a stored constant takes its place and adds nothing.
        """
        edges = {(node, state.layout.weight) for node, state in proposal.linear.items()}
        added: dict[Edge, int] = {}
        first: set[int] = set()
        for edge in sorted((edges | proposal.constants.keys()) - self._edges):
            tensor = self.view.nodes[edge[0]].inputs[edge[1]]
            shape = self.graph.shapes.shapes.get(tensor, ())
            stored = self.graph.constants.stored(tensor) is not None
            fresh = stored and tensor not in self._rewritten and tensor not in first
            first.add(tensor)
            added[edge] = 0 if fresh else prod(d for d in shape if isinstance(d, int))
        return added

    def take_up(self, proposal: Proposal) -> None:
        """Let a proposal happen.

        Raises:
            Refusal: There is no room for it; nothing has happened then.
        """
        self._take_room(proposal)
        taken: list[int] = []
        into = [*proposal.linear]
        for number, (begin, end) in proposal.removed.items():
            taken.extend(self._remove(number, begin, end, renames=proposal.how is How.OUTPUT))
        self.absorbed.update(proposal.linear)
        for number, affine in proposal.before.items():
            run = self.runs[number]
            run.before = affine if run.before is None else affine.then(run.before)
            into.extend(run.nodes)
        for number, affine in proposal.after.items():
            run = self.runs[number]
            run.after = affine if run.after is None else run.after.then(affine)
            into.extend(run.nodes)
        for edge, affine in proposal.constants.items():
            earlier = self.constants.get(edge)
            self.constants[edge] = affine if earlier is None else earlier.then(affine)
        self.fills.update(proposal.fills)
        through = tuple(sorted(proposal.through))
        self.folds.append(Fold(tuple(taken), tuple(into), through, proposal.how))

    def _remove(self, number: int, begin: int, end: int, *, renames: bool) -> list[int]:
        """Take nodes out of a run: what they made is now the same as what they read."""
        run = self.runs[number]
        nodes = run.nodes[begin:end]
        source = self.root(self._data_of(nodes[0]))
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

    def _name_of(self, tensor: int) -> str:
        return self.names.get(tensor, self.view.tensors[tensor].name)

    def _data_of(self, node: int) -> int:
        return self.view.nodes[node].inputs[self.roles.affine[node].data]

    def run_input(self, run: Run) -> int:
        """Return the tensor that a run reads."""
        return self.root(self._data_of(run.nodes[0]))

    def run_output(self, run: Run) -> int:
        """Return the tensor that a run makes."""
        return self.view.nodes[run.nodes[-1]].outputs[0]

    # -- what comes out -----------------------------------------------------------------------

    def linear_edits(self) -> dict[int, LinearEdit]:
        """Return the linear nodes that change."""
        return {
            node: LinearEdit(
                node,
                state.layout,
                state.out_scale,
                state.out_shift,
                state.in_scale,
                state.in_shift,
                state.bias_node,
                state.pad,
            )
            for node, state in self.absorbed.items()
        }

    def same_as(self) -> dict[int, int]:
        """Return for every removed output the tensor that takes its place."""
        return {tensor: self.root(tensor) for tensor in tuple(self._same_as)}

    def outputs_of(self, tensors: Iterable[int]) -> int:
        """Return how many graph outputs are among tensors."""
        return sum(self.outputs.get(tensor, 0) for tensor in tensors)


def can_follow(first: Affine, second: Affine) -> bool:
    """Whether two affines, one after the other, are a channel affine."""
    try:
        return first.rank == second.rank and len(first.then(second).axes) <= 1
    except Refusal:  # it would be too large
        return False


def _along(affine: Affine, layout: Linear) -> bool:
    """Whether an affine varies along a linear operator's output channels alone."""
    axis = layout.out_axis % affine.rank
    return all(a == axis for a in affine.axes)


__all__ = ["NONE", "Absorbed", "Draft", "Edge", "Proposal", "Run"]
