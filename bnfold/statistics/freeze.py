"""Switching training mode off: new statistics in a copy of a model."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import RequestError
from bnfold.files import Literal
from bnfold.files.recipe import Recipe
from bnfold.frozen import frozen
from bnfold.graph.edit.editor import Editor
from bnfold.graph.facts.graph import Graph
from bnfold.graph.plan.plan import Plan
from bnfold.statistics.moments import F64
from bnfold.statistics.normalizations import Normalization

_FIRST_INFERENCE_OPSET = 7


@frozen
class Statistics:
    """What a normalization subtracts and divides by.

    Attributes:
        mean: E, [C].
        variance: Var, [C].
    """

    mean: F64
    variance: F64


@frozen(eq=False)
class Frozen:
    """A model in inference mode.

    Attributes:
        proto: The edited skeleton.
        recipes: The numbers of its new tensors, by location.
    """

    proto: onnx.ModelProto
    recipes: Mapping[str, Recipe]


def freeze(
    graph: Graph,
    normalizations: Sequence[Normalization],
    statistics: Mapping[tuple[int, ...], Statistics] | None = None,
) -> Frozen:
    """Return a copy of a model in which normalizations are in inference mode.

    Args:
        graph: The model.
        normalizations: Those to switch; one with an obstacle stays as it is.
        statistics: New statistics by module; without, the old ones stay.

    Raises:
        RequestError: A new number does not fit into the element type of the old one.
    """
    editor = Editor(graph, Plan())
    for each in normalizations:
        if each.obstacle:
            continue
        if each.training:
            _switch_off(editor.proto(each.node), graph.operator(each.node).opset)
        found = (statistics or {}).get(each.module)
        if found is None:
            continue
        for index, values in ((3, found.mean), (4, found.variance)):
            recipe = Literal(_stored_as(graph, each.node, index, values))
            editor.replace_constant((each.node, index), recipe, each.module)
    proto = editor.finish()
    return Frozen(proto, editor.recipes)


def _switch_off(node: onnx.NodeProto, opset: int) -> None:
    """Write a node's attributes and outputs as inference has them in its opset.

    Inference is, up to opset 6, `is_test` = 1; up to 13, one output; then, no `training_mode`.
    """
    kept = [a for a in node.attribute if a.name not in ("training_mode", "is_test")]
    del node.output[1:]
    del node.attribute[:]
    node.attribute.extend(kept)
    if opset < _FIRST_INFERENCE_OPSET:
        node.attribute.add(name="is_test", type=onnx.AttributeProto.INT, i=1)


def _stored_as(graph: Graph, node: int, index: int, values: F64) -> NDArray[np.generic]:
    """Return new statistics in the element type of the old ones."""
    old = graph.operator(node).required(index)
    elem_type = old.elem_type or onnx.TensorProto.FLOAT
    with np.errstate(over="ignore"):
        rounded: NDArray[np.generic] = values.astype(
            onnx.helper.tensor_dtype_to_np_dtype(elem_type)
        )
    if not np.isfinite(rounded.astype(np.float64)).all():
        raise RequestError(
            f"{graph.view.nodes[node].label}: the estimated statistics reach "
            f"{np.abs(values).max():.3g}, which is too large for the element type of {old.name!r}"
        )
    return rounded
