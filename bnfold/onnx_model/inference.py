"""ONNX's shape inference, within a bounded amount of memory and time.

Shape inference follows the numbers of small integer tensors, from a Shape to the Reshape that
reads it, and that is how most shapes are found. It knows no limit: it holds every element of a
Concat of a tensor with itself, forty times in a row, and of any vector that a Cast, Gather, Add or
Concat reads. It goes through every call of a function that calls another twice, which calls
another twice. Calls that are nested deep enough overflow its stack. So the numbers are counted here
first, as an upper bound. On some senseless models, such as a Slice of a negative length, inference
ends the process, and on some it never ends. So where the process is bnfold's own, inference runs in
a copy of it, in bounded memory and time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import partial
from math import prod
from typing import Final, Self

import onnx

from bnfold.errors import ModelError
from bnfold.files.references import is_external
from bnfold.files.walk import node_count
from bnfold.frozen import slotted
from bnfold.limits import AXIS, INLINED, NESTED
from bnfold.onnx_model.annotations import add_hints, take_remarks
from bnfold.onnx_model.functions import FunctionId, expansion
from bnfold.onnx_model.order import put_in_order
from bnfold.onnx_model.validity import require_valid
from bnfold.processes.fork import Forked

_SHAPE_LENGTH: Final = 64
"""No tensor has more dimensions, so what says its shape is no longer."""

_FOLLOWED: Final = 1 << 20
"""Elements of all tensors whose numbers are followed."""

_VAST: Final = 1 << 32
"""Elements; those of a picture of a gigapixel, and more."""

_MEMORY: Final = 1 << 28
"""Bytes. What no count of the numbers foresees, such as a Cast of a vector that only becomes long
on the way, meets this limit; then no numbers are followed."""

_MEMORY_PER_NODE: Final = 1 << 13
"""Bytes, several times what inference takes for a node of a large graph."""

_SECONDS: Final = 5
"""Seconds of the processor. For some invalid nodes inference never ends: for an Einsum, say, whose
equation holds a character that is no letter."""

_NODES_PER_SECOND: Final = 200
"""Inference goes through thousands in a second."""

_TURNS: Final = 3
"""Times that inference begins anew with what it did not find out by itself."""

_INTEGERS: Final = frozenset(
    {onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.UNDEFINED}
)

_VALID: Final = b"v"
_INVALID: Final = b"i"
"""How an answer begins; what follows is the model, or what is wrong with it."""

Edit = Callable[[onnx.ModelProto], None]
"""Changes a model."""


class Inference:
    """Shape inference of a model, which may run while this process does something else.

    Leaving the context ends it, if nobody has asked for the result.
    """

    def __init__(
        self, model: onnx.ModelProto, edit: Edit | None = None, *, check: bool = False
    ) -> None:
        """Start it.

        Args:
            model: The model. It is not changed, and nobody may change it before there is a result.
            edit: Changes a copy of the model before inference sees it.
            check: Whether to look first whether the model's nodes are valid. Both need onnx's
                definitions of all operators, which take time and memory to load.
        """
        self._model = model
        self._copy = partial(_copy, model, edit)
        self._check = check
        nodes = node_count(model)
        self._room = _MEMORY + _MEMORY_PER_NODE * nodes
        nodes += min(expansion(model)[0], INLINED)
        self._seconds = _SECONDS + nodes // _NODES_PER_SECOND
        self._begun = self._begin(follow=True)

    def _begin(self, *, follow: bool) -> Forked:
        checked = self._model if self._check else None
        work = partial(_answer, checked, self._copy, follow=follow)
        return Forked(work, self._room, self._seconds)

    def result(self) -> onnx.ModelProto:
        """Return a copy with the shapes that inference finds; without them if inference fails.

        Raises:
            ModelError: A node is not valid, and that was to be looked for.
        """
        made = self._begun.result()
        if made is None:
            made = self._begin(follow=False).result()
        if made is None:  # even the check may be what failed there
            if self._check:
                require_valid(self._model)
            return self._copy()
        if made[:1] == _INVALID:
            raise ModelError(made[1:].decode())
        found: onnx.ModelProto = onnx.ModelProto.FromString(memoryview(made)[1:])
        return found

    def __enter__(self) -> Self:
        """Return the inference itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it is still running."""
        self._begun.__exit__()


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with the shapes that inference finds."""
    with Inference(model) as inference:
        return inference.result()


