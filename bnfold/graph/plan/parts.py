"""Which branches of one tensor can be one linear operator, and whether that pays."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.graph.facts.quantized import find_quantized
from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.plan.absorbed import Absorbed, Summand
from bnfold.graph.plan.branches import Branch, plain
from bnfold.graph.plan.draft import Draft
from bnfold.limits import AFFINES
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, all_of
from bnfold.rules.linear_maps import Term, added
from bnfold.rules.orders import TURNED

_NESTED = 64
"""Sums that may stand one inside the other."""

_SPATIAL = 2  # the first spatial axis


@frozen(eq=False)
class Part:
    """A branch as a summand.

    Attributes:
        branch: The branch.
        summand: What it adds.
        stored: How many numbers it stores, by what tells equal ones.
        biased: Whether it adds something that does not depend on the source.
    """

    branch: Branch
    summand: Summand
    stored: Mapping[object, int]
    biased: bool


@frozen(eq=False)
class Cluster:
    """Parts that are to become one.

    Attributes:
        parts: The parts.
        term: What they add up to.
    """

    parts: tuple[Part, ...]
    term: Term

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches."""
        return tuple(part.branch for part in self.parts)

    @property
    def multiplications(self) -> int:
        """What the parts take for each position of the result."""
        return sum(part.summand.term.weights for part in self.parts)

    @property
    def biased(self) -> bool:
        """Whether there is a bias in it."""
        return any(part.biased for part in self.parts)

    @property
    def stored(self) -> int:
        """How many numbers the parts store; those that several read are stored once."""
        constants: dict[object, int] = {}
        for part in self.parts:
            constants |= part.stored
        return max(sum(constants.values()), self.biased * self.term.out_channels)


