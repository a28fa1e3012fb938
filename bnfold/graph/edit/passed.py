"""Rewriting what an affine passes: constant operands, and the values of Pads."""

import numpy as np
import onnx

from bnfold.files.recipe import Literal
from bnfold.graph.edit.rewriter import Rewriter, set_attribute
from bnfold.graph.index.view import NONE, Edge
from bnfold.graph.plan.pads import PAD_INPUT_OPSET
from bnfold.rules.affine import Affine


class PassedRewriter(Rewriter):
    """See the module."""

    def constant(self, edge: Edge, affine: Affine) -> None:
        """Replace a constant operand by an affine of it."""
        node, index = edge
        old = self._constants.value(self._view.nodes[node].inputs[index])
        new = self._rounded(node, affine.apply(old), old.dtype)
        self._editor.replace_constant(edge, Literal(new), ("branch", new.shape, new.tobytes()))

    def fill(self, node: int, value: float) -> None:
        """Give a Pad another value to fill with."""
        record = self._view.nodes[node]
        proto = self._editor.proto(node)
        if self._opset(node) < PAD_INPUT_OPSET:
            set_attribute(proto, onnx.helper.make_attribute("value", value))
            return
        dtype = self._dtype(record.inputs[0])
        recipe = Literal(self._rounded(node, np.asarray(value), dtype))
        edge = (node, 2)
        if len(record.inputs) > 2 and record.inputs[2] != NONE:  # noqa: PLR2004 - the value
            self._editor.replace_constant(edge, recipe, ("fill", value))
        else:
            wish = f"{self._editor.name(record.outputs[0])}_value"
            self._editor.add_constant(edge, recipe, wish, (dtype, value))

    def add_fewer(self, node: int, signs: tuple[int, ...]) -> None:
        """Let a sum add up what is left of it, with these signs."""
        proto = self._editor.proto(node)
        order = sorted((i for i, sign in enumerate(signs) if sign), key=lambda i: -signs[i])
        if min(signs) < 0:
            proto.op_type = "Sub"
        elif proto.op_type == "Sub":
            proto.op_type = "Add"
        self._editor.keep_inputs(node, order)
