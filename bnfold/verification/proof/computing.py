"""Computing a cone in float64: its constants, its output, and the output's magnitude."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array, is_float, wide
from bnfold.verification.operators.chunks import Chunked, Form, Node
from bnfold.verification.operators.evaluate import constant_node, run_node, track
from bnfold.verification.operators.magnitude import Tracked, exact
from bnfold.verification.operators.node import EvaluationError, Opsets, attributes_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.scopes import Scope


@frozen
class Weights:
    """The constants of a cone, in float64.

    Attributes:
        values: The constants by name, and what is computed from them and types alone.
        dtypes: Their dtypes in the file.
    """

    values: dict[str, Array]
    dtypes: tuple[np.dtype[np.generic], ...]

    def tracked(self) -> dict[str, Tracked]:
        """Return the constants with their magnitudes."""
        return {name: exact(array) for name, array in self.values.items()}


Read = Callable[[str], tuple[Array, np.dtype[np.generic]]]
"""Reads a constant, as `Scope.wide_constant` does."""


def weights_of(cone: Cone, read: Read | None = None) -> Weights:
    """Read the constants of a cone.

    Raises:
        EvaluationError: One of them cannot be computed.
    """
    values: dict[str, Array] = {}
    dtypes: dict[np.dtype[np.generic], None] = {}
    for name in cone.weights:
        values[name], dtype = (read or cone.scope.wide_constant)(name)
        if is_float(np.empty(0, dtype)):
            dtypes[dtype] = None
    return Weights(values | _settled(cone, values), tuple(dtypes))


def _settled(cone: Cone, constants: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a cone computes from constants alone, or from them and the types of tensors.

    PyTorch's exporter writes a bias of zeros as Expand of CastLike.
    """
    made_so: dict[str, Array] = {}
    if not cone.of_shapes:
        return made_so
    known = ChainMap(made_so, dict(constants))
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        reads = [name for name in row_of(node).elements_of(node) if name]
        if index in cone.of_shapes and reads and all(name in known for name in reads):
            values = [known.get(name, _OF_SOME_TYPE) if name else None for name in node.input]
            made = _from_shapes(cone.scope, node, values, made_so)
            made_so |= dict(zip(filter(None, node.output), made, strict=False))
    return {name: wide(array) for name, array in made_so.items()}


_OF_SOME_TYPE = np.zeros(0)


def lifted(weights: Weights, originals: Weights, tiny: float) -> dict[str, Tracked] | None:
    """Return the constants with magnitudes of at least `tiny`; None if all have that anyway.

    A number below the smallest normal one of its dtype, `tiny`, was rounded with an absolute error
    of u·tiny instead of a relative one, so its magnitude is `tiny`. Left as they are: constants
    that the original has identically, and zeros that it has in the same places.
    """
    sizes: dict[str, Tracked] = {}
    for name, array in weights.values.items():
        if not (_is_wide(array) and any((np.abs(block) < tiny).any() for block in _blocks(array))):
            continue
        old = originals.values.get(name)
        if old is None or old.shape != array.shape:
            old = np.broadcast_to(np.nan, array.shape)
        if any(
            _underflown(block, before, tiny).any()
            for block, before in zip(_blocks(array), _blocks(old), strict=True)
        ) and not identical(array, old):  # fmt: skip
            size = np.where(_underflown(array, old, tiny), tiny, np.abs(array))
            sizes[name] = Tracked(array, size, constant=True)
    return weights.tracked() | sizes if sizes else None


def _underflown(array: Array, original: Array, tiny: float) -> Array:
    return np.asarray((np.abs(array) < tiny) & ((array != 0) | (original != 0)))


_BLOCK = 1 << 16
"""Elements that are compared at a time, so that a processor's cache holds them."""


def _is_wide(array: Array) -> bool:
    return array.dtype.kind == "f"


def _blocks(array: Array) -> Iterator[Array]:
    flat = array.reshape(-1)
    return (flat[at : at + _BLOCK] for at in range(0, flat.size, _BLOCK))


def identical(one: Array, other: Array) -> bool:
    """Tell whether two constants are the same; quick where they are not."""
    if one.shape != other.shape or (one.size and one.item(0) != other.item(0)):
        return False
    if one.size <= _BLOCK:
        return bool((one == other).all())
    return all(map(np.array_equal, _blocks(one), _blocks(other)))


_T = TypeVar("_T")


@frozen
class _Way(Generic[_T]):
    """How a cone is computed: with plain values, or with values and magnitudes; or chunk by chunk.

    Attributes:
        step: Computes the outputs of a node from its inputs.
        bare: Returns the value of a represented tensor.
        exact: Represents a value that is computed from constants and shapes alone.
    """

    step: Callable[[onnx.NodeProto, Opsets, Sequence[_T | None]], list[_T]]
    bare: Callable[[_T], Array]
    exact: Callable[[Array], _T]


