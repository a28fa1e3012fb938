"""The inputs of a node in one of the ways to write them: places, axes, and what a cell adds up."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import default_domain
from bnfold.verification.proof.cells import BIAS, WEIGHT, biases, constant, is_cell, stated
from bnfold.verification.proof.scopes import Scope

ShapeOf = Callable[[str], Shape | None]
"""Tells what is known of the shape of a tensor."""
TURNED_ROUND = {"Less": "Greater", "LessOrEqual": "GreaterOrEqual"}
"""What says the same of two numbers that change places."""
_MOST = 1 << 20
"""Places beyond so many are left as they are written."""
_AXES = {"CumSum": 1}
"""Which input holds an axis of the first one."""
_ALONG_AN_AXIS = {"Gather": 0, "GatherElements": 0, "ScatterElements": 0}
"""What reads places along one axis from its second input, and the axis where it states none."""
_OF_ELEMENTS = {"GatherND", "ScatterND"}
"""What reads places along several axes from its second input."""
_NOTHING_IF_ZERO = (BIAS, 5, 6, 7)
"""Inputs of a recurrent cell that may be left out if they are zero: biases, states, peepholes."""


def settled_operands(
    node: onnx.NodeProto, scope: Scope, shape_of: ShapeOf
) -> Mapping[int, Array | None]:
    """Return by place the constants that stand for inputs; None for one that may be left out.

    Places and axes are counted from the first one; a recurrent cell has one bias, as it adds its
    two up, rounded as the file would store it.
    """
    if not default_domain(node):
        return {}
    if is_cell(node):
        return dict(_of_a_cell(node, scope))
    if node.op_type in _AXES:
        return _axis(node, scope, shape_of)
    if node.op_type in _ALONG_AN_AXIS or node.op_type in _OF_ELEMENTS:
        return _places(node, scope, shape_of(node.input[0]))
    return {}


def _places(node: onnx.NodeProto, scope: Scope, shape: Shape | None) -> Mapping[int, Array | None]:
    places = constant(scope, node, 1)
    if shape is None or places is None or places.dtype.kind != "i" or places.size > _MOST:
        return {}
    lengths = _lengths(node, shape, places)
    if lengths is None:
        return {}
    return {1: np.where(places < 0, places + lengths, places).astype(np.int64)}


def _lengths(node: onnx.NodeProto, shape: Shape, places: Array) -> Array | int | None:
    """Return what is added to places that are counted from the end; None if it is not known."""
    along = _ALONG_AN_AXIS.get(node.op_type)
    if along is not None:
        axis = stated(node, "axis", along)
        return shape[axis] if -len(shape) <= axis < len(shape) else None
    first = stated(node, "batch_dims", 0)
    axes = shape[first : first + places.shape[-1]] if places.ndim else ()
    known = [length for length in axes if length is not None]
    return np.array(known) if places.ndim and len(known) == places.shape[-1] else None


def _axis(node: onnx.NodeProto, scope: Scope, shape_of: ShapeOf) -> Mapping[int, Array | None]:
    place, shape = _AXES[node.op_type], shape_of(node.input[0])
    axis = constant(scope, node, place)
    if axis is None or axis.size != 1 or shape is None:
        return {}
    number = int(axis.reshape(-1)[0])
    return {place: np.array(number + len(shape) if number < 0 else number, np.int64)}


def _of_a_cell(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[int, Array | None]]:
    for place in _NOTHING_IF_ZERO:
        given = constant(scope, node, place)
        if given is not None and not given.any():
            yield place, None
        elif given is not None and place == BIAS and given.ndim == 2:  # noqa: PLR2004
            added, left = biases(node, given)
            if id(node) in scope.products:
                added = np.zeros_like(added)  # the product has it
            both = np.concatenate([added, left], axis=1).astype(given.dtype) + 0
            yield place, both if both.any() else None
    if id(node) in scope.products:
        yield WEIGHT, None
