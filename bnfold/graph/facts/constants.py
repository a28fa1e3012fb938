"""The constants of a model: tensors whose numbers are known before the model runs.

A tensor is constant when it is an initializer, the output of a Constant node, or computed from
constants alone by nodes that always compute the same. Which tensors are constant is decided for
the whole model in one pass; their numbers are read, or computed by ONNX's own reference
evaluator, when somebody asks for them.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.opened import OpenedModel
from bnfold.files.sparse import dense
from bnfold.files.walk import OWN_DOMAINS
from bnfold.graph.facts.shapes import Shapes
from bnfold.graph.index.view import NONE, Node, View
from bnfold.graph.options import EVERYTHING, FoldOptions
from bnfold.limits import COMPUTED, COMPUTED_GROWTH
from bnfold.onnx_model.computing import TooLargeError, require_computable
from bnfold.onnx_model.evaluator import CannotEvaluateError, evaluate
from bnfold.reasons import Reason, Refusal
from bnfold.rules.operator import Shape

_SMALL = 64
"""Elements; shapes, scales and axes are not larger."""

_HELD = 1 << 16
"""Elements; larger stored tensors are read anew each time and not held in memory."""

_SHAPE_READERS = frozenset({"Shape", "Size"})
"""Constant where the shape of their input is known, whatever the input is."""

_PICKER = "Gather"
"""Of a shape that is only partly known, it may pick the part that is."""

_TYPE_READERS = {"CastLike": 1}
"""Operators that read only the element type of an input, and which."""

_UNKNOWN_DIM = -(1 << 60)
"""Stands for an unknown dimension while a part of a shape is picked."""

_INVENTED = "unk__"
"""How the symbols begin that ONNX's shape inference makes up for what it does not know."""

_STATED = frozenset(
    {"sparse_value", "value", "value_float", "value_int", "value_floats", "value_ints"}
)