_VALUES: _Way[Array] = _Way(run_node, lambda value: value, lambda value: value)
_TRACKED: _Way[Tracked] = _Way(track, lambda tracked: tracked.value, exact)


def _in_chunks(way: _Way[_T], form: Form[_T]) -> _Way[Chunked[_T]]:
    """Return the way in which what is large is computed chunk by chunk."""

    def step(
        node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Chunked[_T] | None]
    ) -> list[Chunked[_T]]:
        rule = None if any(node.output[1:]) else row_of(node).chunk_rule
        if rule is not None:

            def compute(given: Sequence[_T | None]) -> _T:
                return way.step(node, opsets, given)[0]

            with suppress(ValueError, IndexError):  # shapes that do not fit; the step says how
                made = rule(Node(form, attributes_of(node), inputs, compute))
                if made is not None:
                    return [made]
        wholes = [None if each is None else each.joined() for each in inputs]
        return [*map(form.in_one, way.step(node, opsets, wholes))]

    return _Way(
        step, lambda tensor: way.bare(tensor.joined()), lambda array: form.in_one(way.exact(array))
    )


def _cut(array: Array, axis: int, begin: int, end: int) -> Array:
    return array[(slice(None),) * axis + (slice(begin, end),)]


def _cut_tracked(tensor: Tracked, axis: int, begin: int, end: int) -> Tracked:
    size = None if tensor.size is None else _cut(tensor.size, axis, begin, end)
    return Tracked(_cut(tensor.value, axis, begin, end), size, tensor.constant, tensor.slack)


def _join_tracked(tensors: Sequence[Tracked], axis: int) -> Tracked:
    sizes = [tensor.size for tensor in tensors if tensor.size is not None]
    return Tracked(
        np.concatenate([tensor.value for tensor in tensors], axis),
        np.concatenate(sizes, axis) if sizes else None,
        all(tensor.constant for tensor in tensors),
        max(tensor.slack for tensor in tensors),
    )


_ARRAYS: Form[Array] = Form(_VALUES.bare, _VALUES.exact, _cut, np.concatenate)
_WITH_SIZES: Form[Tracked] = Form(_TRACKED.bare, _TRACKED.exact, _cut_tracked, _join_tracked)
_VALUES_IN_CHUNKS = _in_chunks(_VALUES, _ARRAYS)
_TRACKED_IN_CHUNKS = _in_chunks(_TRACKED, _WITH_SIZES)


class Computation(Generic[_T]):
    """Computes the outputs of cones of one graph, what they have in common once.

    A tensor is held until the last of the cones has read it.
    """

    def __init__(self, cones: Sequence[Cone], tensors: dict[str, _T], way: _Way[_T]) -> None:
        """Begin with the constants and leaves of cones, for each node of which there is one way."""
        self._scope, self._tensors, self._way = cones[0].scope, tensors, way
        self._done: set[int] = set()
        self._as_stated: dict[str, Array] = {}
        nodes = cones[0].nodes if len(cones) == 1 else {i for cone in cones for i in cone.nodes}
        self._readers: dict[str, int] = {}
        for name in (*(n for i in nodes for n in self._scope.nodes[i].input),
                     *(cone.output for cone in cones)):  # fmt: skip
            self._readers[name] = self._readers.get(name, 0) + 1

    def output(self, cone: Cone) -> _T:
        """Return the output of one of the cones; it may be asked for once.

        Raises:
            EvaluationError: A node cannot be computed.
        """
        for index in cone.nodes:
            if index not in self._done:
                self._done.add(index)
                self._compute(index, cone)
        if cone.output not in self._tensors:
            raise EvaluationError(f"{cone.output} was not computed")
        made = self._tensors[cone.output]
        self._read((cone.output,))
        return made

    def _compute(self, index: int, cone: Cone) -> None:
        tensors, way = self._tensors, self._way
        node = self._scope.nodes[index]
        missing = [n for n in node.input if n and n not in tensors]
        if missing:
            raise EvaluationError(f"{missing[0]} is read before it is computed")
        inputs = [tensors[n] if n else None for n in node.input]
        outputs = [name for name in node.output if name]
        self._read(node.input)
        if index in cone.passed:
            made = way.step(node, self._scope.opsets, inputs)
        else:
            made = [way.exact(wide(array)) for array in self._settled(index, cone, inputs)]
        tensors |= dict(zip(outputs, made, strict=False))

    def _settled(self, index: int, cone: Cone, inputs: Sequence[_T | None]) -> list[Array]:
        """Return what a node makes of which elements do not reach the output of its cone."""
        node = self._scope.nodes[index]
        bare = [None if tensor is None else self._way.bare(tensor) for tensor in inputs]
        if index not in cone.of_shapes:
            return run_node(node, self._scope.opsets, bare)
        made = _from_shapes(self._scope, node, bare, self._as_stated)
        self._as_stated |= dict(zip(filter(None, node.output), made, strict=False))
        return made

    def _read(self, names: Iterable[str]) -> None:
        """Note that tensors have been read; what nobody needs any more goes."""
        for name in names:
            self._readers[name] -= 1
            if not self._readers[name]:
                self._tensors.pop(name, None)


