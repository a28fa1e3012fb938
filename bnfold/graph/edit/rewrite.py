"""Carrying a plan out: W' = s q W, b' = s (b + W r) + t, and the few nodes around them.

All arithmetic is float64 and is rounded once, to the element type that the tensor has. Weights
are not computed here: each becomes a recipe that is evaluated when the model is written.
"""

from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import BnfoldError
from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import Literal, Recipe
from bnfold.files.scaled import Scaled
from bnfold.frozen import frozen
from bnfold.graph.edit.editor import Editor
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.quantized import Quantized, Requantized, find_quantized, rescaled
from bnfold.graph.index.view import NONE
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.plan import Plan, RunEdit
from bnfold.reasons import Refusal
from bnfold.rules.affine import F64, Affine, some
from bnfold.rules.affine_nodes import NORMALIZATION
from bnfold.rules.operator import Shape

_PAD_INPUT_OPSET = 11
_RIGHT_ALIGNED_OPSET = 7  # before, Mul and Add say whether and where their constant is broadcast


class FoldOverflow(BnfoldError):  # noqa: N818 - the error is the overflow
    """A folded value is too large for its element type.

    Attributes:
        node: The linear node that cannot take the affine up.
    """

    def __init__(self, node: int, name: str) -> None:
        super().__init__(f"folding into {name} overflows its element type")
        self.node = node


@frozen
class Rewritten:
    """A folded model that is not written yet.

    Attributes:
        proto: The model, with references to recipes in place of new numbers.
        recipes: The new numbers, by the location that refers to them.
        node_of_recipe: The node that each recipe is for.
        unlisted: Initializers that are no longer listed as graph inputs.
        dropped: The nodes that are gone, those among them that made constants only for others.
    """

    proto: onnx.ModelProto
    recipes: dict[str, Recipe]
    node_of_recipe: dict[str, int]
    unlisted: tuple[str, ...]
    dropped: frozenset[int]


def rewrite(opened: OpenedModel, graph: Graph, plan: Plan) -> Rewritten:
    """Carry a plan out on a copy of the model.

    Raises:
        FoldOverflow: A value does not fit into its element type.
    """
    editor = Editor(graph, plan)
    rewriter = _Rewriter(opened, graph, plan, editor)
    for edit in plan.linear.values():
        rewriter.linear(edit)
    for run in plan.runs:
        rewriter.run(run)
    for (node, index), affine in plan.constants.items():
        rewriter.constant((node, index), affine)
    for node, value in plan.fills.items():
        rewriter.fill(node, value)
    proto = editor.finish()
    unlisted = tuple(editor.unlisted)
    return Rewritten(
        proto, editor.recipes, editor.node_of_recipe, unlisted, frozenset(editor.dropped)
    )


