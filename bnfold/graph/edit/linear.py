"""Rewriting linear nodes: W' = s q W, b' = s (b + W r) + t.

All arithmetic is float64 and is rounded once, to the element type that the tensor has. Weights
are not computed here: each becomes a recipe that is evaluated when the model is written.
"""

from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import FoldUnderflow, Literal, NotFinite, Recipe
from bnfold.files.scaled import Scaled
from bnfold.graph.edit.digits import digits_are_lost
from bnfold.graph.edit.editor import Editor
from bnfold.graph.edit.quantized import QuantizedRewriter
from bnfold.graph.edit.rewriter import Number, Rewriter, as_operand, set_attribute
from bnfold.graph.edit.summed import SummedRewriter
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.quantized import find_quantized
from bnfold.graph.index.view import NONE, Edge
from bnfold.graph.plan.absorbed import Absorbed, Parted
from bnfold.rules.affine import F64, any_nonzero
from bnfold.rules.operator import Shape
from bnfold.rules.stated import INPUTS_SINCE

_VERY_SMALL = 2.0**-40
"""A factor that may take a weight below the smallest normal number, 2⁻¹²⁶, of float32."""


class LinearRewriter(Rewriter):
    """See the module."""

    def __init__(self, opened: OpenedModel, graph: Graph, editor: Editor) -> None:
        super().__init__(opened, graph, editor)
        self._quantized = QuantizedRewriter(opened, graph, editor)
        self._summed = SummedRewriter(opened, graph, editor)

    def rewrite(self, edit: Absorbed) -> None:
        """Give a linear node its new weight and bias."""
        if edit.summed is not None:
            self._summed.rewrite(edit, edit.summed)
            self._summed_bias(edit)
        else:
            self._one(edit)
        if edit.pad is not None:
            self._pad(edit, edit.pad)

    def _one(self, edit: Absorbed) -> None:
        """Give a linear node what its own weight and bias become."""
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        rank = len(self._graph.shapes.shapes[weight])
        factor = edit.layout.factor(edit.out_scale, edit.in_scale, rank)
        if any_nonzero(factor != 1):
            self._scale(edit, weight, factor)
        self._bias(edit, weight)

    def _summed_bias(self, edit: Absorbed) -> None:
        """Give the linear node that holds a sum its bias, if it has one."""
        edge = self._bias_edge(edit)
        if edge is None and not edit.has_shift:
            return
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        dtype = self._dtype(weight) if edge is None else self._bias_of(edge).dtype
        new = self._rounded(edit.node, self._new_bias(edit, None), dtype)
        self._place_bias(edit, edge, Literal(new))

    def _scale(self, edit: Absorbed, weight: int, factor: F64) -> None:
        """Multiply a weight: through its scales where it is quantized."""
        edge = (edit.node, edit.layout.weight)
        quantized = find_quantized(self._graph, weight)
        if quantized is not None:
            self._quantized.requantize(edge, quantized, factor)
            return
        recipe = self._scaled(edit, weight, factor)
        self._editor.replace_constant(edge, recipe, ("scaled", factor.shape, factor.tobytes()))

    def _scaled(self, edit: Absorbed, tensor: int, factor: F64) -> Recipe:
        """Return factor × tensor as a recipe.

        In float16 overflow and underflow are likely, and finding them now is cheaper than when the
        model is written. In other types a factor must be very small for that.
        """
        node = edit.node
        stored = self._constants.stored(tensor)
        elem_type = self._graph.shapes.elem_types.get(tensor)
        narrow = elem_type == onnx.TensorProto.FLOAT16 or (
            elem_type != onnx.TensorProto.DOUBLE
            and any_nonzero((np.abs(factor) < _VERY_SMALL) & (factor != 0))
        )
        if stored is not None and not narrow:
            return Scaled(self._opened, stored, factor, node=node)
        values = self._constants.value(tensor)
        if not narrow:
            header = onnx.TensorProto(
                name=self._view.tensors[tensor].name,
                dims=values.shape,
                data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
            )
            return Scaled(self._opened, header, factor, values, node)
        self._require_finite(node, tensor, values)
        exact = values.astype(np.float64) * factor
        rounded = self._rounded(node, exact, values.dtype)
        if digits_are_lost(edit.layout, exact, rounded, lambda: self._bias_to_be(edit)):
            raise FoldUnderflow(node, f"tensor {self._view.tensors[tensor].name!r}", values.dtype)
        return Literal(rounded)

    def _require_finite(self, node: int, tensor: int, numbers: NDArray[np.generic]) -> None:
        if not np.isfinite(numbers).all():
            raise NotFinite(node, f"tensor {self._view.tensors[tensor].name!r}")

    def _bias(self, edit: Absorbed, weight: int) -> None:
        """B' = s (gain b + W r) + t; the gain goes into b'."""
        shifted = any_nonzero(edit.out_shift) or any_nonzero(edit.in_shift)
        if not (shifted or any_nonzero(edit.out_scale != 1)):
            return
        edge = self._bias_edge(edit)
        old = None if edge is None else self._bias_of(edge)
        if old is None and not shifted:
            return
        if (
            not shifted
            and edge is not None
            and self._quantized.requantize_bias(edge, edit.out_scale)
        ):
            return
        dtype = self._dtype(weight) if old is None else old.dtype
        new = self._rounded(edit.node, self._new_bias(edit, old), dtype)
        if edit.bias_node is not None and dtype == np.float16 and self._is_fixed_stack(edit.node):
            new = self._with_all_axes(edit, new)
        self._place_bias(edit, edge, Literal(new))

    def _with_all_axes(self, edit: Absorbed, bias: NDArray[Number]) -> NDArray[Number]:
        """Return a bias with as many axes as the product has to which it is added.

        Of a vector behind a product of a fixed shape that is no matrix, ONNX Runtime makes a Gemm
        between two Reshapes, three nodes for what were two; on a processor it casts around these in
        float16, which costs more than the affine did that is folded.
        """
        lead = (1,) * (len(self._output_shape(edit.node)) - bias.ndim)
        return bias.reshape(lead + bias.shape)

    def _bias_to_be(self, edit: Absorbed) -> F64:
        """Return what the bias will be, zeros where there will be none."""
        edge = self._bias_edge(edit)
        return self._new_bias(edit, None if edge is None else self._bias_of(edge))

    def _new_bias(self, edit: Absorbed, old: NDArray[np.generic] | None) -> F64:
        """Return s (gain b + W r) + t, laid along the output channels."""
        if edit.summed is not None:
            return edit.layout.as_bias(self._summed.bias(edit))
        shift = edit.out_shift
        if any_nonzero(edit.in_shift):
            weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
            numbers = self._constants.value(weight)
            self._require_finite(edit.node, weight, numbers)
            shift = edit.out_scale * edit.layout.response(numbers, edit.in_shift) + shift
        laid = edit.layout.as_bias(shift)
        if old is None:
            return laid
        own: F64 = edit.layout.bias_gain * old.astype(np.float64)
        return edit.layout.as_bias(edit.out_scale, beside=1.0) * own + laid

    def part(self, parted: Parted) -> None:
        """Give an Add that was a bias what it adds now, along other axes than the channels."""
        edge = self._bias_edge(parted.state)
        if edge is None or parted.through is None:
            return
        old = self._bias_of(edge)
        new = parted.through.apply(self._new_bias(parted.state, old))
        self._place_bias(parted.state, edge, Literal(self._rounded(edge[0], new, old.dtype)))

    def _bias_edge(self, edit: Absorbed) -> Edge | None:
        """Return the (node, input index) at which the bias is read, if there is one."""
        if edit.bias_node is not None:
            inputs = self._view.nodes[edit.bias_node].inputs
            return edit.bias_node, next(i for i, t in enumerate(inputs) if t in self._constants)
        index = edit.layout.bias
        inputs = self._view.nodes[edit.node].inputs
        if index is None or index >= len(inputs) or inputs[index] == NONE:
            return None
        return edit.node, index

    def _bias_of(self, edge: Edge) -> NDArray[np.generic]:
        node, index = edge
        return self._constants.value(self._view.nodes[node].inputs[index])

    def _place_bias(self, edit: Absorbed, edge: Edge | None, recipe: Literal) -> None:
        if edit.layout.bias is None and not recipe.values.any():
            # Shifts that are each other's opposite leave an operator that takes no bias as it was.
            if edge is None:
                return
            if recipe.values.ndim <= len(self._output_shape(edit.node)):
                self._without_add(edit, edge[0])
                return
        proto = self._editor.proto(edit.node)
        key = (recipe.values.dtype, recipe.values.shape, recipe.values.tobytes())
        if edit.layout.bias_gain != 1:
            set_attribute(proto, onnx.helper.make_attribute("beta", 1.0))
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

    def _without_add(self, edit: Absorbed, add: int) -> None:
        """Let a linear node make what the Add behind it made, which adds zeros now."""
        output = self._view.nodes[add].outputs[0]
        self._editor.output_names[edit.node] = self._editor.name(output)
        self._editor.drop([add])

    def _bias_name(self, edit: Absorbed) -> str:
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        name = self._view.tensors[weight].name
        stem = name.removesuffix("weight")
        return f"{stem}bias" if stem != name else f"{name}_bias"

    def _add_behind(self, edit: Absorbed, recipe: Literal, wish: str) -> None:
        """Insert an Add with the bias behind an operator that takes none.

        Where the product is no matrix and has a fixed shape, it has the product's rank.
        """
        self._editor.adds += 1
        proto = self._editor.proto(edit.node)
        output = self._editor.name(self._view.nodes[edit.node].outputs[0])
        product = self._editor.names.fresh(f"{output}_product")
        laid = self._with_all_axes(edit, recipe.values)
        bias, attributes = as_operand(laid, self._opset(edit.node))
        if not attributes and self._is_fixed_stack(edit.node):
            bias = laid
        name = self._editor.new_constant(edit.node, Literal(bias), wish)
        self._editor.output_names[edit.node] = product
        add = onnx.helper.make_node("Add", [product, name], [output], name=_behind(proto.name))
        add.attribute.extend(attributes)
        self._editor.insert(add, edit.node, behind=True)

    def _is_fixed_stack(self, node: int) -> bool:
        """Whether a product's shape is fixed, and is that of more than one matrix."""
        shape = self._output_shape(node)
        fixed = all(isinstance(size, int) for size in shape) or self._takes_fixed
        return len(shape) > 2 and fixed  # noqa: PLR2004

    @cached_property
    def _takes_fixed(self) -> bool:
        """Whether all that enters has a fixed shape: runtimes know those of all tensors then."""
        given = (t for t in self._view.tensors if t.is_input and not (t.scope or t.is_stored))
        shapes = [self._graph.shapes.shapes.get(tensor.number) for tensor in given]
        return all(s is not None and all(isinstance(n, int) for n in s) for s in shapes)

    def _output_shape(self, node: int) -> Shape:
        return self._graph.shapes.shapes.get(self._view.nodes[node].outputs[0], ())

    def _pad(self, edit: Absorbed, value: float) -> None:
        """Insert a Pad with another value in place of the operator's own zero padding."""
        proto = self._editor.proto(edit.node)
        data = self._view.nodes[edit.node].inputs[edit.layout.data]
        pads = next(list(a.ints) for a in proto.attribute if a.name == "pads")
        half = len(pads) // 2
        full = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        source = self._editor.name(data)
        padded = self._editor.names.fresh(f"{source}_padded")
        name = f"{proto.name}_pad" if proto.name else ""
        dtype = self._dtype(self._view.nodes[edit.node].inputs[edit.layout.weight])
        if self._opset(edit.node) < INPUTS_SINCE:
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
        set_attribute(proto, onnx.helper.make_attribute("pads", [0] * len(pads)))


def _behind(name: str) -> str:
    return f"{name}_bias" if name else ""
