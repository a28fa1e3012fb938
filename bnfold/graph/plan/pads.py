"""The one value that a Pad fills with, under a channel affine: it must be one for all channels."""

import math

import numpy as np
import onnx

from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.roles import refusing_at
from bnfold.graph.index.view import Node
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import Affine

PAD_INPUT_OPSET = 11
"""From here on a Pad's value is an input; before, it is an attribute and so a float32."""


def pad_value(graph: Graph, node: Node) -> float:
    """Return the value that a Pad fills with.

    Raises:
        Refusal: It is not known.
    """
    operator = graph.operator(node.number)
    stated = operator.input(2)
    if stated is None:
        return operator.number("value", 0.0)
    with refusing_at(node):
        return float(np.asarray(stated.numbers(), dtype=np.float64).reshape(-1)[0])


def changed_value(node: Node, value: float, change: Affine) -> float:
    """Return what an affine makes of the value that a Pad fills with.

    Raises:
        Refusal: The channels would need different values.
    """
    values = change.apply(np.asarray(value))
    if not np.allclose(values, values.flat[0], rtol=1e-12, atol=0):
        raise Refusal(Reason.PAD_VALUE, at=node.label)
    return float(values.flat[0])


def require_storable(graph: Graph, node: Node, value: float) -> None:
    """Refuse a pad value that the model cannot hold in the element type of what is padded.

    Args:
        graph: The model.
        node: The Pad, or the node that a Pad is put in front of.
        value: What is to be filled in.

    Raises:
        Refusal: It overflows, or a Pad's attribute, a float32, would round it away from float64.
    """
    elem_type = graph.shapes.elem_types.get(node.outputs[0])
    if elem_type is not None and not math.isinf(value):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
        if not np.isfinite(np.float64(value).astype(dtype).astype(np.float64)):
            raise Refusal(Reason.OVERFLOW, f"the pad value {value:.3g}", node.label)
    if graph.view.scopes[node.scope].opset >= PAD_INPUT_OPSET:
        return
    if elem_type == onnx.TensorProto.DOUBLE and float(np.float32(value)) != value:
        raise Refusal(Reason.PAD_VALUE, f"{value} is no float32", node.label)
