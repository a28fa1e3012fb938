"""Models in half precision, as several tests need them."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shapes = Mapping[str, Sequence[int | str]]


def half_model(
    nodes: Sequence[onnx.NodeProto], takes: Shapes, makes: Shapes, stored: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return a model of float16 throughout.

    Args:
        nodes: Its nodes.
        takes: The shapes of its inputs, by name.
        makes: The shapes of its outputs, by name.
        stored: Its initializers, by name.
    """
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in some]
        for some in (takes.items(), makes.items())
    )
    constants = [numpy_helper.from_array(v.astype(np.float16), k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "half", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
