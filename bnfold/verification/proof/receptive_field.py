"""How small a probe's input may be.

A kernel of 3 × 3 in steps of 18 elements reaches 18 elements to each side: on a smaller picture all
its weights but the middle one meet padding only, and whatever they are, a probe would not see it.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from bnfold.verification.operators.node import UnsupportedError, attributes_of
from bnfold.verification.operators.table import Kind, Window, row_of
from bnfold.verification.proof.computing import Weights
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.facts import scales_of

_STEPS = 32
_FAR = 512
"""Larger numbers of elements are not counted."""
_FEW_SAMPLES = 4
"""There may be no more samples than that in a probe."""
_END = 2**31 - 1
"""From here on a number stands for the end of an axis."""
_FEW = 8
"""So many numbers of a constant are looked at: a shape has no more axes."""
_LINEAR_TAPS, _CUBIC_TAPS = 2, 4
"""Elements between which an interpolation takes its values."""
_LEAST = 2
"""Shorter axes than this would look like axes that are broadcast."""


def reach(cone: Cone, weights: Weights) -> dict[str, int]:
    """Return for each leaf how long its spatial axes must be at least.

    So every element of every kernel meets data. It is found by walking from the output back.

    Raises:
        UnsupportedError: A node depends on an attribute of its function.
    """
    wanted: dict[str, int] = {}
    for node, row in zip(reversed(cone.passing), reversed(cone.rows), strict=True):
        here = max((wanted.get(name, _LEAST) for name in node.output), default=_LEAST)
        if row.counts_elements:
            here = max([here, *_counted(node, weights)])
        if row.window is not None:
            weight = weights.values.get(node.input[1]) if len(node.input) > 1 else None
            kernel = None if weight is None else weight.shape[2:]
            here = max([_LEAST, *_entering(node, attributes_of(node), kernel, here)])
        if row.scales is not None:
            attributes = attributes_of(node)
            for scales in scales_of(node, cone.scope.opsets.get("", 0), weights.values):
                here = max([here, *(_period(s) + _span(s, attributes) for s in scales if s != 1)])
        for name in node.input:
            wanted[name] = max(wanted.get(name, 0), here)
    return {leaf: wanted.get(leaf, _LEAST) for leaf in cone.leaves}


def _period(scale: float) -> int:
    """Return after how many elements an interpolation does the same again.

    At 8/5 of the length that is five. Between fewer, rules that round positions otherwise agree.
    """
    if not (math.isfinite(scale) and scale > 0):
        return _LEAST
    return Fraction(scale).limit_denominator(_STEPS).denominator


def _span(scale: float, attributes: Mapping[str, Any]) -> int:
    """Return over how many elements more an interpolation reaches, so that not all are at an end.

    The weights of one that is smoothed reach as much farther as the axis becomes shorter.
    """
    mode = attributes.get("mode", b"nearest")
    if mode == b"nearest" or not (math.isfinite(scale) and scale > 0):
        return 0
    taps = _CUBIC_TAPS if mode == b"cubic" else _LINEAR_TAPS
    smoothed = attributes.get("antialias", 0) and scale < 1
    return min(math.ceil(2 * taps / scale) if smoothed else taps, _FAR)


def _counted(node: onnx.NodeProto, weights: Weights) -> Iterator[int]:
    """Yield the lengths that spatial axes must have so that what a node counts off is there."""
    for axis, number in _counts(node, weights):
        if axis not in (0, 1) and abs(number) <= _FAR:
            yield abs(number) + 2


def _counts(node: onnx.NodeProto, weights: Weights) -> Iterator[tuple[int, int]]:
    """Yield the numbers of elements that a node counts off, each with the axis."""
    attributes = attributes_of(node)
    given = [weights.values.get(name) for name in node.input[1:]]
    starts, ends, axes, steps = (
        given[place] if place < len(given) else attributes.get(name)
        for place, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    for numbers in (starts, ends, steps):
        if numbers is None:
            continue
        counted = np.asarray(numbers).reshape(-1)
        along = np.arange(counted.size) if axes is None else np.asarray(axes).reshape(-1)
        yield from zip(along.tolist(), counted.tolist(), strict=False)


def far_counts(cone: Cone, weights: Weights) -> Counter[int]:
    """Count the numbers of elements that are counted off and that no probe reaches.

    Where an axis ends is no number.
    """
    return Counter(
        number
        for node, row in zip(cone.passing, cone.rows, strict=True)
        if row.counts_elements
        for axis, number in _counts(node, weights)
        if (_FEW_SAMPLES if axis == 0 else _FAR) < abs(number) < _END
    )


def tells_apart(old: Cone, new: Cone, weights: tuple[Weights, Weights]) -> int:
    """Return a length for which both models differ if they compute lengths with other numbers.

    A length below 33 gives 0, whether it is divided by 64 or by 33; from 33 on the two differ. A
    comparison with other numbers, or a maximum, shows there, too. 0 if all numbers are the same.

    Raises:
        UnsupportedError: No length shows it that a probe could try.
    """
    if not (old.of_shapes or new.of_shapes):
        return 0
    mine, theirs = map(_counting, (old, new), weights)
    unlike = [number for _, number in (mine - theirs) + (theirs - mine)]
    longest = max(map(abs, unlike), default=0.0)
    if longest > _FAR:
        raise UnsupportedError(f"lengths are computed with other numbers, such as {longest:g}")
    return max(math.ceil(longest) - 1, 1) if unlike else 0


def _counting(cone: Cone, weights: Weights) -> Counter[tuple[str, float]]:
    """Count the numbers with which lengths are computed, by the operator that does."""
    counted: Counter[tuple[str, float]] = Counter()
    for index in cone.of_shapes:
        node = cone.scope.nodes[index]
        if row_of(node).kind in {Kind.MOVEMENT, Kind.SHAPE}:  # no arithmetic
            continue
        known = [weights.values[name] for name in node.input if name in weights.values]
        numbers = (float(number) for array in known for number in array.reshape(-1)[:_FEW])
        counted.update((node.op_type, number) for number in numbers if math.isfinite(number))
    return counted


def steps(cone: Cone) -> int:
    """Return a number of elements after which windows meet the same again, at most `_STEPS`.

    A length that is cut down by a multiple of it leaves as much behind the last window as before.
    """
    found = 1
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        if row_of(node).window is not None:
            strides = attributes_of(node).get("strides") or [1]
            found = math.lcm(found * max(strides), 1)
    return found if 0 < found <= _STEPS else 1


def windows(cone: Cone, weights: Weights) -> "Counter[tuple[object, ...]]":
    """Count the operators with a window, by its size, steps and pads."""
    counted: Counter[tuple[object, ...]] = Counter()
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        if row_of(node).window is None:
            continue
        attributes = attributes_of(node)
        weight = weights.values.get(node.input[1]) if len(node.input) > 1 else None
        kernel = weight.shape[2:] if weight is not None else attributes.get("kernel_shape", ())
        ones, nothing = [1] * len(kernel), [0] * len(kernel)
        how = {"strides": ones, "dilations": ones, "pads": 2 * nothing, "output_padding": nothing}
        movement = (tuple(attributes.get(name) or usual) for name, usual in how.items())
        counted[node.op_type, tuple(kernel), *movement] += 1
    return counted


def _entering(
    node: onnx.NodeProto, attributes: Mapping[str, Any], kernel: Sequence[int] | None, out: int
) -> Iterator[int]:
    """Yield what `out` windows and all the elements of a kernel need of the input, per axis."""
    sizes = list(kernel if kernel is not None else attributes.get("kernel_shape", ()))
    n = len(sizes)
    strides = attributes.get("strides") or [1] * n
    dilations = attributes.get("dilations") or [1] * n
    extents = [(k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=False)]
    pads = list(attributes.get("pads") or [0] * 2 * n)
    if attributes.get("auto_pad", b"NOTSET") in {b"SAME_UPPER", b"SAME_LOWER"}:
        pads = [(extent - 1) // 2 for extent in extents] * 2
    for extent, stride, head, tail in zip(extents, strides, pads[:n], pads[n:], strict=False):
        if row_of(node).window is Window.SPREADING:
            yield max(math.ceil((out + head + tail) / stride), max(head, tail) // stride + 1)
        else:
            # The last element at the first window, and the first element at the last window.
            yield max((out - 1) * stride + extent - head - tail,
                      extent - min(head, tail) + stride - 1)  # fmt: skip
