"""Weights that are stored as integers: DequantizeLinear(q, scale, zero point) → linear operator.

A Transpose may stand between, as behind a Linear of which PyTorch stores the weight the other way.

The weight is (q − z) s_w. Multiplied by f, per output channel, it is (q' − z) s_w' with

    s_w' = s_w |f|,      q' = q where f > 0,      q' = 2 z − q where f < 0,

so it stays an integer weight and only its scales change. That is exact but for the rounding of
the scale, as long as f varies along one axis, which then is the axis of the scales, as long as no
scale vanishes, and as long as 2 z − q stays in the range of the integers (−128 has no negative).
"""

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine

_DEQUANTIZE = "DequantizeLinear"
_PER_AXIS_OPSET = 13
_ZERO_POINT = 2


@frozen(eq=False)
class Quantized:
    """A constant that a DequantizeLinear makes of integers, and Transposes perhaps lay out anew.

    Attributes:
        node: The DequantizeLinear.
        integers: q.
        scale: s_w, a scalar or a vector along `axis`.
        zero_point: z, of the same shape, or None for 0.
        axis: The axis along which the scales lie.
        per_axis: Whether the opset allows a vector of scales.
        order: Which axis of q each axis of the constant is.
        reader: What reads the DequantizeLinear where that is a Transpose.
    """

    node: int
    integers: NDArray[np.generic]
    scale: NDArray[np.generic]
    zero_point: NDArray[np.generic] | None
    axis: int
    per_axis: bool
    order: tuple[int, ...]
    reader: Edge | None = None

    def in_place(self, factor: F64) -> F64:
        """Return what broadcasts to the constant laid out as q is."""
        axes = (1,) * (len(self.order) - factor.ndim) + factor.shape
        return factor.reshape(axes).transpose(np.argsort(self.order))


@frozen(eq=False)
class Requantized:
    """What a quantized constant becomes; None where something stays as it is."""

    integers: NDArray[np.generic] | None
    scale: NDArray[np.generic]
    zero_point: NDArray[np.generic] | None
    axis: int


def is_dequantizer(node: Node) -> bool:
    """Whether a node is a DequantizeLinear."""
    return node.proto.op_type == _DEQUANTIZE


def find_quantized(graph: Graph, tensor: int) -> Quantized | None:
    """Return how a constant is dequantized, if it is.

    Raises:
        Refusal: It is, in a form that cannot be rescaled, or computed from such a constant.
    """
    made, node, reader = _behind_transposes(graph, tensor)
    if node is None or not is_dequantizer(node):
        _check_not_quantized(graph, tensor)
        return None
    values = [None if t == NONE else graph.constants.value(t) for t in node.inputs]
    integers, scale = values[0], values[1]
    zero_point = values[_ZERO_POINT] if len(values) > _ZERO_POINT else None
    operator = graph.operator(node.number)
    if integers is None or scale is None or scale.ndim > 1 or operator.integer("block_size", 0):
        raise Refusal(Reason.QUANTIZED_FORM, "scales per block", node.label)
    axis = operator.integer("axis", 1)
    axis = axis % integers.ndim if integers.ndim else 0
    order = np.arange(integers.ndim)
    for transpose in reversed(made):
        order = order[list(transpose)] if transpose else order[::-1]
    return Quantized(
        node.number, integers, scale, zero_point, axis, operator.opset >= _PER_AXIS_OPSET,
        tuple(order.tolist()), reader,
    )  # fmt: skip


def _behind_transposes(
    graph: Graph, tensor: int
) -> tuple[list[tuple[int, ...]], Node | None, Edge | None]:
    """Return the Transposes that only make this constant, the last first, and what they begin at.

    Each is told by its axes, none where they are turned round. The edge is the first one's input.
    """
    found: list[tuple[int, ...]] = []
    edge = None
    node = graph.view.producer(tensor)
    while node is not None and node.proto.op_type == "Transpose" and _is_read_once(graph, tensor):
        found.append(graph.operator(node.number).integers("perm") or ())
        tensor, edge = node.inputs[0], (node.number, 0)
        node = graph.view.producer(tensor)
    return found, node, edge