class Constants:
    """The constants of a model.

    Args:
        opened: The model's numbers.
        view: The model's index.
        shapes: What is known of shapes and element types.
        options: Whether an initializer that a caller may override is a constant.
    """

    def __init__(
        self,
        opened: OpenedModel,
        view: View,
        shapes: Shapes,
        options: FoldOptions = EVERYTHING,
    ) -> None:
        self._opened = opened
        self._view = view
        self._shapes = shapes.shapes
        self._elem_types = shapes.elem_types
        overridable = view.model.ir_version >= _FIRST_OVERRIDABLE_IR
        self._keep_overridable = options.keep_overridable and overridable
        self._values: dict[int, NDArray[np.generic]] = {}
        self._room = max(COMPUTED, COMPUTED_GROWTH * opened.size)
        self._constant: set[int] = set()
        for tensor in view.tensors:
            if tensor.is_stored and not self.is_overridable(tensor.number):
                self._constant.add(tensor.number)
        for scope in view.scopes:
            for node in sorted(scope.nodes):
                if self._computes_constant(view.nodes[node]):
                    self._constant.update(t for t in view.nodes[node].outputs if t != NONE)

    def __contains__(self, tensor: int) -> bool:
        """Whether a tensor is constant."""
        return tensor in self._constant

    def is_overridable(self, tensor: int) -> bool:
        """Whether a tensor is a default that a caller may override, and the options keep it so."""
        return self._keep_overridable and self._view.tensors[tensor].overridable

    def stored(self, tensor: int) -> onnx.TensorProto | None:
        """Return the `TensorProto` that holds the numbers of a constant, or None.

        It is an initializer or the `value` of a Constant node; a computed constant has none.
        """
        initializer = self._view.tensors[tensor].initializer
        if initializer is not None:
            return initializer
        node = self._view.producer(tensor)
        if node is None or not _is_constant_node(node.proto):
            return None
        return next((a.t for a in node.proto.attribute if a.name == "value"), None)

    def computed_values(self) -> dict[int, NDArray[np.generic]]:
        """Return the computed constants that something not constant reads.

        Those that are known to be large are left out. Shapes are computed from the others; see
        `bnfold.graph.facts.shapes`.
        """
        found = {}
        for tensor in self._computed():
            with suppress(Refusal):
                found[tensor] = self.value(tensor)
        return found

    def may_reveal_a_shape(self) -> bool:
        """Whether to compute constants might reveal an unknown shape, theirs or a reader's."""
        return any(
            not _is_known(self._shapes.get(t))
            for tensor in self._computed()
            for t in (tensor, *self._made_of(tensor))
        )

    def _made_of(self, tensor: int) -> Iterator[int]:
        for node, _ in self._view.tensors[tensor].readers:
            made = self._view.nodes[node].outputs
            yield from (t for t in made if t != NONE and t not in self._constant)

    def _computed(self) -> Iterator[int]:
        """Yield the constants at the frontier that are computed and not known to be large."""
        for tensor in sorted(self._constant):
            node = self._view.producer(tensor)
            if node is not None and not _is_constant_node(node.proto) and self._is_frontier(tensor):
                yield tensor

    def _is_frontier(self, tensor: int) -> bool:
        shape = self._shapes.get(tensor)
        if _is_static(shape) and prod(d for d in shape or () if isinstance(d, int)) > _SMALL:
            return False
        nodes = (self._view.nodes[node] for node, _ in self._view.tensors[tensor].readers)
        return any(t not in self._constant for node in nodes for t in node.outputs)

    def value(self, tensor: int) -> NDArray[np.generic]:
        """Return the numbers of a constant.

        Raises:
            Refusal: They cannot be computed.
        """
        held = self._values.get(tensor)
        if held is not None:
            return held
        stored = self.stored(tensor)
        if stored is not None:
            numbers = self._opened.read(stored)
            if numbers.size <= _HELD:
                self._values[tensor] = numbers
            return numbers
        wanted = [tensor]
        while wanted:
            current = wanted[-1]
            missing = [] if current in self._values else self._missing_inputs(current)
            if missing:
                wanted.extend(missing)
                continue
            wanted.pop()
            if current not in self._values:
                self._evaluate(current)
        return self._values[tensor]

    def glance(self, tensor: int, count: int) -> NDArray[np.generic]:
        """Return some numbers of a constant, at least `count` if it has so many, in any shape.

        Raises:
            Refusal: They cannot be computed.
        """
        stored = self.stored(tensor)
        if stored is None or tensor in self._values:
            return self.value(tensor)
        return self._opened.read_start(stored, count)

    def forget(self) -> None:
        """Free the memory of the numbers; they are computed again when somebody asks for them."""
        self._values.clear()

    def _missing_inputs(self, tensor: int) -> list[int]:
        """Return the constants that must be computed before this one."""
        node = self._view.producer(tensor)
        if self.stored(tensor) is not None or node is None:
            return []
        return [
            t for t in node.inputs if t != NONE and t in self._constant and t not in self._values
        ]

    def _evaluate(self, tensor: int) -> None:
        stored = self.stored(tensor)
        if stored is not None:
            self._values[tensor] = self._opened.read(stored)
            return
        node, sparse = self._view.producer(tensor), self._view.tensors[tensor].sparse
        if sparse is not None:
            self._values[tensor] = dense(sparse, self._opened)
            return
        if node is None:
            raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=self._view.tensors[tensor].name)
        named = (output for output in node.outputs if output != NONE)
        self._values.update(zip(named, self._run(node), strict=False))
        if tensor not in self._values:  # an output that the operator does not have
            name = self._view.tensors[tensor].name
            raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, f"{name} is not computed", node.label)

    def _run(self, node: Node) -> list[NDArray[np.generic]]:
        """Compute one node."""
        if _is_constant_node(node.proto):
            return [_stated_value(node.proto, self._opened)]
        if node.proto.op_type in _SHAPE_READERS:
            return [_shape_value(node, self._shapes[node.inputs[0]])]
        opset = self._view.scopes[node.scope].opset
        inputs = [
            None if t == NONE else self._values.get(t, self._stand_in(t)) for t in node.inputs
        ]
        try:
            require_computable(node.proto, opset, inputs, self._room)
            arrays = evaluate(node.proto, {"": opset}, inputs)
        except TooLargeError as error:
            raise Refusal(Reason.TOO_LARGE, str(error), node.label) from error
        except CannotEvaluateError as error:
            raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, str(error), node.label) from error
        self._room -= sum(array.nbytes for array in arrays)
        return arrays

    def _stand_in(self, tensor: int) -> NDArray[np.generic] | None:
        """Return a placeholder for an input of which only the shape or the element type matters."""
        if tensor in self._values:
            return None
        maker = self._view.producer(tensor)
        if maker is not None and maker.proto.op_type in _SHAPE_READERS:
            return _shape_value(maker, self._shapes[maker.inputs[0]])
        return np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(self._elem_types[tensor]))

    def _picks_known_dims(self, node: Node) -> bool:
        """Whether a Gather picks known dimensions out of a shape that is partly unknown."""
        source = self._view.producer(node.inputs[0])
        if source is None or source.proto.op_type != "Shape" or NONE in source.inputs[:1]:
            return False
        if not source.inputs or source.inputs[0] not in self._shapes:
            return False
        dims = _shape_value(source, self._shapes[source.inputs[0]])
        index = node.inputs[1] if len(node.inputs) > 1 else NONE
        if index not in self._constant:
            return False
        try:
            picked = dims.take(np.asarray(self.value(index)).astype(np.int64))
        except (Refusal, IndexError, ValueError):
            return False
        return bool((picked != _UNKNOWN_DIM).all())

    def _computes_constant(self, node: Node) -> bool:
        proto = node.proto
        if proto.domain not in OWN_DOMAINS or any(a.ref_attr_name for a in proto.attribute):
            return False
        if _is_constant_node(proto):
            return any(a.name in _STATED for a in proto.attribute)
        if not node.inputs or any(a.HasField("g") or a.graphs for a in proto.attribute):
            return False
        if proto.op_type in _SHAPE_READERS:
            return _is_static(self._shapes.get(node.inputs[0]))
        if proto.op_type == _PICKER and self._picks_known_dims(node):
            return True
        opset = self._view.scopes[node.scope].opset
        return self._knows_inputs(node) and _is_deterministic(proto.op_type, opset)

    def _knows_inputs(self, node: Node) -> bool:
        reads_type = _TYPE_READERS.get(node.proto.op_type)
        return all(
            tensor == NONE
            or tensor in self._constant
            or (index == reads_type and bool(self._elem_types.get(tensor)))
            for index, tensor in enumerate(node.inputs)
        )


