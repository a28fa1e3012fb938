"""A value together with its magnitude: how large its rounding error can be, in units of u.

A fold rounds each new weight once. To first order the error at a region's output is then at most
u times the *magnitude* there: the same expression with the absolute values of all weights and
inputs, subtractions turned into additions. For a convolution it is `|W| ∗ |x| + |b|`, for the
batch normalization behind it `(m + |E|)·|γ|/√(Var + ε) + |β|`, m the magnitude that enters.
Operators that move, choose or average elements (Transpose, MaxPool, AveragePool) do with
magnitudes what they do with values; those that no two values leave further apart than they came
(Relu, Clip) let them pass.

An operator that is in none of these classes makes the region unprovable, never wrongly proved.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.evaluate import (
    EvaluationError,
    Opsets,
    UnsupportedError,
    attributes_of,
    default_domain,
    run_node,
)


@frozen
class Tracked:
    """A tensor and its magnitude.

    Attributes:
        value: The tensor; float64, or integers that are exact.
        size: Its magnitude, float64; None for integers and booleans.
        constant: It is the same in both models and for all inputs of one shape.
    """

    value: Array
    size: Array | None
    constant: bool = False

    @property
    def magnitude(self) -> Array:
        """The magnitude, or the exact value where there is none."""
        return self.value if self.size is None else self.size


def exact(value: Array) -> Tracked:
    """Return a constant as a tracked tensor."""
    if value.dtype.kind != "f":
        return Tracked(value, None, constant=True)
    return Tracked(value, np.abs(value), constant=True)


_Rule = Callable[[onnx.NodeProto, Opsets, Sequence[Tracked | None]], list[Array]]


def _magnitudes(inputs: Sequence[Tracked | None]) -> list[Array | None]:
    return [None if tracked is None else tracked.magnitude for tracked in inputs]


def _alike(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """The operator does with magnitudes what it does with values."""
    return run_node(node, opsets, _magnitudes(inputs))


def _as(op_type: str) -> _Rule:
    def rule(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
        other = onnx.NodeProto()
        other.CopyFrom(node)
        other.op_type = op_type
        return run_node(other, opsets, _magnitudes(inputs))

    return rule


def _linear(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """Linear in its data: the two factors must not both vary."""
    if sum(t is not None and not t.constant for t in inputs[:2]) > 1:
        raise UnsupportedError(f"{node.op_type} of two tensors that both vary")
    positive = onnx.NodeProto()
    positive.CopyFrom(node)
    for attribute in positive.attribute:
        if attribute.name in {"alpha", "beta"}:
            attribute.f = abs(attribute.f)
    return run_node(positive, opsets, _magnitudes(inputs))


def _product(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """The relative errors of two factors add up, which `roundings_in_series` counts."""
    return run_node(node, opsets, _magnitudes(inputs))


def _divide(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    if inputs[1] is None or not inputs[1].constant:
        raise UnsupportedError("Div by a tensor that varies")
    return run_node(node, opsets, _magnitudes(inputs))


def _batch_normalization(
    node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]
) -> list[Array]:
    if any(t is None or not t.constant for t in inputs[1:5]):
        raise UnsupportedError("BatchNormalization with parameters that vary")
    m, gamma, beta, mean, _ = _magnitudes(inputs)[:5]
    variance = inputs[4].value if inputs[4] is not None else None
    assert mean is not None  # noqa: S101  # all five are required
    return run_node(node, opsets, [m, gamma, beta, -mean, variance])


def _passes(_: onnx.NodeProto, __: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """Elementwise, and no two values leave further apart than they came."""
    assert inputs[0] is not None  # noqa: S101  # required by the operators
    return [inputs[0].magnitude]


def _leaky(node: onnx.NodeProto, _: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """Two slopes: 1 for positive values, another for negative ones."""
    assert inputs[0] is not None  # noqa: S101  # required by the operators
    slope: Array | float = attributes_of(node).get("alpha", 0.01)
    error: Array | float = 0.0
    if len(inputs) > 1 and inputs[1] is not None:
        slope = inputs[1].value
        error = 0.0 if inputs[1].constant else inputs[1].magnitude
    size = inputs[0].magnitude * np.maximum(1.0, np.abs(slope))
    return [np.asarray(size + np.abs(inputs[0].value) * error)]


def _resize(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Array]:
    """Nearest and linear weights are no less than 0 and sum to 1.

    The absolute values of cubic ones sum to no more than `_CUBIC` along an axis; what they meet is
    no larger than the largest magnitude of the channel.
    """
    mode = attributes_of(node).get("mode", b"nearest")
    scales = [None if tracked is None else tracked.value for tracked in inputs[1:]]
    assert inputs[0] is not None  # noqa: S101  # required by the operators
    size = inputs[0].magnitude
    if mode not in {b"nearest", b"linear", b"bilinear", "nearest", "linear", "bilinear"}:
        spatial = tuple(range(2, size.ndim))
        largest = size.max(axis=spatial, keepdims=True) if spatial else size
        size = np.broadcast_to(largest * _CUBIC ** len(spatial), size.shape)
        node = _nearest(node)
    return run_node(node, opsets, [size, *scales])


_CUBIC = 1.5
"""For the usual coefficient −0.75 the sum is at most 1.375, halfway between two elements."""


def _nearest(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a Resize that only repeats, with the shape of this one."""
    other = onnx.NodeProto()
    other.CopyFrom(node)
    kept = [a for a in other.attribute if a.name in {"axes", "keep_aspect_ratio_policy", "scales"}]
    del other.attribute[:]
    other.attribute.extend(kept)
    other.attribute.add(name="mode", type=onnx.AttributeProto.STRING, s=b"nearest")
    return other


MAGNITUDE: dict[str, _Rule] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), _linear),
    "Mul": _product,
    **dict.fromkeys(("Relu", "Clip", "Abs", "Neg"), _passes),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(
        (
            "Add", "Sum", "Identity", "Dropout", "Cast", "CastLike", "Transpose", "Reshape",
            "Flatten", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Gather", "Pad",
            "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "AveragePool",
            "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "Max",
        ),
        _alike,
    ),
    "Sub": _as("Add"),
    "Min": _as("Max"),
    "ReduceMin": _as("ReduceMax"),
    "Div": _divide,
    "BatchNormalization": _batch_normalization,
}  # fmt: skip
"""How a magnitude goes through each operator."""

SHAPES = frozenset({"Shape", "Size"})
"""Operators that see the shape of a tensor only."""


def track(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Tracked | None]) -> list[Tracked]:
    """Compute a node's outputs and their magnitudes.

    Raises:
        EvaluationError: The node cannot be computed with these shapes.
        UnsupportedError: Nothing is known of its magnitude.
    """
    values = run_node(node, opsets, [None if t is None else t.value for t in inputs])
    if node.op_type in SHAPES or all(t is None or t.constant for t in inputs):
        return [exact(value) for value in values]
    rule = MAGNITUDE.get(node.op_type) if default_domain(node) else None
    if rule is None:
        raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
    # A pad value may be negative, and it is the same in both models.
    sizes = [np.abs(size) for size in rule(node, opsets, inputs)]
    try:
        return [
            Tracked(value, np.broadcast_to(size, value.shape) if value.dtype.kind == "f" else None)
            for value, size in zip(values, sizes, strict=False)
        ]
    except ValueError as error:
        raise EvaluationError(f"{node.op_type}: {error}") from error
