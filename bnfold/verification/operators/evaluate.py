"""One node at a time, in float64.

Floating-point tensors are float64 whatever their declared dtype, so a Cast between floating
dtypes changes nothing; integers and booleans keep theirs. What has no kernel in the table is left
to onnx's reference evaluator. Constants are different: what a model computes from constants
alone is computed in the dtypes that the model says, as every runtime does it when it loads the
model (`constant_node`).
"""

from functools import partial

import numpy as np
import onnx

from bnfold.errors import first_sentence
from bnfold.limits import COMPUTED
from bnfold.onnx_model.computing import TooLargeError, require_room_for_outputs
from bnfold.onnx_model.evaluator import CannotEvaluateError, evaluate
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.elementwise import dequantize
from bnfold.verification.operators.magnitude import Tracked, TrackedInputs, exact
from bnfold.verification.operators.node import (
    Call,
    EvaluationError,
    Inputs,
    Opsets,
    UnsupportedError,
    attributes_of,
    default_domain,
    opset_of,
)
from bnfold.verification.operators.table import row_of


def run_node(node: onnx.NodeProto, opsets: Opsets, inputs: Inputs) -> list[Array]:
    """Compute a node's outputs.

    Args:
        node: Any node without subgraphs.
        opsets: Versions of the operator sets by domain.
        inputs: Its inputs, in order; floats as float64, None for an absent one.

    Raises:
        EvaluationError: It cannot be computed.
    """
    row, named = row_of(node), sum(map(bool, node.output))
    # At inference a batch normalization has one output, whatever others are named.
    several = named > 1 or (named == 1 and not node.output[0])
    if row.kernel is None or (several and not row.normalizes):
        return constant_node(node, opsets, inputs)
    try:
        made = row.kernel(Call(inputs, attributes_of(node), opset_of(node, opsets), named))
    except EvaluationError:
        raise
    except Exception as error:  # the kernels raise whatever numpy raises
        raise EvaluationError(f"{node.op_type}: {first_sentence(error)}") from error
    return constant_node(node, opsets, inputs) if made is None else [made]


def constant_node(node: onnx.NodeProto, opsets: Opsets, inputs: Inputs) -> list[Array]:
    """Compute a node in the dtypes of its inputs, by onnx's reference evaluator.

    Raises:
        EvaluationError: It cannot be computed.
    """
    try:
        if default_domain(node):
            require_room_for_outputs(node, opset_of(node, opsets), inputs, COMPUTED)
            if node.op_type == "DequantizeLinear":
                made = dequantize(inputs, attributes_of(node))
                if made is not None:
                    return [made]
        return evaluate(node, opsets, inputs)
    except EvaluationError:
        raise
    except (CannotEvaluateError, TooLargeError, ValueError) as error:
        raise EvaluationError(f"{node.op_type}: {first_sentence(error)}") from error


def track(node: onnx.NodeProto, opsets: Opsets, inputs: TrackedInputs) -> list[Tracked]:
    """Compute a node's outputs and their magnitudes.

    Raises:
        EvaluationError: The node cannot be computed with these shapes.
        UnsupportedError: Nothing is known of its magnitude.
    """
    values = run_node(node, opsets, [None if t is None else t.value for t in inputs])
    row = row_of(node)
    if row.sees_shape_only or all(t is None or t.constant for t in inputs):
        return [exact(value) for value in values]
    if row.magnitude is None:
        raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
    compute = partial(_computed, opsets)
    # A pad value may be negative, and it is the same in both models.
    sizes = [
        np.abs(size) if (size < 0).any() else size for size in row.magnitude(compute, node, inputs)
    ]
    slack = max(t.slack for t in inputs if t is not None)
    try:
        return [
            Tracked(value, _of_shape(size, value.shape), slack=slack)
            if value.dtype.kind == "f"
            else Tracked(value, None)
            for value, size in zip(values, sizes, strict=False)
        ]
    except ValueError as error:
        raise EvaluationError(f"{node.op_type}: {first_sentence(error)}") from error


def _of_shape(size: Array, shape: tuple[int, ...]) -> Array:
    return size if size.shape == shape else np.broadcast_to(size, shape)


def _computed(opsets: Opsets, node: onnx.NodeProto, inputs: Inputs) -> list[Array]:
    return run_node(node, opsets, inputs)
