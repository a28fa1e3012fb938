"""CARRY rows of operators whose operands broadcast: sums and products of branches, and MatMul.

An affine on the result is one on a branch where the branch is not broadcast along an axis on which
the affine varies. A constant branch can take any affine: it is computed again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine, require_room
from bnfold.rules.operator import Operator, Value
from bnfold.rules.passage import OneWay, Passage, never


def _check_alignment(op: Operator) -> None:
    """Refuse the broadcast of opset 6 and before, which is not aligned on the right."""
    if op.integer("broadcast", 0):
        raise Refusal(Reason.OTHER_AXIS, "broadcast=1")


def onto_branch(affine: Affine, branch: Value) -> Affine:
    """Return an affine on a broadcast result as one on a branch of it.

    Raises:
        Refusal: The branch is broadcast along an axis on which the affine varies.
    """
    lead = affine.rank - branch.rank
    if any(axis < lead for axis in affine.axes):
        raise Refusal(Reason.CHANNELS_MIX, "the branch is broadcast", branch.name)
    for axis in affine.axes:
        if branch.dims[axis - lead] != affine.scale.shape[axis]:
            size = branch.dims[axis - lead]
            reason = Reason.CHANNELS_MIX if isinstance(size, int) else Reason.UNKNOWN_SHAPE
            raise Refusal(reason, "the branch is broadcast", branch.name)
    return affine.moved(lambda values: values.reshape(values.shape[lead:]))


def _onto_result(affine: Affine, rank: int) -> Affine:
    """Return an affine on a branch as one on the broadcast result."""
    return affine.moved(lambda v: v.reshape((1,) * (rank - affine.rank) + v.shape))


def _for_branch(affine: Affine, branch: Value) -> Affine:
    """Return what a branch takes of an affine on the result; a constant is simply widened."""
    return affine if branch.is_constant else onto_branch(affine, branch)


def _fits(affine: Affine, branch: Value) -> bool:
    try:
        _for_branch(affine, branch)
    except Refusal:
        return False
    return True


@frozen
class Sum:
    """Add, Sub, Sum: s (a + b) + t = (s a + t) + s b; every branch is scaled, one is shifted.

    Attributes:
        signs: The sign of each branch, 0 of one that is read no longer; 1 of those behind them.
    """

    signs: tuple[int, ...] = (1, 1)
    says: str = "one scale for all branches, a shift for one; a constant branch is recomputed"
    takes_shift: Callable[[Iterable[bool]], bool] = any
    every_input: bool = True

    def sign(self, index: int) -> int:
        """Return the sign of a branch."""
        return self.signs[index] if index < len(self.signs) else 1

    def _branches(self, op: Operator) -> list[int]:
        return [i for i in range(len(op.inputs)) if self.sign(i)]

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return the branches that can take the shift, if there is one."""
        if not affine.has_shift:
            return ()
        return [i for i in self._branches(op) if _fits(affine, op.required(i))]

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Scale every branch; shift the chosen one."""
        del output
        _check_alignment(op)
        scale = affine.scale_only()
        inputs = {i: _for_branch(scale, op.required(i)) for i in self._branches(op)}
        if affine.has_shift:
            shifted = [i for i in inputs if op.inputs[i] is op.inputs[way]]
            times = sum(map(self.sign, shifted))
            if not times:
                raise Refusal(Reason.BRANCHES_DISAGREE, "a tensor minus itself")
            share = _for_branch(Affine.of(affine.scale, affine.shift / times), op.required(way))
            inputs |= dict.fromkeys(shifted, share)
        return Passage(inputs=inputs)

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Let one common scale pass, and the sum of the shifts."""
        _check_alignment(op)
        rank = op.output.rank
        laid = {i: _onto_result(a, rank) for i, a in affines.items() if self.sign(i)}
        scale = next(iter(laid.values())).scale_only()
        require_room(*(affine.shift.shape for affine in laid.values()))
        shift = sum(self.sign(i) * affine.shift for i, affine in laid.items())
        if not all(affine.scale_only().same(scale) for affine in laid.values()):
            raise Refusal(Reason.BRANCHES_DISAGREE)
        others = (i for i in self._branches(op) if i not in laid and scale.has_scale)
        rest = {}
        for i in others:
            if not op.required(i).is_constant:
                raise Refusal(Reason.BRANCHES_DISAGREE, "another branch is added")
            rest[i] = scale
        return Passage(inputs=rest, outputs={0: Affine.of(scale.scale, np.asarray(shift))})


@frozen
class Product:
    """Mul of two branches: s (a b) = (s a) b; only a pure scale passes, through one branch."""

    says: str = "a pure scale, through one branch"
    takes_shift: Callable[[Iterable[bool]], bool] = never
    every_input: bool = True

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return the branches that can be scaled."""
        return [i for i in range(len(op.inputs)) if _fits(affine, op.required(i))]

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Scale the chosen branch."""
        del output
        _check_alignment(op)
        if affine.has_shift:
            raise Refusal(Reason.NEEDS_ZERO_SHIFT)
        if op.inputs.count(op.inputs[way]) > 1:
            raise Refusal(Reason.BRANCHES_DISAGREE, "a tensor times itself")
        return Passage(inputs={way: _for_branch(affine, op.required(way))})

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Let the product of the scales pass."""
        _check_alignment(op)
        rank = op.output.rank
        product = Affine.identity(rank)
        for affine in affines.values():
            if affine.has_shift:
                raise Refusal(Reason.NEEDS_ZERO_SHIFT)
            product = product.then(_onto_result(affine, rank))
        return Passage(outputs={0: product})


_MATRIX = 2  # the rank of one


@frozen
class Rows(OneWay):
    """MatMul with a constant matrix: (s A) W = s (A W) for s that is the same all along the sums.

    What varies along its channels a MatMul absorbs instead; see `rules.linear`.
    """

    says: str = "a pure scale along its rows"
    takes_shift: Callable[[Iterable[bool]], bool] = never
    every_input: bool = False

    def up(self, op: Operator, output: int, affine: Affine, choice: int) -> Passage:
        """Scale the data along the axes that are not summed over."""
        del output, choice
        data = self._data(op)
        return Passage(inputs={data: onto_branch(self._scale(op, affine), op.required(data))})

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Show the scale of the data."""
        data = self._data(op)
        if set(affines) != {data}:
            raise Refusal(Reason.NOT_LINEAR, "it is read as a parameter")
        return Passage(outputs={0: _onto_result(self._scale(op, affines[data]), op.output.rank)})

    def _data(self, op: Operator) -> int:
        return 1 if op.required(0).is_constant else 0

    def _scale(self, op: Operator, affine: Affine) -> Affine:
        """Return an affine that is a scale, and does not vary along the sums' or channels' axis."""
        data = self._data(op)
        axis = affine.rank - 1 - data  # the last one, or of what is multiplied from the left
        if op.required(data).rank < _MATRIX or axis in affine.axes:
            raise Refusal(Reason.OTHER_AXIS)
        if affine.has_shift:
            raise Refusal(Reason.OTHER_AXIS, "only a scale passes")
        return affine