_FIRST_OVERRIDABLE_IR = 4  # before, every initializer had to be listed as an input


def _is_constant_node(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant"


def _is_static(shape: Shape | None) -> bool:
    return shape is not None and all(isinstance(d, int) for d in shape)


def _is_known(shape: Shape | None) -> bool:
    """Whether every dimension is a number or a symbol of the model's own."""
    return shape is not None and not any(d is None or str(d).startswith(_INVENTED) for d in shape)


@cache
def _is_deterministic(op_type: str, opset: int) -> bool:
    """Whether an operator of the default domain computes the same whenever it runs."""
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except (onnx.defs.SchemaError, TypeError):  # an opset that is no version at all
        return False
    determinism = onnx.defs.OpSchema.NodeDeterminism
    return bool(schema.node_determinism == determinism.Deterministic)  # type: ignore[attr-defined]


def _stated_value(node: onnx.NodeProto, opened: OpenedModel) -> NDArray[np.generic]:
    """Return what a Constant node states in another form than a tensor."""
    for attribute in node.attribute:
        if attribute.name == "sparse_value":
            return dense(attribute.sparse_tensor, opened)
        if attribute.name == "value_float":
            return np.asarray(attribute.f, dtype=np.float32)
        if attribute.name == "value_int":
            return np.asarray(attribute.i, dtype=np.int64)
        if attribute.name == "value_floats":
            return np.asarray(attribute.floats, dtype=np.float32)
        if attribute.name == "value_ints":
            return np.asarray(attribute.ints, dtype=np.int64)
    raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=next(iter(node.output), ""))


def _shape_value(node: Node, shape: Shape) -> NDArray[np.generic]:
    """Return what Shape or Size makes of a known shape."""
    known = [d if isinstance(d, int) else _UNKNOWN_DIM for d in shape]
    dims = np.asarray(known, dtype=np.int64)
    if node.proto.op_type == "Size":
        return np.asarray(dims.prod(), dtype=np.int64)
    bounds = {a.name: a.i for a in node.proto.attribute}
    return dims[bounds.get("start", 0) : bounds.get("end", len(dims))]
