"""The CARRY table: how does an affine *move* through this node, up or down?

For a node f of one data input, a row knows pairs of affines with

    f(A_in(x)) = A_out(f(x))      for every x.

`up` answers A_in for a given A_out, `down` answers A_out for a given A_in. A row answers for all
inputs or outputs of a node at once; those that it does not mention do not change. Where an operator
only moves elements about, a row moves the values of the affine in the same way; it never compares
sizes to guess where the channels went.

A constant branch can take any affine, because it is recomputed. Where `up` could answer in several
ways, `ways_up` lists them, and the caller of `up` names one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules import combining, moving
from bnfold.rules.affine import Affine, require_room
from bnfold.rules.affine_nodes import check_dropout
from bnfold.rules.operator import Operator, Value


@frozen
class Passage:
    """What a row answers.

    Attributes:
        inputs: The affine that each input becomes; others do not change.
        outputs: The affine that each output becomes; others do not change.
        stated: The affine of the numbers that the node states itself, a Pad's value, or None.
    """

    inputs: Mapping[int, Affine] = field(default_factory=dict)
    outputs: Mapping[int, Affine] = field(default_factory=dict)
    stated: Affine | None = None


class CarryRow(Protocol):
    """One row of the table."""

    @property
    def takes_shift(self) -> Callable[[Iterable[bool]], bool]:
        """Whether a shift can pass upwards, given which inputs could take one.

        It decides what is tried first, not what is done.
        """

    @property
    def every_input(self) -> bool:
        """Whether affines pass through every input, or through the first alone."""

    @property
    def says(self) -> str:
        """What passes, in a few words."""

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return the ways that `up` can take; one or none if it has no alternative.

        If affines pass through every input, a way is the index of an input.
        """

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Return the affines on the inputs that appear as `affine` on the output `output`."""

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Return the affines on the outputs as which `affines` on the inputs appear."""


class _Decided:
    """A row that has one way upwards."""

    __slots__ = ()

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return nothing: there is no alternative."""
        del op, affine
        return ()


Move = Callable[[Operator, Affine], Affine]


def _never(_: Iterable[bool]) -> bool:
    return False


@frozen
class Single:
    """A node with one data input and one data output."""

    move_up: Move
    move_down: Move
    says: str = "any affine, moved as the elements are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    stated: Callable[[Operator, Affine], Affine | None] = lambda *_: None
    alone_up: Move | None = None
    every_input: bool = False

    def ways_up(self, op: Operator, affine: Affine) -> Sequence[int]:
        """Return two ways if the node leaves elements out: they take the affine too, or do not."""
        del op, affine
        return (0,) if self.alone_up is None else (0, 1)

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Move the affine from the output to the input."""
        if output:
            raise Refusal(Reason.NOT_LINEAR, f"output {output}")
        move = self.alone_up if way and self.alone_up is not None else self.move_up
        return Passage(inputs={0: move(op, affine)}, stated=self.stated(op, affine))

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Move the affine from the input to the output."""
        moved = self.move_down(op, _only(op, affines))
        return Passage(outputs={0: moved}, stated=self.stated(op, moved))


def _only(op: Operator, affines: Mapping[int, Affine]) -> Affine:
    if set(affines) != {0}:
        raise Refusal(Reason.NOT_LINEAR, f"{op.op_type} reads it as a parameter")
    return affines[0]


def _same(move: Move, says: str, *, takes_shift: Callable[[Iterable[bool]], bool] = all) -> Single:
    return Single(move, move, says, takes_shift=takes_shift)


def _anything(op: Operator, affine: Affine) -> Affine:
    del op
    return affine


def _at_inference(op: Operator, affine: Affine) -> Affine:
    """Dropout drops nothing; in training it would drop the shift too."""
    check_dropout(op)
    return affine


def _homogeneous(op: Operator, affine: Affine) -> Affine:
    """Relu, LeakyRelu, PRelu, Abs: f(s x) = s f(x) for s > 0."""
    del op
    return combining.positive_scale(affine)


_WIDTH: Mapping[int, int] = {
    onnx.TensorProto.FLOAT16: 1,
    onnx.TensorProto.BFLOAT16: 1,
    onnx.TensorProto.FLOAT: 2,
    onnx.TensorProto.DOUBLE: 3,
}


def _cast(op: Operator, affine: Affine, *, to_wider: bool) -> Affine:
    """An affine may go to the wider side of a cast, where it loses nothing.

    To the narrower side it goes only where what it makes is cast back to that type at once: then
    it is rounded to it either way.
    """
    source, target = op.required(0).elem_type, op.integer("to", 0)
    widths = _WIDTH.get(source, 0), _WIDTH.get(target, 0)
    if not all(widths):
        raise Refusal(Reason.NOT_LINEAR, "it casts from or to no floating-point type")
    wider = widths[1] > widths[0] if to_wider else widths[0] > widths[1]
    back = not to_wider and op.output.ends_as() == {source}
    if not (wider or source == target or back):
        raise Refusal(Reason.INEXACT_CAST)
    return affine


@frozen
class Concatenation(_Decided):
    """Concat: each input has its own slice of the affine along the axis."""

    says: str = "any affine, cut and joined as the tensors are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    every_input: bool = True

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Cut the affine as the output is cut."""
        del output, way
        axis = op.integer("axis", 1) % affine.rank
        return Passage(inputs=moving.cut(affine, axis, op.inputs))

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Join the inputs' affines."""
        axis = op.integer("axis", 1) % op.required(0).rank
        return Passage(outputs={0: moving.joined(affines, axis, op.inputs)})


