"""Rewriting what an affine passes: constant operands, and the numbers that a node states."""

import numpy as np
import onnx

from bnfold.files.recipe import Literal
from bnfold.graph.edit.rewriter import Rewriter, set_attribute
from bnfold.graph.index.view import NONE, Edge
from bnfold.rules.affine import Affine
from bnfold.rules.stated import INPUTS_SINCE, STATED, Numbers


class PassedRewriter(Rewriter):
    """See the module."""

    def constant(self, edge: Edge, affine: Affine) -> None:
        """Replace a constant operand by an affine of it."""
        node, index = edge
        old = self._constants.value(self._view.nodes[node].inputs[index])
        new = self._rounded(node, affine.apply(old), old.dtype)
        self._editor.replace_constant(edge, Literal(new), ("branch", new.shape, new.tobytes()))

    def state(self, node: int, numbers: Numbers) -> None:
        """Give a node other numbers than those that it states itself."""
        stated = STATED[self._view.nodes[node].proto.op_type]
        operator = self._graph.operator(node)
        before = stated.numbers(operator)
        for name, index, old, new in zip(stated.names, stated.inputs, before, numbers, strict=True):
            if new != old:
                self._state_one(node, name, index, stated.written(operator, new))

    def _state_one(self, node: int, name: str, index: int, number: float) -> None:
        record = self._view.nodes[node]
        if self._opset(node) < INPUTS_SINCE:
            attribute = onnx.helper.make_attribute(name, number)
            set_attribute(self._editor.proto(node), attribute)
            return
        dtype = self._dtype(record.inputs[0])
        recipe = Literal(self._rounded(node, np.asarray(number), dtype))
        if len(record.inputs) > index and record.inputs[index] != NONE:
            self._editor.replace_constant((node, index), recipe, ("stated", number))
        else:
            wish = f"{self._editor.name(record.outputs[0])}_{name}"
            self._editor.add_constant((node, index), recipe, wish, (dtype, number))

    def compute(self, edge: Edge) -> None:
        """Store a constant that was computed."""
        node, index = edge
        values = self._constants.value(self._view.nodes[node].inputs[index])
        self._editor.replace_constant(edge, Literal(values), "computed")

    def add_fewer(self, node: int, signs: tuple[int, ...]) -> None:
        """Let a sum add up what is left of it, with these signs."""
        proto = self._editor.proto(node)
        order = sorted((i for i, sign in enumerate(signs) if sign), key=lambda i: -signs[i])
        if min(signs) < 0:
            proto.op_type = "Sub"
        elif proto.op_type == "Sub":
            proto.op_type = "Add"
        self._editor.keep_inputs(node, order)
