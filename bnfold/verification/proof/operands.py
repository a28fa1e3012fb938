"""The inputs of a node in one of the ways to write them: places, axes, and what a cell adds up."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.table import Indexes, row_of
from bnfold.verification.proof.cells import BIAS, WEIGHT, biases, constant, stated
from bnfold.verification.proof.scopes import Scope

ShapeOf = Callable[[str], Shape | None]
"""Tells what is known of the shape of a tensor."""
_MOST = 1 << 20
"""Places beyond so many are left as they are written."""
_NOTHING_IF_ZERO = (BIAS, 5, 6, 7)
"""Inputs of a recurrent cell that may be left out if they are zero: biases, states, peepholes."""


def settled_operands(
    node: onnx.NodeProto, scope: Scope, shape_of: ShapeOf
) -> Mapping[int, Array | None]:
    """Return by place the constants that stand for inputs; None for one that may be left out.

    Places and axes are counted from the first one; a recurrent cell has one bias, as it adds its
    two up, rounded as the file would store it.
    """
    row = row_of(node)
    if row.cell is not None:
        return dict(_of_a_cell(node, scope))
    if row.axis is not None:
        return _axis(node, row.axis, scope, shape_of)
    if row.indexes is not None:
        return _places(node, row.indexes, scope, shape_of)
    return {}


def _places(
    node: onnx.NodeProto, indexes: Indexes, scope: Scope, shape_of: ShapeOf
) -> Mapping[int, Array | None]:
    shape, places = shape_of(node.input[indexes.within]), constant(scope, node, indexes.places)
    if shape is None or places is None or places.dtype.kind != "i" or places.size > _MOST:
        return {}
    lengths = _lengths(node, indexes, shape, places)
    if lengths is None:
        return {}
    return {indexes.places: np.where(places < 0, places + lengths, places).astype(np.int64)}


def _lengths(
    node: onnx.NodeProto, indexes: Indexes, shape: Shape, places: Array
) -> Array | int | None:
    """Return what is added to places that are counted from the end; None if it is not known."""
    first = stated(node, indexes.axis, 0)
    if not indexes.several:
        return shape[first] if -len(shape) <= first < len(shape) else None
    axes = shape[first : first + places.shape[-1]] if places.ndim else ()
    known = [length for length in axes if length is not None]
    return np.array(known) if places.ndim and len(known) == places.shape[-1] else None


def _axis(
    node: onnx.NodeProto, place: int, scope: Scope, shape_of: ShapeOf
) -> Mapping[int, Array | None]:
    shape, axis = shape_of(node.input[0]), constant(scope, node, place)
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
