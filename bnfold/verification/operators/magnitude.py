"""A value together with its magnitude: how large its rounding error can be, in units of u.

A fold rounds each new weight once. To first order the error at a region's output is then at most
u times the *magnitude* there: the same expression with the absolute values of all weights and
inputs, subtractions turned into additions. For a convolution it is `|W| ∗ |x| + |b|`, for the
batch normalization behind it `(m + |E|)·|γ|/√(Var + ε) + |β|`, m the magnitude that enters.
Operators that move, choose or average elements (Transpose, MaxPool, AveragePool) do with
magnitudes what they do with values; those that no two values leave further apart than they came
(Relu, Abs) let them pass. What decides where they bend, and what a Pad fills with, is a parameter:
it is the same in both models, or what an affine made of it, rounded once; see `facts.parameters`.

An operator that has none of these rules makes the region unprovable, never wrongly proved.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import Inputs, UnsupportedError, attributes_of


@frozen
class Tracked:
    """A tensor and its magnitude.

    Attributes:
        value: The tensor; float64, or integers that are exact.
        size: Its magnitude, float64; None for integers and booleans.
        constant: It is the same in both models and for all inputs of one shape.
        slack: By how many of its magnitudes what the candidate has may be off.
    """

    value: Array
    size: Array | None
    constant: bool = False
    slack: float = 0.0

    @property
    def magnitude(self) -> Array:
        """The magnitude, or the exact value where there is none."""
        return self.value if self.size is None else self.size


def exact(value: Array) -> Tracked:
    """Return a constant as a tracked tensor."""
    if value.dtype.kind != "f":
        return Tracked(value, None, constant=True)
    return Tracked(value, np.abs(value), constant=True)


TrackedInputs = Sequence[Tracked | None]
Compute = Callable[[onnx.NodeProto, Inputs], list[Array]]
"""Computes a node for other inputs than its own."""
Rule = Callable[[Compute, onnx.NodeProto, TrackedInputs], list[Array]]
"""Returns the magnitudes of a node's outputs."""


def needed_of(inputs: TrackedInputs, index: int) -> Tracked:
    """Return an input that is not left out."""
    tracked = inputs[index]
    assert tracked is not None  # noqa: S101 - the values have been computed from it
    return tracked


def magnitudes(inputs: TrackedInputs) -> list[Array | None]:
    """Return the magnitudes of inputs; None for one that is left out."""
    return [None if tracked is None else tracked.magnitude for tracked in inputs]


def _vary(inputs: TrackedInputs) -> int:
    return sum(tracked is not None and not tracked.constant for tracked in inputs)


def _edited(node: onnx.NodeProto) -> onnx.NodeProto:
    other = onnx.NodeProto()
    other.CopyFrom(node)
    return other


