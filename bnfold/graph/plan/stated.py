"""Whether a model can hold the numbers that a node states, after an affine has changed them."""

import math

import numpy as np
import onnx

from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import Node
from bnfold.reasons import Reason, Refusal
from bnfold.rules.stated import INPUTS_SINCE


def require_storable(
    graph: Graph, node: Node, value: float, reason: Reason = Reason.PAD_VALUE
) -> None:
    """Refuse a number that the model cannot hold in the element type of a node's data.

    Args:
        graph: The model.
        node: The Pad or Clip, or the node that a Pad is put in front of.
        value: The number; infinity stands for what need not be stated.
        reason: Why not, where it would be rounded.

    Raises:
        Refusal: It overflows, or an attribute, a float32, would round it away from float64.
    """
    if math.isinf(value):
        return
    elem_type = graph.shapes.elem_types.get(node.outputs[0])
    if elem_type is not None:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
        if not np.isfinite(np.float64(value).astype(dtype).astype(np.float64)):
            raise Refusal(Reason.OVERFLOW, f"the value {value:.3g}", node.label)
    if graph.view.scopes[node.scope].opset >= INPUTS_SINCE:
        return
    if elem_type == onnx.TensorProto.DOUBLE and float(np.float32(value)) != value:
        raise Refusal(reason, f"{value} is no float32", node.label)
