"""Small models built node by node, every tensor's numbers known as soon as it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from evaluation import Array, run_node
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dice import Dice

_IR_VERSION = 8  # the lowest that allows every opset that is generated
_CONSTANT_INTEGERS = 9  # before, a Constant node holds floating-point numbers only
AFFINE = "affine"
"""The stem of the names of nodes that a test wants to see folded."""


class Network:
    """A model under construction.

    Attributes:
        dice: Where choices come from.
        opset: The version of ONNX's operators.
        elem_type: The element type of all floating-point tensors.
        values: The numbers of every tensor.
        batch: Whether the first dimension of inputs is declared as a symbol.
    """

    def __init__(
        self,
        dice: Dice,
        opset: int = 17,
        elem_type: int = TensorProto.DOUBLE,
        *,
        batch: bool = False,
    ) -> None:
        self.dice = dice
        self.opset = opset
        self.elem_type = elem_type
        self.batch = batch
        self.values: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.values[tensor].shape

    def feed(self, shape: Sequence[int]) -> str:
        """A new graph input."""
        name = self.name("input")
        declared: list[int | str] = list(shape)
        if self.batch and declared:
            declared[0] = f"N{shape[0]}"
        self.inputs.append(helper.make_tensor_value_info(name, self.elem_type, declared))
        self.values[name] = self.dice.numbers(shape)
        return name

    def constant(self, values: Array, stem: str = "constant") -> str:
        """A new constant, stored in one of the ways that ONNX has."""
        stored = np.asarray(values)
        if stored.dtype == np.float64:
            stored = stored.astype(helper.tensor_dtype_to_np_dtype(self.elem_type))
        is_float = stored.dtype.kind not in "iub"
        name = self.name(stem)
        self.values[name] = stored.astype(np.float64) if is_float else stored
        if self.dice.chance(0.8) or (not is_float and self.opset < _CONSTANT_INTEGERS):
            self.initializers.append(numpy_helper.from_array(stored, name))
        else:
            tensor = numpy_helper.from_array(stored)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        *,
        outputs: int = 1,
        stem: str = "",
        **attributes: Any,
    ) -> list[str]:
        """A new node; returns its outputs."""
        name = self.name(stem or op_type.lower())
        made = [f"{name}_out{i}" if outputs > 1 else f"{name}_out" for i in range(outputs)]
        node = helper.make_node(op_type, list(inputs), made, name=name, **attributes)
        self.nodes.append(node)
        results = run_node(node, self.opset, self.values)
        self.values.update(zip(made, results, strict=True))
        return made

    def op(self, op_type: str, *inputs: str, stem: str = "", **attributes: Any) -> str:
        """A new node with one output."""
        return self.node(op_type, inputs, stem=stem, **attributes)[0]

    def value_info(self, tensor: str) -> onnx.ValueInfoProto:
        value = self.values[tensor]
        integers = {"i": TensorProto.INT64, "b": TensorProto.BOOL}
        elem_type = integers.get(value.dtype.kind, self.elem_type)
        return helper.make_tensor_value_info(tensor, elem_type, [None] * value.ndim)

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "generated",
            self.inputs,
            [self.value_info(tensor) for tensor in outputs],
            self.initializers,
        )
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)

    def feeds(self) -> dict[str, Array]:
        return {value.name: self.values[value.name] for value in self.inputs}