def values_of(
    cones: Sequence[Cone], weights: Weights, leaves: Mapping[str, Array]
) -> Computation[Array]:
    """Return what computes the outputs of cones in float64, for given values of their leaves."""
    return Computation(cones, weights.values | dict(leaves), _VALUES)


def value_of(cone: Cone, weights: Weights, leaves: Mapping[str, Array]) -> Array:
    """Compute a cone's output in float64, for given values of its leaves.

    Raises:
        EvaluationError: A node cannot be computed.
    """
    return values_of((cone,), weights, leaves).output(cone)


def all_tracked(
    cones: Sequence[Cone],
    weights: Weights,
    leaves: Mapping[str, Array],
    sizes: Mapping[str, Tracked] | None = None,
    slack: float = 0.0,
) -> Computation[Tracked]:
    """Return what computes the outputs of cones and their magnitudes; see `tracked_of`."""
    return Computation(cones, _given(weights, leaves, sizes, slack), _TRACKED)


def _given(
    weights: Weights,
    leaves: Mapping[str, Array],
    sizes: Mapping[str, Tracked] | None,
    slack: float,
) -> dict[str, Tracked]:
    """Return the constants and leaves of a cone with their magnitudes."""
    varying = {
        name: Tracked(value, np.abs(value) if _is_wide(value) else None, slack=slack)
        for name, value in leaves.items()
    }
    return {**(weights.tracked() if sizes is None else sizes), **varying}


def tracked_of(
    cone: Cone,
    weights: Weights,
    leaves: Mapping[str, Array],
    sizes: Mapping[str, Tracked] | None = None,
    slack: float = 0.0,
) -> Tracked:
    """Compute a cone's output and its magnitude in float64, for given values of its leaves.

    The magnitudes of constants are their `sizes`, or else their absolute values; the candidate's
    values may be off by `slack` magnitudes.

    Raises:
        EvaluationError: A node cannot be computed.
    """
    return all_tracked((cone,), weights, leaves, sizes, slack).output(cone)


def value_in_chunks(cone: Cone, weights: Weights, leaves: Mapping[str, Array]) -> Chunked[Array]:
    """Compute a cone's output as `value_of` does, but chunk by chunk where it is large.

    Raises:
        EvaluationError: A node cannot be computed; also when a chunk is asked for.
    """
    given = {name: _ARRAYS.in_one(array) for name, array in (weights.values | dict(leaves)).items()}
    return Computation((cone,), given, _VALUES_IN_CHUNKS).output(cone)


def tracked_in_chunks(
    cone: Cone,
    weights: Weights,
    leaves: Mapping[str, Array],
    sizes: Mapping[str, Tracked] | None = None,
    slack: float = 0.0,
) -> Chunked[Tracked]:
    """Compute a cone's output as `tracked_of` does, but chunk by chunk where it is large.

    Raises:
        EvaluationError: A node cannot be computed; also when a chunk is asked for.
    """
    given = _given(weights, leaves, sizes, slack)
    chunked = {name: _WITH_SIZES.in_one(tensor) for name, tensor in given.items()}
    return Computation((cone,), chunked, _TRACKED_IN_CHUNKS).output(cone)


def _is_stored(scope: Scope, name: str, value: Array | None) -> bool:
    """Tell whether a value was made float64: of what varies, shape or type alone count."""
    return value is not None and value.dtype.kind == "f" and scope.is_constant(name)


def _from_shapes(
    scope: Scope,
    node: onnx.NodeProto,
    values: Sequence[Array | None],
    as_stated: Mapping[str, Array],
) -> list[Array]:
    """Compute a node that depends on shapes only, in the dtypes that the model states.

    Both models compute it alike, in integers or rounded in the same way, so float64 would be wrong.
    `as_stated` has what such nodes before it have made, in those dtypes; what has the type of a
    tensor that varies is float64 there, and so is what meets it.
    """
    if row_of(node).sees_shape_only:
        return run_node(node, scope.opsets, values)
    inputs = [
        as_stated[name] if name in as_stated
        else scope.constant(name) if _is_stored(scope, name, value)
        else value
        for name, value in zip(node.input, values, strict=True)
    ]  # fmt: skip
    if len({array.dtype for array in inputs if array is not None and is_float(array)}) > 1:
        inputs = [None if array is None else wide(array) for array in inputs]
    return constant_node(node, scope.opsets, inputs)