def alike(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """The operator does with magnitudes what it does with values.

    The relative errors of two factors add up, which is counted elsewhere (`roundings_in_series`).
    """
    return compute(node, magnitudes(inputs))


def cast(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """As `alike`, but no float becomes an integer: a step hides what is before it."""
    sizes = alike(compute, node, inputs)
    data = needed_of(inputs, 0)
    if data.size is not None and not data.constant and sizes[0].dtype.kind != "f":
        raise UnsupportedError(f"a {node.op_type} to whole numbers is none that a fold passes")
    return sizes


def as_by(op_type: str) -> Rule:
    """Another operator does with magnitudes what this one does with values."""

    def rule(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
        other = _edited(node)
        other.op_type = op_type
        return compute(other, magnitudes(inputs))

    return rule


def linear(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Linear in its data: the two factors must not both vary."""
    if _vary(inputs[:2]) > 1:
        raise UnsupportedError(f"{node.op_type} of two tensors that both vary")
    if any(attribute.name in _FACTORS and attribute.f < 0 for attribute in node.attribute):
        node = _edited(node)
        for attribute in node.attribute:
            if attribute.name in _FACTORS:
                attribute.f = abs(attribute.f)
    return compute(node, magnitudes(inputs))


_FACTORS = frozenset({"alpha", "beta"})
"""Attributes that multiply what a linear operator makes."""


def multilinear(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Linear in each of its operands: no more than one of them must vary."""
    if _vary(inputs) > 1:
        raise UnsupportedError(f"{node.op_type} of several tensors that vary")
    return compute(node, magnitudes(inputs))


def quotient(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Linear in the dividend; the divisor must not vary."""
    if _vary(inputs[1:]):
        raise UnsupportedError("Div by a tensor that varies")
    return compute(node, magnitudes(inputs))


def normalization(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """(m + |E|)·|γ|/√(Var + ε) + |β|."""
    if _vary(inputs[1:]):
        raise UnsupportedError("BatchNormalization with parameters that vary")
    m, gamma, beta, mean, _ = magnitudes(inputs)[:5]
    assert mean is not None  # noqa: S101  # all five are required
    return compute(node, [m, gamma, beta, -mean, needed_of(inputs, 4).value])


def closed_below(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Nothing below zero passes, so what is certainly below is zero in both models, exactly."""
    del compute, node
    data = needed_of(inputs, 0)
    return [np.where(data.value < -data.slack * data.magnitude, 0.0, data.magnitude)]


_SLACK_OF_AN_ATTRIBUTE = 4 * 2.0**-24
_TINY = 2.0**-60


def between_bounds(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """What is certainly beyond a bound is the bound, in both models, and as exact as that."""
    del compute
    data, attributes = needed_of(inputs, 0), attributes_of(node)
    size = data.magnitude
    for index, name, side in ((1, "min", -1.0), (2, "max", 1.0)):
        given = inputs[index] if len(inputs) > index else None
        if given is not None:
            bound, exactness = given.value, given.magnitude
        elif name in attributes:
            bound = np.asarray(float(attributes[name]))
            # It was rounded to single precision, whatever the tensors are.
            exactness = np.abs(bound) * min(1.0, _SLACK_OF_AN_ATTRIBUTE / max(data.slack, _TINY))
        else:
            continue
        if not np.isfinite(bound).all():  # nothing is beyond it, and it is no number that comes out
            continue
        gap, near = side * (data.value - bound), data.slack * (data.magnitude + exactness)
        # A bound that is far off, such as the largest number there is, must not cover all.
        size = np.where(gap < -near, size, np.maximum(size, exactness))
        size = np.where(gap > near, exactness, size)
    return [np.asarray(size)]


def largest_of(side: float) -> Rule:
    """What certainly wins a Max (side 1) or a Min (−1) is as exact as it was."""

    def rule(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
        del compute, node
        given = [tracked for tracked in inputs if tracked is not None]
        slack = max(tracked.slack for tracked in given)
        parts = [
            np.broadcast_arrays(side * tracked.value, tracked.magnitude * 1.0) for tracked in given
        ]
        least = [value - slack * size for value, size in parts]
        floor = least[0]
        for other in least[1:]:
            floor = np.maximum(floor, other)
        sizes = [np.where(value + slack * size >= floor, size, 0.0) for value, size in parts]
        result = sizes[0]
        for other in sizes[1:]:
            result = np.maximum(result, other)
        return [np.asarray(result)]

    return rule


def passes(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Elementwise, and no two values leave further apart than they came."""
    del compute, node
    return [needed_of(inputs, 0).magnitude]


def two_slopes(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """One slope is 1, for positive values, the other an attribute or an input."""
    del compute
    slope: Array | float = attributes_of(node).get("alpha", 0.01)
    error: Array | float = 0.0
    data = needed_of(inputs, 0)
    if len(inputs) > 1 and inputs[1] is not None:
        slope = inputs[1].value
        error = inputs[1].magnitude
    reach = data.slack * data.magnitude
    steepest = np.where(
        data.value > reach, 1.0,
        np.where(data.value < -reach, np.abs(slope), np.maximum(1.0, np.abs(slope))),
    )  # fmt: skip
    return [np.asarray(data.magnitude * steepest + np.abs(data.value) * error)]


def no_steeper(slope: float | str) -> Rule:
    """Elementwise, nowhere steeper than a number or an attribute; f(x) itself is rounded, too."""

    def rule(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
        steepest = slope if isinstance(slope, float) else attributes_of(node).get(slope, _USUAL)
        data = needed_of(inputs, 0)
        (value,) = compute(node, [data.value])
        return [np.abs(value) + abs(steepest) * data.magnitude]

    return rule


_USUAL = 1.0
"""An α where a node states none; that of HardSigmoid is less."""


def interpolation(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
    """Nearest and linear weights are no less than 0 and sum to 1.

    The absolute values of cubic ones sum to no more than `_CUBIC` along a resized axis, and
    what they meet is no larger than the largest magnitude along it.
    """
    mode = attributes_of(node).get("mode", b"nearest")
    scales = [None if tracked is None else tracked.value for tracked in inputs[1:]]
    size = needed_of(inputs, 0).magnitude
    if mode not in {b"nearest", b"linear", b"bilinear"}:
        (nearest,) = compute(_nearest(node), [size, *scales])
        lengths = zip(size.shape, nearest.shape, strict=True)
        axes = tuple(i for i, (old, new) in enumerate(lengths) if i > 1 or old != new)
        largest = size.max(axis=axes, keepdims=True) if axes else size
        return [np.broadcast_to(largest * _CUBIC ** len(axes), nearest.shape)]
    return compute(node, [size, *scales])


_CUBIC = 1.5
"""For the usual coefficient −0.75 the sum is at most 1.375, halfway between two elements."""


def _nearest(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a Resize that only repeats, with the shape of this one."""
    other = _edited(node)
    kept = [a for a in other.attribute if a.name in {"axes", "keep_aspect_ratio_policy", "scales"}]
    del other.attribute[:]
    other.attribute.extend(kept)
    other.attribute.add(name="mode", type=onnx.AttributeProto.STRING, s=b"nearest")
    return other