def _is_read_once(graph: Graph, tensor: int) -> bool:
    made = graph.view.tensors[tensor]
    return len(made.readers) == 1 and not made.outputs


def _check_not_quantized(graph: Graph, tensor: int) -> None:
    """Refuse what is computed from a quantized constant: new numbers would no longer be integers.

    Raises:
        Refusal: It is.
    """
    waiting, seen = [tensor], {tensor, NONE}
    while waiting:
        maker = graph.view.producer(waiting.pop())
        if maker is None:
            continue
        if is_dequantizer(maker):
            raise Refusal(
                Reason.QUANTIZED_FORM,
                "the weight is computed from it and would become floats",
                maker.label,
            )
        waiting.extend(t for t in maker.inputs if t not in seen)
        seen.update(maker.inputs)


def rescaled(weight: Quantized, factor: F64) -> Requantized:
    """Return f × (q − z) s_w in the same form; f broadcasts to the weight as it is read.

    Raises:
        Refusal: It cannot be said in this form.
    """
    axis, vector = _vector(weight, weight.in_place(factor))
    scale = _rounded_scale(weight, np.abs(vector))
    zero_point = weight.zero_point
    if zero_point is not None and zero_point.shape != scale.shape:
        zero_point = np.broadcast_to(zero_point.reshape(-1), scale.shape)
    integers = None
    if np.any(vector < 0):
        integers = _negated(weight, vector, axis)
    changed = None if zero_point is weight.zero_point else zero_point
    return Requantized(integers, scale, changed, axis)


def _vector(weight: Quantized, factor: F64) -> tuple[int, F64]:
    """Return the axis along which f lies, and f along it."""
    varying = Affine.of(factor, np.zeros(()))
    axes = varying.axes
    if not axes:
        return weight.axis, varying.scale.reshape(-1)
    per_tensor = weight.scale.size == 1
    fits = weight.per_axis if per_tensor else axes[0] == weight.axis
    if len(axes) > 1 or not fits:
        raise Refusal(
            Reason.QUANTIZED_FORM,
            f"the scales lie along another axis, {weight.axis}"
            if not per_tensor
            else "one scale for all channels",
        )
    return axes[0], varying.scale.reshape(-1)


def _rounded_scale(weight: Quantized, factor: F64) -> NDArray[np.generic]:
    exact = weight.scale.astype(np.float64) * (factor if factor.size > 1 else factor[0])
    smallest = ml_dtypes.finfo(weight.scale.dtype).smallest_normal  # type: ignore[no-untyped-call]
    with np.errstate(over="ignore", under="ignore"):
        rounded = exact.astype(weight.scale.dtype)
    if not (np.isfinite(rounded).all() and (rounded >= smallest).all()):
        raise Refusal(Reason.QUANTIZED_RANGE, "a scale would be zero or not finite")
    return rounded


def _negated(weight: Quantized, factor: F64, axis: int) -> NDArray[np.generic]:
    """Return q' = 2 z − q where f < 0.

    The numbers may be integers of any width or 8-bit floats; what is not the same number again
    after it was stored does not fit.
    """
    shape = [1] * weight.integers.ndim
    shape[axis] = -1
    wide = weight.integers.astype(np.float64)
    zero = np.zeros(1) if weight.zero_point is None else weight.zero_point.astype(np.float64)
    zero = zero.reshape(shape if zero.size > 1 else [1] * wide.ndim)
    negative = (factor < 0).reshape(shape if factor.size > 1 else [1] * wide.ndim)
    turned = np.where(negative, 2 * zero - wide, wide)
    with np.errstate(invalid="ignore", over="ignore"):
        stored = turned.astype(weight.integers.dtype)
    misfits = weight.integers[stored.astype(np.float64) != turned]
    if misfits.size:
        raise Refusal(Reason.QUANTIZED_RANGE, f"a negative scale meets {misfits.flat[0]}")
    return stored
