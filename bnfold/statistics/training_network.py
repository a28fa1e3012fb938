"""The network in training mode, with every normalization written out and its statistics given out.

ONNX Runtime's inference builds do not train. So each normalization is written out as what training
mode computes, y = γ (x − μ_B) / √(σ²_B + ε) + β with the mean μ_B and the (biased) variance σ²_B of
the batch. It is computed in float64, whatever the model's element type, and rounded at the end.

The shape [N, C, d…] is seen as [N, C, d], for which its rank need not be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.graph.edit.editor import Editor
from bnfold.graph.facts.graph import Graph
from bnfold.graph.plan.plan import Plan
from bnfold.rules.affine_nodes import DEFAULT_EPSILON
from bnfold.statistics.normalizations import Normalization

_OLDEST_OPSET = 7  # that ONNX Runtime computes sums and products of
_AXES_AS_INPUT_OPSET = 18


@frozen
class Given:
    """The names under which the training network gives what a normalization met in a batch.

    Attributes:
        mean: μ_B, float64, C values.
        variance: σ²_B, biased, float64, C values.
        shape: The shape of x, int64.
    """

    mean: str
    variance: str
    shape: str


def derive(
    graph: Graph, normalizations: Sequence[Normalization]
) -> tuple[onnx.ModelProto, list[Given]]:
    """Return the network with these normalizations in training mode, and what it gives for each.

    Its outputs are their statistics alone, with the names in the order of the normalizations.
    Those in subgraphs are in training mode, too, but give nothing.

    Raises:
        RequestError: The opset is too old to write a normalization out.
    """
    editor = Editor(graph, Plan())
    given = []
    for each in normalizations:
        one = _Writer(graph, editor, each.node).write()
        if graph.view.nodes[each.node].scope == 0:
            given.append(one)
    network = editor.finish()
    del network.graph.output[:]
    for one in given:
        for name in (one.mean, one.variance, one.shape):
            network.graph.output.add(name=name)
    return network, given


@dataclass(slots=True)
class _Writer:
    """Writes one normalization out, with the operators of its opset."""

    graph: Graph
    editor: Editor
    number: int
    opset: int = field(init=False)

    def __post_init__(self) -> None:
        self.opset = self.graph.operator(self.number).opset
        if self.opset < _OLDEST_OPSET:
            raise RequestError(
                f"statistics are estimated from opset {_OLDEST_OPSET} on, and this model is of "
                f"opset {self.opset}; onnx.version_converter brings it to a newer one"
            )

    def write(self) -> Given:
        node, operator = self.graph.view.nodes[self.number], self.graph.operator(self.number)
        x, gamma, beta = node.proto.input[:3]
        for tensor in node.inputs[1:3]:
            self.editor.keep(tensor)
        shape = self.add("Shape", x)
        flat = self.add("Reshape", self.wide(x), self.constant(np.array([0, 0, -1], np.int64)))
        mean = self.averaged(flat)
        centred = self.add("Sub", flat, mean)
        variance = self.averaged(self.add("Mul", centred, centred))
        epsilon = self.constant(np.array(operator.number("epsilon", DEFAULT_EPSILON)))
        spread = self.add("Sqrt", self.add("Add", variance, epsilon))
        normalized = self.add("Div", centred, spread)
        scaled = self.add("Mul", normalized, self.along_channels(gamma))
        shifted = self.add("Add", scaled, self.along_channels(beta))
        narrow = self.add("Cast", shifted, to=self.elem_type())
        self.add("Reshape", narrow, shape, output=node.proto.output[0])
        self.editor.drop([self.number])
        return Given(mean, variance, shape)

    def elem_type(self) -> int:
        """Return the element type of x; up to opset 14 it is that of γ as well."""
        operator = self.graph.operator(self.number)
        found = (operator.required(i).elem_type for i in range(2))
        return next((elem_type for elem_type in found if elem_type), TensorProto.FLOAT)

    def wide(self, name: str) -> str:
        return self.add("Cast", name, to=TensorProto.DOUBLE)

    def along_channels(self, name: str) -> str:
        """Return a parameter [C] in the form that broadcasts over [N, C, d]."""
        return self.add("Reshape", self.wide(name), self.constant(np.array([1, -1, 1], np.int64)))

    def averaged(self, flat: str) -> str:
        """Return the mean over all but the channels, [1, C, 1]."""
        if self.opset < _AXES_AS_INPUT_OPSET:
            return self.add("ReduceMean", flat, axes=[0, 2], keepdims=1)
        axes = self.constant(np.array([0, 2], np.int64))
        return self.add("ReduceMean", flat, axes, keepdims=1)

    def constant(self, values: "np.typing.NDArray[Any]") -> str:
        return self.add("Constant", value=onnx.numpy_helper.from_array(values))

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as make_node
        """Put a node in front of the normalization; return its output, by default a fresh name."""
        made = output or self.editor.names.fresh(f"{self.label()}/{op_type}")
        node = onnx.helper.make_node(op_type, inputs, [made], **attributes)
        self.editor.insert(node, self.number, behind=False)
        return made

    def label(self) -> str:
        proto = self.graph.view.nodes[self.number].proto
        return proto.name or proto.output[0]
