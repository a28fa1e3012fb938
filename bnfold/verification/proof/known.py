"""What helps a proof without being part of it: shapes, layers, functions to inline."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx

from bnfold.files.opened import OpenedModel
from bnfold.frozen import frozen
from bnfold.onnx_model.functions import inlined
from bnfold.verification.dtypes import FLOATS
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.table import row_of

_MAY_BE_FLOATS = FLOATS | {onnx.TensorProto.UNDEFINED}


@frozen
class Known:
    """What is known of the original's tensors.

    Attributes:
        shapes: The shapes that can be inferred, by name.
        whole: The element types of the tensors that are no floats, by name.
        free: Whether the inputs may have several shapes.
        seen: Shapes that tensors had when it ran, by name.
        narrowed: A sentence for each input of which the candidate takes less.
    """

    shapes: Mapping[str, Shape]
    whole: dict[str, int]
    free: bool
    seen: Mapping[str, Shape]
    narrowed: tuple[str, ...]


def known_shapes(model: onnx.ModelProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """Return the shapes that a model states, and the types of the tensors that are no floats.

    Bodies of If, Loop and Scan are looked into, too. Where several use a name for tensors that
    they make of different shapes, only what these have in common is known.
    """
    shapes: dict[str, Shape] = {}
    unlike: set[str] = set()
    whole: dict[str, int] = {}
    for value in _values(model.graph):
        tensor = value.type.tensor_type
        if tensor.elem_type not in _MAY_BE_FLOATS:
            whole[value.name] = tensor.elem_type
        if not tensor.HasField("shape") or value.name in unlike:
            continue
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
            for dim in tensor.shape.dim
        )
        before = shapes.setdefault(value.name, shape)
        if len(before) != len(shape):
            unlike.add(value.name)
            del shapes[value.name]
        elif before != shape:
            pairs = zip(before, shape, strict=True)
            shapes[value.name] = tuple(a if a == b else None for a, b in pairs)
    return shapes, whole


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """Yield the declarations of the tensors of a graph and of the graphs within it."""
    graphs = [graph]
    while graphs:
        each = graphs.pop()
        yield from (*each.input, *each.value_info, *each.output)
        graphs += [a.g for node in each.node for a in node.attribute if a.HasField("g")]


def taps(old: onnx.GraphProto, new: onnx.GraphProto) -> tuple[str, ...]:
    """Return tensors that stand for layers: outputs of batch normalizations, where any are left.

    What the readers of a fold see keeps its name; what is inside a fold may keep it too and mean
    something else, so other tensors are taken only where there are no batch normalizations.
    """
    present = {name for node in new.node for name in node.output if name}
    outputs = {value.name for value in (*old.output, *new.output)}
    layers = [n for n in old.node if row_of(n).normalizes] or [
        n for n in old.node if n.op_type != "Constant"
    ]
    names = [node.output[0] for node in layers if node.output]
    inside = present - outputs
    return tuple(name for name in names if name in inside)


def inlined_alike(first: OpenedModel, second: OpenedModel) -> OpenedModel:
    """Return the original with those local functions inlined that the candidate has inlined.

    ONNX's own inliner does it, as it is expected to have done it there. If it gave another
    graph, or refuses the model, the proof will fail.
    """
    gone = function_calls(first.proto) - function_calls(second.proto)
    flat = inlined(first.proto, gone) if gone else None
    return first if flat is None else replace(first, proto=flat)


def function_calls(model: onnx.ModelProto) -> set[tuple[str, str]]:
    """Return the domain and name of every local function that is called anywhere."""
    local = {(function.domain, function.name) for function in model.functions}
    called: set[tuple[str, str]] = set()
    pending = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while pending:
        node = pending.pop()
        called.add((node.domain, node.op_type))
        pending += [inner for a in node.attribute for inner in a.g.node]
    return called & local
