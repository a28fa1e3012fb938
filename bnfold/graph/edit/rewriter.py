"""What every rewriter needs: numbers rounded once, operands laid out, attributes replaced."""

from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import FoldOverflow
from bnfold.graph.edit.editor import Editor
from bnfold.graph.facts.graph import Graph
from bnfold.rules.affine import F64

_RIGHT_ALIGNED_OPSET = 7  # before, Mul and Add say whether and where their constant is broadcast


class Rewriter:
    """Rewrites nodes of one kind through the editor."""

    def __init__(self, opened: OpenedModel, graph: Graph, editor: Editor) -> None:
        self._opened = opened
        self._graph = graph
        self._view = graph.view
        self._constants = graph.constants
        self._editor = editor

    def _rounded(self, node: int, values: F64, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Round to an element type.

        Raises:
            FoldOverflow: A finite value is too large for it.
        """
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype)
        if not np.isfinite(rounded[np.isfinite(values)].astype(np.float64)).all():
            raise FoldOverflow(node, self._view.nodes[node].label, dtype)
        return rounded

    def _dtype(self, tensor: int) -> np.dtype[np.generic]:
        return onnx.helper.tensor_dtype_to_np_dtype(self._graph.shapes.elem_types[tensor])

    def _opset(self, node: int) -> int:
        return self._view.scopes[self._view.nodes[node].scope].opset


Number = TypeVar("Number", bound=np.generic)


def as_operand(
    values: NDArray[Number], opset: int
) -> tuple[NDArray[Number], list[onnx.AttributeProto]]:
    """Return the constant operand of a Mul or an Add, and the attributes that go with it.

    From opset 7 on constants are aligned on the right. Before, the constant is a stretch of the
    tensor's axes, without any that are not its own, and `axis` says where the stretch begins.
    """
    axes = [axis for axis, size in enumerate(values.shape) if size > 1]
    if opset >= _RIGHT_ALIGNED_OPSET:
        return values.reshape(values.shape[axes[0] :] if axes else ()), []
    attributes = [onnx.helper.make_attribute("broadcast", 1)]
    if axes:
        attributes.append(onnx.helper.make_attribute("axis", axes[0]))
    return values.reshape([values.shape[axis] for axis in axes]), attributes


def set_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    """Give a node an attribute, in place of one of the same name."""
    for index, existing in enumerate(node.attribute):
        if existing.name == attribute.name:
            node.attribute[index].CopyFrom(attribute)
            return
    node.attribute.append(attribute)
