"""Compare every single weight with the original's, up to a factor for its output and its input.

A probe sees a sum of thousands of weights at a time, and a small one can hide among them. But a
fold only ever multiplies: along the outputs of a linear operator, along its inputs, or both,

    W'[p, q, t] = a[p] · b[q] · W[p, q, t]

for output p, input q and tap t of a kernel, group by group. What a and b are need not be known: the
ratio W' / W must be the same all along an output's weights, or else, where inputs may have been
multiplied too, of rank one.

Each W' has been rounded, so two ratios that should be equal differ by two roundings at most. A
factor that follows from another one by a ratio is off by one rounding more. A number below the
smallest normal one has too few digits for a ratio.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from operator import itemgetter
from typing import Self

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import attributes_of
from bnfold.verification.operators.weights import Weight
from bnfold.verification.proof.computing import Weights
from bnfold.verification.proof.cone import Cone

_AT_A_TIME = 1 << 17
"""Elements that are looked at together."""


@frozen
class Rounding:
    """What a weight may be off by.

    Attributes:
        relative: As a fraction of the weight.
        absolute: What comes on top where the weight is below the smallest normal number, and so has
            fewer digits.
        tiny: The smallest normal number.
    """

    relative: float
    absolute: float
    tiny: float

    def slack(self, made: Array) -> Array:
        """Return the absolute error that each of a candidate's weights may have.

        In half precision the smallest normal number is no smaller than many a weight: as a slack
        for all of them it would cover errors of every size.
        """
        return np.where(np.abs(made) < self.tiny, self.absolute, 0.0)


@frozen
class Excess:
    """How far a weight is off that a probe's sums hide.

    Attributes:
        fraction: The error as a fraction of what is allowed; 0 where none is more than that.
        note: What is wrong, in words.
        weight: The constant of the candidate; empty where several are added up.
        channel: The channel of the candidate's region's output that it makes; None where the
            operator that has the weight does not make that output.
    """

    fraction: float = 0.0
    note: str = ""
    weight: str = ""
    channel: int | None = None


@np.errstate(all="ignore")  # a ratio of zeros is unknown
def disproportion(
    old: Cone,
    new: Cone,
    weights: tuple[Weights, Weights],
    rounding: Rounding,
    multiplied: Collection[str] = (),
) -> Excess:
    """Return how far the candidate's weights are from being proportional, and where.

    Args:
        old: A region of the original, …
        new: … and the candidate's, of which a probe has held.
        weights: The constants of both.
        rounding: What a weight may be off by.
        multiplied: Tensors that enter the candidate's region multiplied.

    Returns:
        The largest error; none where the linear operators of the two regions do not correspond, so
        that nothing can be said.
    """
    worst = Excess()
    for mine, theirs in _pairs(old, new):
        before, after = (
            _laid_out(node, known.values)
            for node, known in zip((mine, theirs), weights, strict=True)
        )
        if before is None or after is None or before.shape != after.shape or not before.size:
            continue
        # Where nothing lies between what enters and the operator, no input was multiplied.
        outputs_only = mine.data in old.leaves and theirs.data in new.leaves
        outputs_only &= theirs.data not in multiplied
        fraction, channel = worst_output(before, after, rounding, outputs_only=outputs_only)
        if fraction > worst.fraction:
            note = (
                f"a weight for channel {channel} is not the original's times its channel's factor"
            )
            made = channel if theirs.output == new.output else None
            worst = Excess(fraction, note, theirs.weight, made)
    return worst


def reads_stored_weights(cone: Cone) -> bool:
    """Tell whether the weights of a cone stand in the file, rather than being computed."""
    names = (node.input[index] for node, _, index in _with_weights(cone))
    homes = ((name, cone.scope.home(name)) for name in names)
    return all(home is not None and name in home.tensors for name, home in homes)


def weights_are_bound(old: Cone, new: Cone) -> bool:
    """Tell whether a candidate's weights can be nothing but the original's times factors.

    They can where branches meet as they did: then nothing was merged. (A sum of x and Conv(x) is
    another convolution, whose weight is not the other's times anything.) And they can where no
    tensor is read twice, so that no two weights see the same input, and no operator loses channels
    or mixes them. An activation that clips is open somewhere, or its channel is dead in both.
    """
    return _skeleton(old) == _skeleton(new) or (_is_tree(old) and _is_tree(new))


def _skeleton(cone: Cone) -> Counter[str]:
    """Count the operators by type, without those that a fold takes away."""
    varying = set(cone.leaves)
    counted: Counter[str] = Counter()
    for node, row in zip(cone.passing, cone.rows, strict=True):
        branches = sum(name in varying for name in node.input)
        varying.update(node.output)
        if branches > 1 or not row.is_affine:
            counted[node.op_type if row.weight is None else row.weight.spelling] += 1
    return counted


def branches_merged(old: Cone, new: Cone) -> bool:
    """Tell whether branches that were added up are one operator in the candidate."""
    before = _meetings(old)
    return before > 0 and _meetings(new) < before


def _meetings(cone: Cone) -> int:
    """Count by how much there are more branches than sums of them."""
    sums = [node for node, row in zip(cone.passing, cone.rows, strict=True) if row.adds]
    if not sums:
        return 0
    varying = {*cone.leaves, *(name for node in cone.passing for name in node.output)}
    return sum(max(sum(name in varying for name in node.input) - 1, 0) for node in sums)


def _is_tree(cone: Cone) -> bool:
    read = Counter(
        name
        for node in cone.passing
        for name in node.input
        if name and not cone.scope.is_constant(name)
    )
    apart = all(row.separates_channels for row in cone.rows)
    return apart and max(read.values(), default=0) <= 1


@frozen
class _Linear:
    """A linear operator with a constant weight.

    Attributes:
        node: The node.
        layout: How the weight's axes are to be read.
        index: Which of the node's inputs is the weight.
        leaves: The leaves of the cone that its other input is computed from.
    """

    node: onnx.NodeProto
    layout: Weight
    index: int
    leaves: tuple[str, ...]

    @property
    def weight(self) -> str:
        return str(self.node.input[self.index])

    @property
    def data(self) -> str:
        return str(self.node.input[1 - self.index])

    @property
    def output(self) -> str:
        return str(self.node.output[0])

    @property
    def kind(self) -> tuple[object, ...]:
        """What must be alike; a Gemm is a MatMul in another spelling."""
        return self.leaves, self.layout.spelling, _groups(self.node)


def _pairs(old: Cone, new: Cone) -> Iterator[tuple[_Linear, _Linear]]:
    """Yield the linear operators of both regions in pairs, if all of them have a counterpart.

    Counterparts depend on the same leaves. Where several do, and the outputs of both regions have
    the same names, names decide; else the order of computation does.
    """
    mine, theirs = _linear_nodes(old), _linear_nodes(new)
    if {found.output for found in mine} == {found.output for found in theirs}:
        mine, theirs = (
            sorted(found, key=lambda f: (f.leaves, f.output)) for found in (mine, theirs)
        )
    if [found.kind for found in mine] == [found.kind for found in theirs]:
        yield from zip(mine, theirs, strict=True)


def are_paired(old: Cone, new: Cone) -> bool:
    """Tell whether each linear operator of a region has a counterpart in the other."""
    return sum(1 for _ in _pairs(old, new)) == len(_linear_nodes(new))


def _linear_nodes(cone: Cone) -> list[_Linear]:
    """Return the linear operators, those of the same leaves in their order."""
    behind = {leaf: {leaf} for leaf in cone.leaves}
    if len(cone.leaves) == 1:  # all depends on that
        return [_Linear(*each, cone.leaves) for each in _with_weights(cone)]
    for node in cone.passing:
        leaves = set[str]().union(*(behind.get(name, ()) for name in node.input))
        behind |= dict.fromkeys(node.output, leaves)
    found = [
        _Linear(node, layout, index, tuple(sorted(behind[node.output[0]])))
        for node, layout, index in _with_weights(cone)
    ]
    return sorted(found, key=lambda linear: linear.leaves)


def _with_weights(cone: Cone) -> Iterator[tuple[onnx.NodeProto, Weight, int]]:
    """Yield the linear operators with a constant weight: its layout, and which input it is."""
    for node, row in zip(cone.passing, cone.rows, strict=True):
        layout = row.weight
        if layout is not None:
            constant = [i for i, n in enumerate(node.input[:2]) if cone.scope.is_constant(n)]
            if len(constant) == 1:
                yield node, layout, constant[0]


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _laid_out(linear: _Linear, values: Mapping[str, Array]) -> Array | None:
    """Return a weight as (groups, outputs, inputs, taps); None where it is not that."""
    weight = values.get(linear.weight)
    if weight is None or weight.dtype.kind != "f":
        return None
    return linear.layout.laid_out(weight, attributes_of(linear.node), linear.index)


def worst_of(
    before: Array, after: Array, rounding: Rounding, *, outputs_only: bool = False
) -> float:
    """Return the largest error of weights; see `worst_output`."""
    return worst_output(before, after, rounding, outputs_only=outputs_only)[0]


def worst_output(
    before: Array, after: Array, rounding: Rounding, *, outputs_only: bool = False
) -> tuple[float, int]:
    """Return the largest error of weights, as a fraction of what is allowed, and its output.

    The error is 0 if all are allowed. Weights are of shape (groups, outputs, inputs, taps); of the
    candidate's each may be off by `rounding`. With `outputs_only` inputs were not multiplied.
    """
    worst = 0.0, 0
    for group, (old, new) in enumerate(zip(*_finite(before, after), strict=True)):
        fraction, row = _along_rows(old, new, rounding, stop=not outputs_only)
        if fraction > 1 and not outputs_only:
            fraction, row = _of_rank_one(old, new, rounding)
        worst = max(worst, (fraction, group * before.shape[1] + row), key=itemgetter(0))
    return worst


def _finite(before: Array, after: Array) -> tuple[Array, Array]:
    """Return both weights, zero where either is no number or infinite.

    Nothing can be said of such a weight by itself. It makes all that it meets NaN or infinite, and
    a probe has shown that both models do so in the same places.
    """
    if np.isfinite(before.sum()) and np.isfinite(after.sum()):
        return before, after
    finite = np.isfinite(before) & np.isfinite(after)
    return np.where(finite, before, 0.0), np.where(finite, after, 0.0)


def _along_rows(
    before: Array, after: Array, rounding: Rounding, *, stop: bool
) -> tuple[float, int]:
    """Return how far an output's weights are from one multiple of the original's, and which's.

    With `stop`, return as soon as that is more than is allowed: more than 1.
    """
    worst = 0.0, 0
    step = max(1, _AT_A_TIME // max(1, math.prod(before.shape[1:])))
    for start in range(0, before.shape[0], step):
        stretch = slice(start, start + step)
        rows, made = (np.ascontiguousarray(a[stretch]).reshape(-1, math.prod(a.shape[1:]))
                      for a in (before, after))  # fmt: skip
        allowed = np.abs(made)
        place = np.argmax(allowed, axis=1)[:, None]
        one, other = (np.take_along_axis(array, place, 1) for array in (rows, made))
        known = np.abs(other) >= rounding.tiny
        off = rows * np.where(known, other / one, 0.0)
        off -= made
        np.abs(off, out=off)
        # Both sides of a comparison are off by one rounding each.
        small = allowed < rounding.tiny
        allowed *= 2 * rounding.relative
        if small.any():  # where no factor is known, all are
            slack = np.where(small, 2 * rounding.absolute, 0.0)
            allowed += np.where(known, slack, rounding.tiny)
        fraction, index = largest(off, allowed)
        worst = max(worst, (fraction, start + index // off.shape[1]), key=itemgetter(0))
        if stop and worst[0] > 1:
            break
    return worst


def _of_rank_one(before: Array, after: Array, rounding: Rounding) -> tuple[float, int]:
    """Return how far weights (outputs, inputs, taps) are from a[p] b[q] times the original's.

    The output whose weight is farthest comes with it.

    The ratio at the tap with the largest weight is a[p] b[q]. One output's factor is set to 1. The
    ratios of its weights then are the factors of their inputs, which give the factors of further
    outputs, and so on. Each of these steps adds the error of a ratio.
    """
    place = np.argmax(np.abs(after), axis=-1)[..., None]
    one, other = (np.take_along_axis(array, place, -1)[..., 0] for array in (before, after))
    known = (np.abs(other) >= rounding.tiny) & (one != 0)
    ratio = np.where(known, other / one, 0.0)
    a, b = _factors(ratio, known)
    factor = (a.value[:, None] * b.value)[..., None]
    steps = (a.steps[:, None] + b.steps)[..., None]
    exact = before * factor
    allowed = (1 + steps) * rounding.relative * np.maximum(np.abs(exact), np.abs(after))
    allowed += 2 * rounding.slack(after)
    # Of rows and columns without a ratio nothing is known but that zero stays zero.
    related = np.isfinite(factor) & (a.origin[:, None] == b.origin)[..., None]
    off = np.where(related, np.abs(exact - after), np.where(before == 0, np.abs(after), 0.0))
    fraction, index = largest(off, np.where(related, allowed, rounding.tiny))
    return fraction, index // math.prod(off.shape[1:])


@frozen
class _Side:
    """The factors of the rows, or of the columns.

    Attributes:
        value: The factors; NaN where they are unknown.
        steps: How many ratios led to each.
        origin: The row whose factor was set to 1 for it. A weight whose two factors have different
            origins can not be compared.
    """

    value: Array
    steps: Array
    origin: Array

    @classmethod
    def unknown(cls, size: int) -> Self:
        return cls(np.full(size, np.nan), np.zeros(size), np.full(size, -1))


def _factors(ratio: Array, known: Array) -> tuple[_Side, _Side]:
    """Return a and b of ratio = a[p] b[q]."""
    a, b = map(_Side.unknown, ratio.shape)
    while (free := known & np.isnan(a.value)[:, None] & np.isnan(b.value)).any():
        first = int(np.argmax(free.sum(axis=1)))
        a.value[first], a.origin[first] = 1.0, first
        grown = True
        while grown:
            grown = _learn(b, a, ratio.T, known.T)
            grown |= _learn(a, b, ratio, known)
    return a, b


def _learn(mine: _Side, theirs: _Side, ratio: Array, known: Array) -> bool:
    """Compute unknown factors of one side from those of the other; return whether any were."""
    telling = known & np.isnan(mine.value)[:, None] & ~np.isnan(theirs.value)
    rows = np.flatnonzero(telling.any(axis=1))
    if not rows.size:
        return False
    source = np.argmax(telling[rows], axis=1)
    mine.value[rows] = ratio[rows, source] / theirs.value[source]
    mine.steps[rows] = theirs.steps[source] + 1
    mine.origin[rows] = theirs.origin[source]
    return True


def largest(off: Array, allowed: Array) -> tuple[float, int]:
    """Return the largest quotient and its place in flat order, or 0 if none is above 1.

    What is no number is beyond all.
    """
    if (off <= allowed).all():
        return 0.0, 0
    quotient = np.where(off == 0, 0.0, off / allowed)
    quotient = np.nan_to_num(quotient, nan=math.inf, posinf=math.inf)
    place = int(quotient.argmax())
    return float(quotient.flat[place]), place
