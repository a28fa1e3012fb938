"""Rewriting runs that stay, as fewer nodes."""

import numpy as np

from bnfold.files.recipe import Literal
from bnfold.graph.edit.rewriter import Rewriter, as_operand
from bnfold.graph.plan.plan import RunEdit
from bnfold.rules.affine import F64


class RunRewriter(Rewriter):
    """See the module."""

    def rewrite(self, edit: RunEdit) -> None:
        """Rewrite a run as the nodes that `RunEdit.stay` names."""
        if edit.normalization is not None:
            self._normalize(edit, edit.normalization)
        else:
            self._spell_out(edit)

    def _normalize(self, edit: RunEdit, holder: int) -> None:
        """Make one BatchNormalization the whole run: γ = s √(Var + ε), β = t, E = 0, Var = 1 − ε.

        ε stays, because some runtimes do not accept 0; Var makes up for it, and γ for what the
        rounding of Var leaves.
        """
        node = self._view.nodes[holder]
        operator = self._graph.operator(holder)
        old = [self._constants.value(tensor) for tensor in node.inputs[1:5]]
        epsilon = operator.number("epsilon", float(np.float32(1e-5)))
        scale, shift = edit.total.vectors(1, old[0].size)
        var = np.full(scale.shape, max(1 - epsilon, 0.0)).astype(old[3].dtype)
        gamma = scale * np.sqrt(var.astype(np.float64) + epsilon)
        values = [gamma, shift, np.zeros_like(scale), var.astype(np.float64)]
        for index, (value, before) in enumerate(zip(values, old, strict=True), start=1):
            new = self._rounded(holder, value, before.dtype)
            self._editor.replace_constant((holder, index), Literal(new), ("run", new.tobytes()))
        self._join(edit)

    def _spell_out(self, edit: RunEdit) -> None:
        """Make a Mul and an Add, or only one of them, the whole run."""
        steps: list[tuple[str, F64 | None]] = []
        if edit.total.has_scale:
            steps.append(("Mul", edit.total.scale))
        if edit.total.has_shift:
            steps.append(("Add", edit.total.shift))
        steps = steps or [("Identity", None)]
        was_normalization = any(map(self._graph.is_normalization, edit.nodes))
        self._editor.adds += was_normalization and not edit.total.has_scale
        for node, (op_type, values) in zip(edit.stay, steps, strict=True):
            self._respell(node, op_type, values)
        self._join(edit)

    def _respell(self, node: int, op_type: str, values: F64 | None) -> None:
        """Make a node another operator, with these values as its second input if there are any."""
        record = self._view.nodes[node]
        self._editor.detach(node)
        proto = self._editor.proto(node)
        proto.op_type = op_type
        del proto.attribute[:], proto.output[1:], proto.input[:]
        proto.input.append("")
        if values is None:
            return
        values, attributes = as_operand(values, self._opset(node))
        proto.attribute.extend(attributes)
        dtype = self._dtype(record.outputs[0])
        recipe = Literal(self._rounded(node, np.asarray(values), dtype))
        kind = "scale" if op_type == "Mul" else "shift"
        wish = f"{self._view.tensors[record.outputs[0]].name}_{kind}"
        proto.input.append(self._editor.new_constant(node, recipe, wish))

    def _join(self, edit: RunEdit) -> None:
        """Chain the nodes that stay, from the run's input to its output; drop the others."""
        holders = edit.stay
        first, last = edit.nodes[0], edit.nodes[-1]
        source = self._view.nodes[first].inputs[self._data_index(first)]
        name = self._editor.name(source)
        for node in holders:
            index = self._data_index(node) if node == edit.normalization else 0
            self._editor.input_names[node, index] = name
            ending = self._view.nodes[last].outputs[0]
            output = ending if node == holders[-1] else self._view.nodes[node].outputs[0]
            name = self._editor.name(output)
            self._editor.output_names[node] = name
        self._read_before(edit, source, {*holders[:-1], last})
        self._editor.drop(set(edit.nodes) - set(holders))

    def _read_before(self, edit: RunEdit, source: int, stay: set[int]) -> None:
        """Let nodes that read only the shape of a removed tensor read the run's input instead."""
        for node in set(edit.nodes) - stay:
            for edge in self._view.tensors[self._view.nodes[node].outputs[0]].readers:
                if edge[0] not in edit.nodes:
                    self._editor.input_names[edge] = self._editor.name(source)

    def _data_index(self, node: int) -> int:
        inputs = self._view.nodes[node].inputs
        return next(i for i, tensor in enumerate(inputs) if tensor not in self._constants)
