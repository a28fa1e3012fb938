"""What the operators of a region demand of the shapes of the tensors that enter.

A file need not tell these shapes, and where a tensor has a shape made up for a probe it must be one
that the operators take: a Gemm reads matrices, a convolution a tensor of its weight's rank with so
many channels, and what is multiplied by nothing but a scalar has the shape of the product.
"""

from collections.abc import Mapping

import onnx

from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import Inputs, attributes_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.computing import Weights
from bnfold.verification.proof.cone import Cone


def demanded(cone: Cone, weights: Weights, known: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes that the operators of a cone demand of its leaves, where they demand any.

    Of tensors that are known the rank counts: a MatMul takes any, and so demands a length only
    where the rank is known.

    Raises:
        UnsupportedError: A node depends on an attribute of its function.
    """
    shapes: dict[str, Shape] = {}
    for node in reversed(cone.passing):
        parameters = [weights.values.get(name) for name in node.input]
        for index, name in enumerate(node.input):
            if name and parameters[index] is None:
                shape = _of_input(node, index, parameters, shapes, known)
                if shape is not None:
                    shapes[name] = merged(shapes.get(name), shape)
    return {leaf: shapes[leaf] for leaf in cone.leaves if leaf in shapes}


def merged(known: Shape | None, demanded: Shape) -> Shape:
    """Return a demanded shape, whose unknown dimensions are taken from the known shape."""
    if known is None or len(known) != len(demanded):
        return demanded
    return tuple(
        size if size is not None else other for size, other in zip(demanded, known, strict=True)
    )


def _of_input(
    node: onnx.NodeProto,
    index: int,
    parameters: Inputs,
    made: Mapping[str, Shape],
    known: Mapping[str, Shape],
) -> Shape | None:
    row = row_of(node)
    if row.demand is not None:
        shape = known.get(node.input[index], made.get(node.input[index]))
        rank = None if shape is None else len(shape)
        sizes = [None if value is None else value.shape for value in parameters]
        shape = row.demand(index, sizes, attributes_of(node), rank)
        if shape is not None:
            return shape
    others = (parameter for i, parameter in enumerate(parameters) if i != index)
    alone = row.is_elementwise and all(p is not None and p.size == 1 for p in others)
    return made.get(node.output[0]) if alone else None
