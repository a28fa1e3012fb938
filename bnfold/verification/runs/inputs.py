"""What a model asks to be fed, as far as its file tells.

Symbolic dimensions with one name are one number. An unnamed one is its own symbol. What the
first operators behind an input fix (the channels that a convolution's weight expects, the length
of the table that a Gather reads) is found by walking from the input through operators that keep
it as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.verification.operators.node import attributes_of
from bnfold.verification.operators.table import row_named, row_of

Feed = Mapping[str, Any]
"""What a model is fed at once: by input name an array, or a list of arrays for a sequence."""

Dim = int | str
"""A size, or the name of a symbol."""


@frozen
class InputSpec:
    """One input of a model.

    Attributes:
        name: Its name.
        elem_type: The `onnx.TensorProto.DataType` of its elements.
        dims: Its shape; None where even the rank is unknown.
        sequence: It is a sequence of such tensors.
        bound: Integer values must be below this, as they index something of that length.
    """

    name: str
    elem_type: int
    dims: tuple[Dim, ...] | None
    sequence: bool = False
    bound: int | None = None


def input_specs(model: onnx.ModelProto) -> list[InputSpec]:
    """Return the inputs that must be fed: those that are no initializers.

    Raises:
        RequestError: An input is of a type for which no value can be made up.
    """
    initial = {tensor.name for tensor in model.graph.initializer}
    initial |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    reader = _Reader(model.graph)
    return [reader.refine(_spec(value)) for value in model.graph.input if value.name not in initial]


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    kind = value.type
    sequence = False
    if kind.HasField("optional_type"):
        kind = kind.optional_type.elem_type
    if kind.HasField("sequence_type"):
        kind, sequence = kind.sequence_type.elem_type, True
    if not kind.HasField("tensor_type"):
        what = kind.WhichOneof("value") or "value of unknown type"
        raise RequestError(
            f"input {value.name!r} is a {what.removesuffix('_type').replace('_', ' ')}, which "
            "cannot be generated; give it with the inputs"
        )
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return InputSpec(value.name, tensor.elem_type, None, sequence)
    dims = tuple(_dim(dim, f"{value.name}[{axis}]") for axis, dim in enumerate(tensor.shape.dim))
    return InputSpec(value.name, tensor.elem_type, dims, sequence)


def shape_of(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - an array, or a list of such
    """Return the shape of an input; of a sequence its length, and the shape of what is alike."""
    if not isinstance(value, list):
        return np.shape(value)
    shapes = {np.shape(array) for array in value}
    return (len(value), *(shapes.pop() if len(shapes) == 1 else ()))


def shape_text(dims: Sequence[Dim]) -> str:
    """Return a shape for a reader: [batch, 3, 224, 224]."""
    return f"[{', '.join(map(str, dims))}]"


def _dim(dim: onnx.TensorShapeProto.Dimension, anonymous: str) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return dim.dim_param or anonymous


def _keeps_numbers(node: onnx.NodeProto) -> bool:
    return row_of(node).keeps_numbers


def _keeps_shape(node: onnx.NodeProto) -> bool:
    return row_of(node).is_elementwise


class _Reader:
    """Finds what the operators behind an input demand of it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {
            tensor.name: tuple(tensor.dims) for tensor in graph.initializer
        }
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in set(node.input):
                self.readers[name].append(node)
            if node.op_type == "Constant":
                self.shapes |= {
                    name: tuple(attribute.t.dims)
                    for name, attribute in zip(node.output, node.attribute, strict=False)
                    if attribute.HasField("t")
                }

    def refine(self, spec: InputSpec) -> InputSpec:
        """Return `spec` with the channels and the bound that its readers demand."""
        if spec.elem_type in {onnx.TensorProto.INT32, onnx.TensorProto.INT64}:
            bounds = [bound for node, name in self.behind(spec.name, _keeps_numbers)
                      if (bound := self.bound(node, name)) is not None]  # fmt: skip
            return replace(spec, bound=min(bounds, default=None))
        if spec.dims is None:
            ranks = (self.rank(node, name) for node, name in self.behind(spec.name, _keeps_shape))
            rank = next((rank for rank in ranks if rank), None)
            dims = None if rank is None else tuple(f"{spec.name}[{i}]" for i in range(rank))
            spec = replace(spec, dims=dims)
        for node, name in self.behind(spec.name, _keeps_shape):
            spec = self.fixed(spec, node, name)
        return spec

    def behind(
        self, name: str, passes: Callable[[onnx.NodeProto], bool]
    ) -> Iterator[tuple[onnx.NodeProto, str]]:
        """Yield the readers of a tensor and of what `passes` make of it, with what they read."""
        names, seen = [name], {name}
        while names:
            current = names.pop(0)
            for node in self.readers[current]:
                yield node, current
                if passes(node) and len(seen) < 64:  # noqa: PLR2004  # far enough
                    fresh = [output for output in node.output if output not in seen]
                    seen.update(fresh)
                    names.extend(fresh)

    def bound(self, node: onnx.NodeProto, name: str) -> int | None:
        """Return the length of what `name` indexes in `node`."""
        found = row_named(node.op_type).indexes
        if found is None or found.several or len(node.input) <= max(found.places, found.within):
            return None
        if node.input[found.places] != name:
            return None
        shape = self.shapes.get(node.input[found.within], ())
        axis = next((a.i for a in node.attribute if a.name == found.axis), 0)
        return shape[axis] if -len(shape) <= axis < len(shape) else None

    def rank(self, node: onnx.NodeProto, name: str) -> int | None:
        """Return the rank that a reader demands of what it reads."""
        return next((len(shape) for shape in self._demands(node, name, None)), None)

    def fixed(self, spec: InputSpec, node: onnx.NodeProto, name: str) -> InputSpec:
        """Return `spec` with the dimensions that a reader of `name` fixes."""
        if spec.dims is None:
            return spec
        dims = spec.dims
        for shape in self._demands(node, name, len(dims)):
            if len(shape) == len(dims):
                pairs = zip(dims, shape, strict=True)
                dims = tuple(d if size is None or isinstance(d, int) else size for d, size in pairs)
        return replace(spec, dims=dims)

    def _demands(
        self, node: onnx.NodeProto, name: str, rank: int | None
    ) -> Iterator[tuple[int | None, ...]]:
        """Yield the shapes that an operator demands of a tensor, once for each time it reads it."""
        demand = row_of(node).demand
        if demand is None:
            return
        shapes = [self.shapes.get(read) for read in node.input]
        for index, read in enumerate(node.input):
            shape = demand(index, shapes, attributes_of(node), rank) if read == name else None
            if shape is not None:
                yield shape