class _Rewriter:
    def __init__(self, opened: OpenedModel, graph: Graph, plan: Plan, editor: Editor) -> None:
        self._opened = opened
        self._graph = graph
        self._view = graph.view
        self._constants = graph.constants
        self._plan = plan
        self._editor = editor
        self._dequantized: dict[tuple[int, tuple[int, ...], bytes], str] = {}

    # -- linear nodes -------------------------------------------------------------------------

    def linear(self, edit: Absorbed) -> None:
        """Give a linear node its new weight and bias."""
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        rank = len(self._graph.shapes.shapes[weight])
        factor = edit.layout.factor(edit.out_scale, edit.in_scale, rank)
        if some(factor != 1):
            self._scale(edit, weight, factor)
        self._bias(edit, weight)
        if edit.pad is not None:
            self._pad(edit, edit.pad)

    def _scale(self, edit: Absorbed, weight: int, factor: F64) -> None:
        """Multiply a weight: through its scales where it is quantized."""
        edge = (edit.node, edit.layout.weight)
        quantized = find_quantized(self._graph, weight)
        if quantized is not None:
            self._requantize(edge, quantized, factor)
            return
        recipe = self._scaled(edit.node, weight, factor)
        self._editor.replace_constant(edge, recipe, ("scaled", factor.shape, factor.tobytes()))

    def _requantize(self, edge: tuple[int, int], weight: Quantized, factor: F64) -> None:
        """Give a quantized weight new scales, and new integers where a sign changes."""
        new = rescaled(weight, factor)
        made = self._view.tensors[self._view.nodes[edge[0]].inputs[edge[1]]]
        if len(made.readers) > 1 or made.outputs:
            key = (weight.node, factor.shape, factor.tobytes())
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
            _set_attribute(proto, onnx.helper.make_attribute("axis", new.axis))

    def _dequantize_anew(self, weight: Quantized, new: Requantized, name: str) -> str:
        """Put another DequantizeLinear beside one that others read too; return what it makes."""
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
            _set_attribute(clone, onnx.helper.make_attribute("axis", new.axis))
        self._editor.insert(clone, weight.node, behind=True)
        return made

    def _requantize_bias(self, edge: tuple[int, int], scale: F64) -> bool:
        """Scale a quantized bias by its scales, where it is one and that can be done.

        A shift would have to be rounded to a multiple of the scale; a bias that is shifted
        becomes a plain one.
        """
        node, index = edge
        try:
            bias = find_quantized(self._graph, self._view.nodes[node].inputs[index])
            if bias is not None:
                self._requantize(edge, bias, scale)
        except Refusal:
            return False
        return bias is not None

    def _scaled(self, node: int, tensor: int, factor: F64) -> Recipe:
        """Return factor × tensor; at once where it might overflow."""
        stored = self._constants.stored(tensor)
        narrow = self._graph.shapes.elem_types.get(tensor) == onnx.TensorProto.FLOAT16
        if stored is not None and not narrow:
            return Scaled(self._opened, stored, factor)
        values = self._constants.value(tensor)
        if not narrow:
            header = onnx.TensorProto(
                name=self._view.tensors[tensor].name,
                dims=values.shape,
                data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
            )
            return Scaled(self._opened, header, factor, values)
        return Literal(self._rounded(node, values.astype(np.float64) * factor, values.dtype))

    def _rounded(self, node: int, values: F64, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Round once; refuse what does not fit."""
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype)
        if not np.isfinite(rounded[np.isfinite(values)].astype(np.float64)).all():
            raise FoldOverflow(node, self._view.nodes[node].label)
        return rounded

    def _bias(self, edit: Absorbed, weight: int) -> None:
        """B' = s (gain b + W r) + t; the gain goes into b'."""
        shifted = some(edit.out_shift) or some(edit.in_shift)
        if not (shifted or some(edit.out_scale != 1)):
            return
        edge = self._bias_edge(edit)
        old = None if edge is None else self._bias_of(edge)
        if old is None and not shifted:
            return
        if not shifted and edge is not None and self._requantize_bias(edge, edit.out_scale):
            return
        added = np.zeros(edit.layout.out_channels)
        if some(edit.in_shift):
            added = edit.layout.response(self._constants.value(weight), edit.in_shift)
        scale, shift = (
            _laid(edit, edit.out_scale),
            _laid(edit, edit.out_scale * added + edit.out_shift),
        )
        dtype = self._dtype(weight) if old is None else old.dtype
        new = (
            shift if old is None else scale * edit.layout.bias_gain * old.astype(np.float64) + shift
        )
        recipe = Literal(self._rounded(edit.node, new, dtype))
        self._place_bias(edit, edge, recipe)

    def _dtype(self, tensor: int) -> np.dtype[np.generic]:
        return onnx.helper.tensor_dtype_to_np_dtype(self._graph.shapes.elem_types[tensor])

    def _bias_edge(self, edit: Absorbed) -> tuple[int, int] | None:
        """Return the (node, input index) at which the bias is read, if there is one."""
        if edit.bias_node is not None:
            inputs = self._view.nodes[edit.bias_node].inputs
            return edit.bias_node, next(i for i, t in enumerate(inputs) if t in self._constants)
        index = edit.layout.bias
        inputs = self._view.nodes[edit.node].inputs
        if index is None or index >= len(inputs) or inputs[index] == NONE:
            return None
        return edit.node, index

    def _bias_of(self, edge: tuple[int, int]) -> NDArray[np.generic]:
        node, index = edge
        return self._constants.value(self._view.nodes[node].inputs[index])

    def _place_bias(self, edit: Absorbed, edge: tuple[int, int] | None, recipe: Literal) -> None:
        proto = self._editor.proto(edit.node)
        key = (recipe.values.dtype, recipe.values.shape, recipe.values.tobytes())
        if edit.layout.bias_gain != 1:
            _set_attribute(proto, onnx.helper.make_attribute("beta", 1.0))
        if edge is not None:
            self._editor.replace_constant(edge, recipe, key)
            return
        wish = self._bias_name(edit)
        if edit.layout.bias is not None:
            self._editor.add_constant((edit.node, edit.layout.bias), recipe, wish, key)
        elif edit.layout.with_bias is not None:
            proto.op_type = edit.layout.with_bias
            self._editor.add_constant((edit.node, 2), recipe, wish, key)
        else:
            self._add_behind(edit, recipe, wish)

    def _bias_name(self, edit: Absorbed) -> str:
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        name = self._view.tensors[weight].name
        stem = name.removesuffix("weight")
        return f"{stem}bias" if stem != name else f"{name}_bias"

    def _add_behind(self, edit: Absorbed, recipe: Literal, wish: str) -> None:
        """Put an Add with the bias behind a node that has no place for one."""
        proto = self._editor.proto(edit.node)
        output = self._editor.name(self._view.nodes[edit.node].outputs[0])
        product = self._editor.names.fresh(f"{output}_product")
        lead = (1,) * (len(self._output_shape(edit.node)) - recipe.values.ndim)
        laid = recipe.values.reshape(lead + recipe.values.shape)
        bias, attributes = _as_operand(laid, self._opset(edit.node))
        name = self._editor.new_constant(edit.node, Literal(bias), wish)
        self._editor.output_names[edit.node] = product
        add = onnx.helper.make_node("Add", [product, name], [output], name=_behind(proto.name))
        add.attribute.extend(attributes)
        self._editor.insert(add, edit.node, behind=True)

    def _opset(self, node: int) -> int:
        return self._view.scopes[self._view.nodes[node].scope].opset

    def _output_shape(self, node: int) -> Shape:
        return self._graph.shapes.shapes.get(self._view.nodes[node].outputs[0], ())

    def _pad(self, edit: Absorbed, value: float) -> None:
        """Let an explicit Pad bring in the value where zeros were read."""
        proto = self._editor.proto(edit.node)
        data = self._view.nodes[edit.node].inputs[edit.layout.data]
        pads = next(list(a.ints) for a in proto.attribute if a.name == "pads")
        half = len(pads) // 2
        full = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        source = self._editor.name(data)
        padded = self._editor.names.fresh(f"{source}_padded")
        name = f"{proto.name}_pad" if proto.name else ""
        dtype = self._dtype(self._view.nodes[edit.node].inputs[edit.layout.weight])
        if self._view.scopes[self._view.nodes[edit.node].scope].opset < _PAD_INPUT_OPSET:
            pad = onnx.helper.make_node(
                "Pad", [source], [padded], name=name, pads=full, value=value
            )
        else:
            amounts = Literal(np.asarray(full, dtype=np.int64))
            inputs = [
                self._editor.new_constant(edit.node, amounts, f"{padded}_pads"),
                self._editor.new_constant(
                    edit.node, Literal(np.asarray(value).astype(dtype)), f"{padded}_value"
                ),
            ]
            pad = onnx.helper.make_node("Pad", [source, *inputs], [padded], name=name)
        self._editor.insert(pad, edit.node, behind=False)
        self._editor.input_names[edit.node, edit.layout.data] = padded
        _set_attribute(proto, onnx.helper.make_attribute("pads", [0] * len(pads)))

    # -- runs that stay -----------------------------------------------------------------------

    def run(self, edit: RunEdit) -> None:
        """Make a run fewer nodes."""
        if edit.normalization is not None:
            self._normalize(edit, edit.normalization)
        else:
            self._spell_out(edit)

    def _normalize(self, edit: RunEdit, holder: int) -> None:
        """Let one BatchNormalization be the whole run: γ = s √(Var + ε), β = t, E = 0, Var = 1 − ε.

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
        """Let a Mul and an Add, or what is needed of them, be the whole run."""
        steps: list[tuple[str, F64 | None]] = []
        if edit.total.has_scale:
            steps.append(("Mul", edit.total.scale))
        if edit.total.has_shift:
            steps.append(("Add", edit.total.shift))
        steps = steps or [("Identity", None)]
        for node, (op_type, values) in zip(edit.stay, steps, strict=True):
            self._respell(node, op_type, values)
        self._join(edit)

    def _respell(self, node: int, op_type: str, values: F64 | None) -> None:
        """Let a node be another operator, with a constant as its second input if it has one."""
        record = self._view.nodes[node]
        self._editor.detach(node)
        proto = self._editor.proto(node)
        proto.op_type = op_type
        del proto.attribute[:], proto.output[1:], proto.input[:]
        proto.input.append("")
        if values is None:
            return
        values, attributes = _as_operand(values, self._opset(node))
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
        """Let who reads only the shape of a tensor that is gone read that of the run's input."""
        for node in set(edit.nodes) - stay:
            for edge in self._view.tensors[self._view.nodes[node].outputs[0]].readers:
                if edge[0] not in edit.nodes:
                    self._editor.input_names[edge] = self._editor.name(source)

    def _data_index(self, node: int) -> int:
        inputs = self._view.nodes[node].inputs
        return next(i for i, tensor in enumerate(inputs) if tensor not in self._constants)

    # -- constants on the way -----------------------------------------------------------------

    def constant(self, edge: tuple[int, int], affine: Affine) -> None:
        """Put a constant operand through an affine."""
        node, index = edge
        old = self._constants.value(self._view.nodes[node].inputs[index])
        new = self._rounded(node, affine.apply(old), old.dtype)
        self._editor.replace_constant(edge, Literal(new), ("branch", new.shape, new.tobytes()))

    def fill(self, node: int, value: float) -> None:
        """Give a Pad another value to fill with."""
        record = self._view.nodes[node]
        proto = self._editor.proto(node)
        if self._view.scopes[record.scope].opset < _PAD_INPUT_OPSET:
            _set_attribute(proto, onnx.helper.make_attribute("value", value))
            return
        dtype = self._dtype(record.inputs[0])
        recipe = Literal(self._rounded(node, np.asarray(value), dtype))
        edge = (node, 2)
        if len(record.inputs) > 2 and record.inputs[2] != NONE:  # noqa: PLR2004 - the value
            self._editor.replace_constant(edge, recipe, ("fill", value))
        else:
            wish = f"{self._editor.name(record.outputs[0])}_value"
            self._editor.add_constant(edge, recipe, wish, (dtype, value))


def _laid(edit: Absorbed, vector: F64) -> F64:
    """Lay a vector [Cout] along the output channels of a bias.

    They are the last axis of it, except for W x, where they are the one before the last.
    """
    return vector.reshape(-1, 1) if edit.layout.out_axis == -2 else vector  # noqa: PLR2004


Number = TypeVar("Number", bound=np.generic)


def _as_operand(
    values: NDArray[Number], opset: int
) -> tuple[NDArray[Number], list[onnx.AttributeProto]]:
    """Return values of a tensor's rank as the constant of a Mul or an Add, and its attributes.

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


def _behind(name: str) -> str:
    return f"{name}_bias" if name else ""


def _set_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    for index, existing in enumerate(node.attribute):
        if existing.name == attribute.name:
            node.attribute[index].CopyFrom(attribute)
            return
    node.attribute.append(attribute)


__all__ = ["NORMALIZATION", "FoldOverflow", "Rewritten", "rewrite"]
