"""Recurrent cells taken apart: what they make of their input is a product by itself.

RNN, GRU and LSTM read x through x Wᵀ + b alone, b being what they add up of their bias whatever
else they compute. A fold in front of a cell changes W and b, so a scope gets nodes beside each cell
that compute that product, and the cell is the same in both models where the product is and all else
that it reads.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError, opset_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.scopes import Scope

WEIGHT, BIAS = 1, 3
"""The inputs of a cell that are W, [directions, gates · hidden, Cin], and its two biases in one."""
_BROADCASTS = 7
"""The opset from which on an Add broadcasts."""


def biases(node: onnx.NodeProto, both: Array) -> tuple[Array, Array]:
    """Return what a cell adds to x Wᵀ, and what is left of its bias; float64.

    It adds its two biases up, of shape [directions, 2 · gates · hidden]; but where a GRU multiplies
    the second one of its last gate by what it resets, that one stays.
    """
    first, second = np.split(both.astype(np.float64), 2, axis=1)
    added = np.ones(first.shape[1], bool)
    cell = row_of(node).cell
    if cell is not None and stated(node, "linear_before_reset", 0):
        added[-(added.size // cell.gates) :] = False
    return first + np.where(added, second, 0.0), np.where(added, 0.0, second) + 0


def with_products(scope: Scope) -> Scope:
    """Return a scope with nodes that compute what its cells make of their inputs."""
    if not any(row_of(node).cell for node in scope.nodes):
        return scope
    nodes, tensors, products = [], dict(scope.tensors), {}
    for node in scope.nodes:
        for made in _product(node, scope) if row_of(node).cell else ():
            if isinstance(made, onnx.TensorProto):
                tensors[made.name] = made
            else:
                products[id(node)] = made.output[0]
                nodes.append(made)
        nodes.append(node)
    return replace(scope, nodes=nodes, tensors=tensors, products=products,
                   producers={}, readers={}, places={}, owners=[])  # fmt: skip


def _product(node: onnx.NodeProto, scope: Scope) -> Iterator[onnx.NodeProto | onnx.TensorProto]:
    """Yield the numbers and nodes that make x Wᵀ + b, which is made last; none if W varies."""
    weight, made = node.input[WEIGHT], next(filter(None, node.output), "")
    name = f"{made} (product of the input)"
    if opset_of(node, scope.opsets) < _BROADCASTS or not scope.is_constant(weight):
        return
    if not made or scope.defines(name):
        return
    columns = np.array([0, -1], np.int64)  # Cin, and all outputs of all directions
    yield numpy_helper.from_array(columns, f"{name} columns")
    turned, matrix = f"{name} turned", f"{name} matrix of {weight!r}"
    yield helper.make_node("Transpose", [weight], [turned], perm=[2, 0, 1])
    yield helper.make_node("Reshape", [turned, f"{name} columns"], [matrix])
    bias = _added(node, scope)
    if bias is None:
        yield helper.make_node("MatMul", [node.input[0], matrix], [name])
        return
    yield numpy_helper.from_array(bias, f"{name} bias")
    yield helper.make_node("MatMul", [node.input[0], matrix], [f"{name} alone"])
    yield helper.make_node("Add", [f"{name} alone", f"{name} bias"], [name])


def _added(node: onnx.NodeProto, scope: Scope) -> Array | None:
    """Return what a cell adds to x Wᵀ, rounded as the file would store it; None if nothing."""
    both = constant(scope, node, BIAS)
    if both is None or both.ndim != 2:  # noqa: PLR2004 - as `biases` has it
        return None
    first, _ = biases(node, both)
    return first.reshape(-1).astype(both.dtype) if first.any() else None


def constant(scope: Scope, node: onnx.NodeProto, place: int) -> Array | None:
    """Return a constant that a node reads; None where it is left out, varies or is unknown."""
    name = node.input[place] if place < len(node.input) else ""
    if not name or not scope.is_constant(name):
        return None
    try:
        return scope.constant(name)
    except (EvaluationError, TooLargeError):
        return None


def stated(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute that a node states."""
    found = (a for a in node.attribute if a.name == name and not a.ref_attr_name)
    return next((int(helper.get_attribute_value(a)) for a in found), default)