def _copy(model: onnx.ModelProto, edit: Edit | None) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if edit is not None:
        edit(copy)
    size, depth = expansion(copy)
    if size > INLINED or depth > NESTED:
        del copy.functions[:]
    return copy


def _answer(
    checked: onnx.ModelProto | None, copy: Callable[[], onnx.ModelProto], *, follow: bool
) -> bytes:
    """Return what inference makes of a copy, or what is wrong with a model that it is to check."""
    if checked is not None:
        try:
            require_valid(checked)
        except ModelError as error:
            return _INVALID + str(error).encode()
    return _VALID + _inferred(copy(), follow=follow)


def _inferred(model: onnx.ModelProto, *, follow: bool) -> bytes:
    follow = follow and _Lengths(model).total <= _FOLLOWED and not _is_vast(model)
    for part in (model.graph, *model.functions):
        put_in_order(part)
    remarks = [*take_remarks(model.graph)]
    model = onnx.shape_inference.infer_shapes(model, data_prop=follow)
    for turn in range(_TURNS):
        if not add_hints(model, iter(remarks), all_remarks=turn == _TURNS - 1):
            break
        model = onnx.shape_inference.infer_shapes(model, data_prop=follow)
    return bytes(model.SerializeToString())


def _is_vast(model: onnx.ModelProto) -> bool:
    """Whether a tensor is declared to be larger than any tensor of a real model."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if prod(max(dim.dim_value, 1) for dim in dims) > (AXIS if len(dims) == 1 else _VAST):
            return True
    return False


@slotted
class _Lengths:
    """How many numbers are followed, as an upper bound: every operator might pass its input's on.

    Attributes:
        model: The model.
        total: The count, which stops growing where it is too large.
    """

    model: onnx.ModelProto
    total: int = 0
    _functions: dict[FunctionId, onnx.FunctionProto] = field(init=False)

    def __post_init__(self) -> None:
        self._functions = {(f.domain, f.name): f for f in self.model.functions}
        self._follow_graph(self.model.graph, {})

    def _follow_graph(self, graph: onnx.GraphProto, outer: Mapping[str, int]) -> None:
        lengths = dict(outer)
        for tensor in graph.initializer:
            if tensor.data_type in _INTEGERS and not is_external(tensor):
                lengths[tensor.name] = prod(tensor.dims)
        self._follow(graph.node, lengths)

    def _follow(self, nodes: Iterable[onnx.NodeProto], lengths: dict[str, int]) -> None:
        for node in nodes:
            if self.total > _FOLLOWED:
                return
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self._follow_graph(attribute.g, lengths)
            read = [lengths.get(name, 0) for name in node.input]
            function = self._functions.get((node.domain, node.op_type))
            if function is not None:
                made = self._call(function, read)
                lengths.update(zip(node.output, made, strict=False))
                continue
            length = _length(node, read)
            if length:
                self.total += length * len(node.output)
                lengths.update(dict.fromkeys(node.output, length))

    def _call(self, function: onnx.FunctionProto, read: list[int]) -> list[int]:
        lengths = dict(zip(function.input, read, strict=False))
        self._follow(function.node, lengths)
        return [lengths.get(name, 0) for name in function.output]


def _length(node: onnx.NodeProto, read: list[int]) -> int:
    if node.op_type in ("Shape", "Size"):
        return _SHAPE_LENGTH
    if node.op_type == "Constant":
        stated = (a.t for a in node.attribute if a.t.data_type in _INTEGERS)
        return sum(len(a.ints) for a in node.attribute) + sum(int(prod(t.dims)) for t in stated)
    return sum(read) if node.op_type == "Concat" else max(read, default=0)