class Parts:
    """Looks at branches that begin at one tensor.

    Args:
        draft: The draft.
        term_of: Tells which linear map a node is.
        branches: The branches, of which one at least has a linear operator, and of which all do the
            same to the order of axes.
    """

    def __init__(
        self, draft: Draft, term_of: Callable[[int], Term], branches: Sequence[Branch]
    ) -> None:
        self._draft = draft
        self._view = draft.view
        self._graph = draft.graph
        self._term_of = term_of
        found = {b.linear: b for b in branches if b.linear is not None}
        self._model = max(found)
        self._placed = found[self._model]
        self._layout = draft.roles.linear[self._model]
        self._axes = len(term_of(self._model).window.taps)
        self._held = 0  # values of the branches' affines
        shape = self._placed.before.of_shape(draft.graph.shapes.shapes.get(branches[0].source, ()))
        sizes = [dim for dim in shape[_SPATIAL:] if isinstance(dim, int)]
        self._sizes = sizes if len(sizes) == self._axes == len(shape) - _SPATIAL else None

    # -- together -----------------------------------------------------------------------------

    def cluster(self, parts: Sequence[Part]) -> Cluster:
        """Return parts as one.

        Raises:
            Refusal: They do not add up to one, or that would not pay.
        """
        terms = [part.summand.term for part in parts]
        return self._paying(Cluster(tuple(parts), added(terms, self._sizes)))

    def joined(self, cluster: Cluster, part: Part) -> Cluster:
        """Return a cluster with one more part.

        Raises:
            Refusal: It does not go with the others, or that would not pay.
        """
        term = added([cluster.term, part.summand.term], self._sizes)
        return self._paying(Cluster((*cluster.parts, part), term))

    def _paying(self, cluster: Cluster) -> Cluster:
        """Refuse a sum that multiplies more often, or stores more, than its parts."""
        now, then = cluster.multiplications, cluster.term.weights
        stored = then + cluster.biased * cluster.term.out_channels
        if then <= now and stored <= cluster.stored:
            return cluster
        width = self._weight_type(self._model).itemsize
        raise Refusal(
            Reason.COSTS_MORE,
            f"{then:,} instead of {now:,} multiplications for each position, "
            f"{width * stored:,} instead of {width * cluster.stored:,} bytes",
        )

    # -- one by one ---------------------------------------------------------------------------

    def part(self, branch: Branch) -> Part:
        """Return a branch as a summand.

        Raises:
            Refusal: It cannot be a part: its numbers are not known, or are stored in another form.
        """
        term = (branch.term or plain(self._axes)).of(self._layout.in_channels)
        if len(term.window.taps) != self._axes:
            raise Refusal(Reason.OTHER_GEOMETRY, f"{len(term.window.taps)} spatial axes")
        state = None if branch.linear is None else self._state(branch.linear)
        scale, shift = all_of(1, term.out_channels), all_of(0, term.out_channels)
        affine = self._placed_affine(branch)
        if affine is not None:
            self._held += 2 * term.out_channels
            if self._held > AFFINES:
                raise Refusal(Reason.TOO_LARGE, "all affines together")
            axis = self._layout.out_axis % affine.rank
            scale, shift = affine.vectors(axis, term.out_channels)
        summand = Summand(term, scale, shift, state).times(branch.sign)
        stored = dict(self._stored(branch, state))
        return Part(branch, summand, stored, self._is_biased(branch, state))

    def _placed_affine(self, branch: Branch) -> Affine | None:
        """Return a branch's affine between the same Transposes as the model's linear operator.

        Raises:
            Refusal: The branch has a window, and other Transposes around it.
        """
        placed = self._placed
        if (branch.before, branch.behind) == (placed.before, placed.behind):
            return branch.affine
        if branch.term is not None:
            raise Refusal(Reason.OTHER_GEOMETRY, TURNED)
        affine = branch.affine
        return None if affine is None else placed.before.down(branch.before.up(affine))

    def _stored(self, branch: Branch, state: Absorbed | None) -> Iterator[tuple[object, int]]:
        """Yield how many numbers a branch stores, by what tells equal ones.

        Of one with a linear operator these are its weight and a bias, since what stands behind it
        can be folded into it; of an affine a scale, and a shift if it has one.
        """
        channels = self._layout.out_channels
        if state is None:
            if branch.affine is not None:
                yield branch.edge, channels * (1 + branch.affine.has_shift)
            return
        bias = self._draft.bias_of(state)
        yield self._weight(state.node), 0 if branch.term is None else branch.term.weights
        if self._is_biased(branch, state):
            yield branch.edge if bias is None else bias, channels

    def _is_biased(self, branch: Branch, state: Absorbed | None) -> bool:
        """Whether a branch adds something that does not depend on the source."""
        if branch.affine is not None and branch.affine.has_shift:
            return True
        return state is not None and (state.has_shift or self._draft.bias_of(state) is not None)

    def _weight(self, node: int) -> int:
        return self._view.nodes[node].inputs[self._draft.roles.linear[node].weight]

    def _weight_type(self, node: int) -> np.dtype[np.generic]:
        elem_type = self._graph.shapes.elem_types[self._weight(node)]
        return onnx.helper.tensor_dtype_to_np_dtype(elem_type)

    def _state(self, number: int) -> Absorbed:
        """Return the state of a linear node that can be a summand.

        Raises:
            Refusal: It cannot.
        """
        state = self._draft.state(number)
        with refusing_at(self._view.nodes[number]):
            if state.pad is not None:
                raise Refusal(Reason.ZERO_PADDING, "an explicit Pad stands before it")
            if state.summed is not None and state.summed.depth >= _NESTED:
                raise Refusal(Reason.TOO_LARGE, f"{_NESTED} sums, one inside the other")
            if self._frame(number) != self._frame(self._model):
                raise Refusal(Reason.OTHER_AXIS)
            if self._weight_type(number) != self._weight_type(self._model):
                raise Refusal(Reason.INEXACT_CAST, "weights of different types")
            if state.summed is None:
                self._check_numbers(state)
        return state

    def _frame(self, number: int) -> tuple[int, int, int]:
        """Return on which axes the channels of a linear node lie, and how many axes there are."""
        layout = self._draft.roles.linear[number]
        rank = len(self._term_of(number).window.taps) + _SPATIAL
        if rank == _SPATIAL:
            rank = self._graph.operator(number).required(layout.data).rank
        return layout.in_axis % rank, layout.out_axis % rank, rank

    def _check_numbers(self, state: Absorbed) -> None:
        """Refuse numbers that are not known, or that are stored as integers."""
        weight, bias = self._weight(state.node), self._draft.bias_of(state)
        self._check_known(weight)
        if bias is None:
            return
        label = self._draft.label(bias)
        if bias not in self._graph.constants:
            raise Refusal(Reason.BIAS_NOT_CONSTANT, label)
        self._check_known(bias)
        shape = self._graph.constants.value(bias).shape
        if not (state.bias_node is not None or state.layout.fits_bias(shape)):
            raise Refusal(Reason.INVALID_NODE, f"{label} has shape {list(shape)}")
        if prod(shape) not in (1, state.layout.out_channels):
            raise Refusal(Reason.OTHER_AXIS, f"{label} has shape {list(shape)}")

    def _check_known(self, tensor: int) -> None:
        if find_quantized(self._graph, tensor) is not None:
            raise Refusal(Reason.QUANTIZED_RANGE, "its numbers are stored as integers")
        if self._graph.constants.stored(tensor) is None:
            self._graph.constants.value(tensor)


def largest(parts: Iterable[Part]) -> list[Part]:
    """Return parts with those first that multiply most."""
    return sorted(parts, key=lambda part: -part.summand.term.weights)