@frozen
class Splitting(_Decided):
    """Split: each output has its own slice of the affine along the axis."""

    says: str = "any affine, cut and joined as the tensors are"
    takes_shift: Callable[[Iterable[bool]], bool] = all
    every_input: bool = False

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Spread one output's affine over its slice of the input."""
        del way
        axis = op.integer("axis", 0) % affine.rank
        return Passage(inputs={0: moving.joined({output: affine}, axis, op.outputs)})

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Cut the affine as the input is cut."""
        affine = _only(op, affines)
        axis = op.integer("axis", 0) % affine.rank
        return Passage(outputs=moving.cut(affine, axis, op.outputs))


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
    takes_shift: Callable[[Iterable[bool]], bool] = _never
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


@frozen
class Rows(_Decided):
    """MatMul with a constant matrix: (s A) W = s (A W) for s that is the same all along the sums.

    What varies along its channels a MatMul absorbs instead; see `rules.linear`.
    """

    says: str = "a pure scale along its rows"
    takes_shift: Callable[[Iterable[bool]], bool] = _never
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


_MATRIX = 2  # the rank of one


@frozen
class Blind(_Decided):
    """Shape, Size, and CastLike's second input: what no affine changes.

    Attributes:
        reads: The index of the input of which no numbers are read.
    """

    reads: int = 0
    says: str = "its result does not depend on the numbers"
    takes_shift: Callable[[Iterable[bool]], bool] = _never
    every_input: bool = False

    def up(self, op: Operator, output: int, affine: Affine, way: int) -> Passage:
        """Refuse: its output holds no values of the input."""
        del op, output, affine, way
        raise Refusal(Reason.NOT_LINEAR)

    def down(self, op: Operator, affines: Mapping[int, Affine]) -> Passage:
        """Return nothing: no affine on the input changes the output."""
        if set(affines) != {self.reads}:
            raise Refusal(Reason.NOT_LINEAR, f"{op.op_type} reads its numbers")
        return Passage()


_SCALE = "a positive scale without shift"
_POSITIVE = _same(_homogeneous, _SCALE, takes_shift=_never)
_NORM = Single(combining.reduce_norm_up, combining.reduce_norm_down, _SCALE, takes_shift=_never)
_PASS = _same(_anything, "any affine")
_MEAN = "any affine that does not vary over what is averaged"
_EXTREME = "a positive scale and any shift"

CARRY: Mapping[str, CarryRow] = {
    "Identity": _PASS,
    "Dropout": _same(_at_inference, "any affine"),
    "Cast": Single(
        lambda op, affine: _cast(op, affine, to_wider=False),
        lambda op, affine: _cast(op, affine, to_wider=True),
        "any affine, to the side of the wider type, or where it is cast back",
    ),
    "Transpose": Single(moving.transpose_up, moving.transpose_down),
    "Reshape": Single(moving.reshape_up, moving.reshape_down),
    "Flatten": Single(moving.reshape_up, moving.reshape_down),
    "Squeeze": Single(moving.squeeze_up, moving.squeeze_down),
    "Unsqueeze": Single(moving.unsqueeze_up, moving.unsqueeze_down),
    "Concat": Concatenation(),
    "Split": Splitting(),
    "Slice": Single(moving.slice_up, moving.slice_down, alone_up=moving.slice_alone_up),
    "Gather": Single(moving.gather_up, moving.gather_down, alone_up=moving.gather_alone_up),
    "Pad": Single(
        moving.pad_up,
        moving.pad_down,
        "any affine under which a constant fill stays one number",
        stated=moving.pad_stated,
    ),
    "DepthToSpace": Single(moving.depth_to_space_up, moving.depth_to_space_down),
    "SpaceToDepth": Single(moving.space_to_depth_up, moving.space_to_depth_down),
    "MaxPool": _same(combining.maximum, _EXTREME),
    "GlobalMaxPool": _same(combining.maximum, _EXTREME),
    "AveragePool": _same(combining.average, f"{_MEAN}; a shift only if no padding is"),
    "GlobalAveragePool": _same(combining.mean, _MEAN),
    "LpPool": _same(combining.norm, _SCALE, takes_shift=_never),
    "GlobalLpPool": _same(combining.norm, _SCALE, takes_shift=_never),
    "ReduceMean": Single(combining.reduce_mean_up, combining.reduce_mean_down, _MEAN),
    "ReduceSum": Single(
        combining.reduce_sum_up,
        combining.reduce_sum_down,
        "any affine; the shift as often as elements",
    ),
    "ReduceMax": Single(combining.reduce_extreme_up, combining.reduce_extreme_down, _EXTREME),
    "ReduceMin": Single(combining.reduce_extreme_up, combining.reduce_extreme_down, _EXTREME),
    "ReduceL1": _NORM,
    "ReduceL2": _NORM,
    "Resize": _same(combining.resize, "any affine that does not vary along a resized axis"),
    "Upsample": _same(combining.resize, "any affine that does not vary along a resized axis"),
    "Relu": _POSITIVE,
    "LeakyRelu": _POSITIVE,
    "PRelu": _POSITIVE,
    "Abs": _POSITIVE,
    "Clip": Single(
        _anything,
        _anything,
        "any affine under which each finite bound stays one number",
        stated=_anything,
    ),
    "Add": Sum(),
    "Sub": Sum(signs=(1, -1)),
    "Sum": Sum(),
    "Mul": Product(),
    "MatMul": Rows(),
    "Shape": Blind(),
    "Size": Blind(),
    "CastLike": Blind(reads=1),
}

ROUNDED_LATER = frozenset(
    {
        "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operators behind which a number may as well be rounded as before them: they choose or move it."""

BARRIERS: Mapping[str, Reason] = {
    "QuantizeLinear": Reason.QUANTIZED_ACTIVATION,
    "DequantizeLinear": Reason.QUANTIZED_ACTIVATION,
}
"""Operators that have a reason of their own for letting nothing pass."""
