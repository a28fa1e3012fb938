"""Rewriting quantized constants: they get new scales and stay integers."""

import onnx

from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import Literal
from bnfold.graph.edit.editor import Editor
from bnfold.graph.edit.rewriter import Rewriter, set_attribute
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.quantized import Quantized, Requantized, find_quantized, rescaled
from bnfold.graph.index.view import NONE, Edge
from bnfold.reasons import Refusal
from bnfold.rules.affine import F64


class QuantizedRewriter(Rewriter):
    """See the module."""

    def __init__(self, opened: OpenedModel, graph: Graph, editor: Editor) -> None:
        super().__init__(opened, graph, editor)
        self._dequantized: dict[tuple[int, tuple[int, ...], bytes], str] = {}

    def requantize(self, edge: Edge, weight: Quantized, factor: F64) -> None:
        """Give a quantized weight new scales, and new integers where a sign changes."""
        new = rescaled(weight, factor)
        edge = weight.reader or edge
        made = self._view.tensors[self._view.nodes[edge[0]].inputs[edge[1]]]
        if len(made.readers) > 1 or made.outputs:
            laid = weight.in_place(factor)
            key = (weight.node, laid.shape, laid.tobytes())
            if key not in self._dequantized:
                self._dequantized[key] = self._dequantize_anew(weight, new, made.name)
            self._editor.redirect(edge, self._dequantized[key])
            return
        for index, values in enumerate((new.integers, new.scale, new.zero_point)):
            if values is not None:
                edge, recipe = (weight.node, index), Literal(values)
                self._editor.replace_constant(edge, recipe, (values.shape, values.tobytes()))
        if new.axis != weight.axis or new.scale.shape != weight.scale.shape:
            proto = self._editor.proto(weight.node)
            set_attribute(proto, onnx.helper.make_attribute("axis", new.axis))

    def _dequantize_anew(self, weight: Quantized, new: Requantized, name: str) -> str:
        """Insert another DequantizeLinear where other nodes read the first; return its output."""
        node = self._view.nodes[weight.node]
        clone = onnx.NodeProto()
        clone.CopyFrom(node.proto)
        made = self._editor.names.fresh(name)
        clone.output[0] = made
        if clone.name:
            clone.name = f"{clone.name}_{made}"
        for index, values in enumerate((new.integers, new.scale, new.zero_point)):
            if values is not None:
                wish = self._view.tensors[node.inputs[index]].name
                recipe = Literal(values)
                clone.input[index] = self._editor.new_constant(weight.node, recipe, wish)
            elif index < len(node.inputs) and node.inputs[index] != NONE:
                self._editor.keep(node.inputs[index])
        if new.axis != weight.axis or new.scale.shape != weight.scale.shape:
            set_attribute(clone, onnx.helper.make_attribute("axis", new.axis))
        self._editor.insert(clone, weight.node, behind=True)
        return made

    def requantize_bias(self, edge: Edge, scale: F64) -> bool:
        """Scale a quantized bias through its scales; return False if it is none or cannot be.

        Only a scale can be applied so. A shift would have to be rounded to a multiple of the
        bias's scale, so a bias that is shifted becomes a plain one.
        """
        node, index = edge
        try:
            bias = find_quantized(self._graph, self._view.nodes[node].inputs[index])
            if bias is not None:
                self.requantize(edge, bias, scale)
        except Refusal:
            return False
        return bias is not None
