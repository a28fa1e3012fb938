"""The same network put elsewhere: into a branch, a loop, a function, or with its weights listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from dice import Dice

Nesting = Callable[[onnx.ModelProto, "Dice"], onnx.ModelProto]

_LOCAL = "local"


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def in_branch(model: onnx.ModelProto, dice: Dice) -> onnx.ModelProto:
    """Into the branch of an If that is taken; some of the weights stay outside."""
    outer, inner = _copy(model), onnx.GraphProto(name="then_graph")
    graph = outer.graph
    inner.node.extend(graph.node)
    for value in graph.output:
        inner.output.add(name=f"then_{value.name}", type=value.type)
        inner.node.append(helper.make_node("Identity", [value.name], [f"then_{value.name}"]))
    stored = list(graph.initializer)
    within = dice.some(stored)
    inner.initializer.extend(within)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensor for tensor in stored if tensor not in within)
    other = _constants(graph.output)
    for value in graph.output:
        value.name = f"outer_{value.name}"
    names = [value.name for value in graph.output]
    graph.initializer.append(numpy_helper.from_array(np.asarray([True]), "taken"))
    node = helper.make_node("If", ["taken"], names, then_branch=inner, else_branch=other)
    graph.node.append(node)
    return outer


def _constants(outputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
    graph = onnx.GraphProto(name="else_graph")
    for value in outputs:
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        rank = len(value.type.tensor_type.shape.dim)
        tensor = numpy_helper.from_array(np.zeros([1] * rank, dtype=dtype))
        name = f"else_{value.name}"
        graph.node.append(helper.make_node("Constant", [], [name], value=tensor))
        graph.output.add(name=name, type=value.type)
    return graph


def in_function(model: onnx.ModelProto, dice: Dice) -> onnx.ModelProto:
    """Into a local function; its weights are Constant nodes inside, or arguments."""
    outer = _copy(model)
    graph = outer.graph
    inside: list[TensorProto] = []
    outside: list[TensorProto] = []
    for tensor in graph.initializer:
        (inside if dice.chance(0.6) else outside).append(tensor)
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in inside]
    arguments = [value.name for value in graph.input] + [tensor.name for tensor in outside]
    names = [value.name for value in graph.output]
    nodes = [*constants, *graph.node]
    function = helper.make_function(_LOCAL, "block", arguments, names, nodes, outer.opset_import)
    outer.functions.append(function)
    outer.opset_import.append(helper.make_opsetid(_LOCAL, 1))
    del graph.node[:], graph.initializer[:]
    graph.initializer.extend(outside)
    graph.node.append(helper.make_node("block", arguments, names, domain=_LOCAL))
    return outer


def with_listed_weights(model: onnx.ModelProto, dice: Dice) -> onnx.ModelProto:
    """With some of the weights listed as inputs, too, so that a caller may override them."""
    listed = _copy(model)
    for tensor in dice.some(list(listed.graph.initializer)):
        _list(listed.graph, tensor)
    return listed


def as_ir_3(model: onnx.ModelProto, dice: Dice) -> onnx.ModelProto:
    """As IR 3 has it: every weight is listed as an input."""
    del dice
    old = _copy(model)
    old.ir_version = 3
    for tensor in old.graph.initializer:
        _list(old.graph, tensor)
    return old


def _list(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    graph.input.append(value)


NESTINGS: Mapping[str, Nesting] = {
    "branch": in_branch,
    "function": in_function,
    "listed": with_listed_weights,
    "IR 3": as_ir_3,
}
