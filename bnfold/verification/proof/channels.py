"""Along which axis of a tensor its channels lie, for saying in which one a difference is."""

from collections.abc import Mapping

import onnx

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.table import Kind, row_of
from bnfold.verification.operators.weights import PRODUCT
from bnfold.verification.proof.cone import Cone

_BEHIND_THE_BATCH = 1
_KEEPING = {Kind.AFFINE, Kind.ELEMENTWISE, Kind.COMBINATION}

_Axis = int | None
"""From the front or, below zero, from the end; None where it is not known."""


def channel_axis(cone: Cone, constants: Mapping[str, Array]) -> _Axis:
    """Return the axis of a region's output along which channels lie; None where that is unknown.

    It follows from linear operators and from constants with one number for each channel; what
    comes after them keeps it, moves it, or makes it unknown.
    """
    axes: dict[str, _Axis] = {}
    for node in cone.passing:
        axes |= dict.fromkeys(node.output, _axis(node, axes, constants))
    return axes.get(cone.output)


def _axis(node: onnx.NodeProto, axes: Mapping[str, _Axis], constants: Mapping[str, Array]) -> _Axis:
    row = row_of(node)
    if row.normalizes:
        return _BEHIND_THE_BATCH
    if row.weight is not None:
        if row.weight.spelling != PRODUCT:
            return _BEHIND_THE_BATCH
        return -2 if node.input[0] in constants else -1
    known = {axes[name] for name in node.input if name in axes}
    if row.is_elementwise:
        stated = {_long_axis(constants[name]) for name in node.input if name in constants}
        known = (known | stated) - {None}
    axis = known.pop() if len(known) == 1 else None
    if axis is None or row.kind in _KEEPING or row.keeps_axes:
        return axis
    if node.op_type == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return order.index(axis % len(order)) if order else None
    return None


def _long_axis(constant: Array) -> _Axis:
    """Return the only axis, from the end, along which a constant has several numbers."""
    long = [axis for axis, length in enumerate(constant.shape) if length > 1]
    return long[0] - constant.ndim if len(long) == 1 else None
