"""What a model costs: its linear operators, what they multiply, and what it stores."""

from collections.abc import Iterator, Mapping
from math import prod

import onnx

from bnfold.errors import ModelError
from bnfold.files.values import byte_count
from bnfold.frozen import sealed
from bnfold.graph.facts.graph import Graph
from bnfold.plain import Plain
from bnfold.rules.operator import Shape

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("Gemm", "MatMul")


@sealed
class Cost(Plain):
    """What a model costs, subgraphs included; of a local function what one call of it costs.

    Attributes:
        convolutions: How many Conv and ConvTranspose it has.
        linear_operators: How many Conv, ConvTranspose, Gemm and MatMul with a constant weight.
        multiply_accumulates: What these take for one sample; None where sizes are unknown.
        weight_bytes: The bytes of all stored numbers.
    """

    convolutions: int
    linear_operators: int
    multiply_accumulates: int | None
    weight_bytes: int


def cost_of(model: onnx.ModelProto, graph: Graph) -> Cost:
    """Return what a model costs.

    Args:
        model: The model, or what is made of it; its tensors may be references.
        graph: What is known of the model that it is or was made of: the shapes of tensors, which
            keep their names.
    """
    view = graph.view
    shapes = {t.name: graph.shapes.shapes.get(t.number) for t in view.tensors}
    graphs = list(_graphs(model))
    stored = {tensor.name: tensor for part in graphs for tensor in _stored(part)}
    shapes |= {name: tuple(tensor.dims) for name, tensor in stored.items()}
    weighty = {name for name in shapes if name in stored}
    weighty |= {view.tensors[t].name for t in range(len(view.tensors)) if t in graph.constants}
    linear = [
        node
        for part in graphs
        for node in part.node
        if node.op_type in (*_CONVOLUTIONS, *_PRODUCTS) and weighty.intersection(node.input[:2])
    ]
    behind = {
        name: node.output[0]
        for part in graphs
        for node in part.node
        for name in node.input
        if name.endswith("_product")  # the new name of what a MatMul makes, a bias behind it
    }
    for name, output in behind.items():
        shapes.setdefault(name, shapes.get(output))
    counted = [_multiplications(node, shapes, weighty) for node in linear]
    known = [count for count in counted if count is not None]
    return Cost(
        convolutions=sum(node.op_type in _CONVOLUTIONS for node in linear),
        linear_operators=len(linear),
        multiply_accumulates=sum(known) if len(known) == len(counted) else None,
        weight_bytes=sum(_bytes(tensor) for part in graphs for tensor in _stored(part)),
    )


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(a.g for node in part.node for a in node.attribute if a.HasField("g"))


def _stored(part: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Yield initializers and what Constant nodes hold, by the names that they have."""
    if isinstance(part, onnx.GraphProto):
        yield from part.initializer
    for node in part.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t"):
                named = onnx.TensorProto(
                    name=node.output[0], dims=attribute.t.dims, data_type=attribute.t.data_type
                )
                yield named


def _bytes(tensor: onnx.TensorProto) -> int:
    try:
        return byte_count(tensor)
    except ModelError:  # strings have no fixed width
        return 0


def _multiplications(
    node: onnx.NodeProto, shapes: Mapping[str, Shape | None], weighty: set[str]
) -> int | None:
    """Return the multiplications of a node for one sample, if the sizes are known."""
    index = 1 if node.input[1] in weighty else 0
    weight = _known(shapes.get(node.input[index]))
    made = _of_one_sample(shapes.get(node.output[0]))
    if weight is None:
        return None
    if node.op_type == "ConvTranspose":
        entering = _of_one_sample(shapes.get(node.input[0]))
        return None if entering is None else entering * prod(weight[1:])
    if made is None:
        return None
    if node.op_type == "Conv":
        return made * prod(weight[1:])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    inner = weight[-1] if transposed or index == 0 else weight[-2:][0]
    return made * inner


def _known(shape: Shape | None) -> tuple[int, ...] | None:
    dims = tuple(dim for dim in shape or () if isinstance(dim, int))
    return dims if shape is not None and len(dims) == len(shape) else None


def _of_one_sample(shape: Shape | None) -> int | None:
    """Return how many elements a tensor has for each sample, its first axis."""
    known = None if not shape else _known(shape[1:])
    return None if known is None else prod(known)
