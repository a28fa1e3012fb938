"""Tensors that are computed chunk by chunk, because they are large: how each operator does that.

Some pictures cannot be cut down for a probe: a Reshape states how large they are. A tensor of them
takes 50 MB in float64. What lies behind the convolutions of a region is mostly elementwise, or
moves whole channels, so that a chunk of channels of its output needs the same chunk of what enters.

A rule here says how a node's output is made from chunks of its inputs, or that it is not: then all
of it is computed at once.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar

import numpy as np

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError

LARGE = 1 << 18
"""Elements from which a tensor is computed in chunks."""
_CHUNK = 1 << 18
"""Elements of a chunk, about."""
_STEPS = 64
"""The most nodes that a chunk is computed by; behind them the tensor is computed as a whole. What
two branches read is computed for each of them."""
_CHANNELS = 1

_T = TypeVar("_T")
Bounds = tuple[int, ...]
"""Where chunks begin along an axis, and where the last one ends."""


@frozen
class Form(Generic[_T]):
    """How tensors are held: as arrays, or as arrays with their magnitudes.

    Attributes:
        bare: Returns the array.
        exact: Returns an array as a tensor that is known exactly.
        cut: Returns the part of a tensor from one index to another along an axis.
        join: Puts tensors one behind the other along an axis.
    """

    bare: Callable[[_T], Array]
    exact: Callable[[Array], _T]
    cut: Callable[[_T, int, int, int], _T]
    join: Callable[[Sequence[_T], int], _T]

    def in_one(self, whole: _T) -> "Chunked[_T]":
        """Return a tensor that is in memory as its own only chunk."""
        shape = self.bare(whole).shape
        return Chunked(self, shape, 0, (0, *shape[:1]), lambda _: whole, whole=whole)


@frozen
class Chunked(Generic[_T]):
    """A tensor in chunks along one axis.

    Attributes:
        form: How its chunks are held.
        shape: Its shape.
        axis: The axis.
        bounds: The bounds of its chunks; of a scalar's only one, the first alone.
        make: Makes a chunk, given its number.
        steps: By how many nodes that is computed.
        whole: The tensor, where it is in memory.
    """

    form: Form[_T]
    shape: tuple[int, ...]
    axis: int
    bounds: Bounds
    make: Callable[[int], _T]
    steps: int = 0
    whole: _T | None = None

    def __iter__(self) -> Iterator[_T]:
        """Yield the chunks; each is made when it is asked for."""
        return map(self.make, range(max(len(self.bounds) - 1, 1)))

    @property
    def is_recipe(self) -> bool:
        """Whether it is not in memory."""
        return self.whole is None

    def joined(self) -> _T:
        """Return the tensor as a whole."""
        return self.form.join([*self], self.axis) if self.whole is None else self.whole

    def is_chunked_as(self, axis: int, bounds: Bounds) -> bool:
        """Tell whether its chunks are along this axis and in these bounds."""
        return (self.axis, self.bounds) == (axis, bounds)


def in_step(*tensors: Chunked[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the chunks of some tensors at the same place; all of each where they differ in chunks.

    Raises:
        EvaluationError: They differ in shape.
    """
    first, *others = tensors
    for other in others:
        if first.shape != other.shape:
            raise EvaluationError(f"of shape {list(other.shape)} instead of {list(first.shape)}")
    if all(other.is_chunked_as(first.axis, first.bounds) for other in others):
        return zip(*tensors, strict=True)
    return iter([tuple(tensor.joined() for tensor in tensors)])


@frozen
class Node(Generic[_T]):
    """A node that is to be computed by chunks.

    Attributes:
        form: How its tensors are held.
        attributes: What it states.
        inputs: Its inputs, in order.
        compute: Returns its output for given inputs.
    """

    form: Form[_T]
    attributes: dict[str, Any]
    inputs: Sequence[Chunked[_T] | None]
    compute: Callable[[Sequence[_T | None]], _T]

    @property
    def data(self) -> Chunked[_T]:
        """The first input."""
        data = self.inputs[0]
        assert data is not None  # noqa: S101 - no operator that has a rule may go without it
        return data

    def made(
        self, shape: tuple[int, ...], axis: int, bounds: Bounds, chunks: Sequence["_Chunks[_T]"]
    ) -> Chunked[_T] | None:
        """Return the output, given what each of its chunks needs of each input."""
        return self.made_by(
            shape, axis, bounds, lambda number: self.compute([of(number) for of in chunks])
        )

    def made_by(
        self, shape: tuple[int, ...], axis: int, bounds: Bounds, make: Callable[[int], _T]
    ) -> Chunked[_T] | None:
        """Return the output, given how its chunks are made; None where that is a long way."""
        steps = 1 + sum(each.steps for each in self.inputs if each is not None)
        return Chunked(self.form, shape, axis, bounds, make, steps) if steps <= _STEPS else None

    def all_of(self, tensor: Chunked[_T] | None) -> "_Chunks[_T]":
        """Return what each chunk of the output needs of an input: all of it."""
        whole = None if tensor is None else tensor.joined()
        return lambda _: whole

    def some_of(self, tensor: Chunked[_T], axis: int, bounds: Bounds) -> Callable[[int], _T]:
        """Return what each chunk of the output needs of an input: the part in the same bounds."""
        if tensor.is_recipe and tensor.is_chunked_as(axis, bounds):
            return tensor.make
        whole, cut = tensor.joined(), self.form.cut
        return lambda number: cut(whole, axis, *bounds[number : number + 2])


_Chunks = Callable[[int], _T | None]
Rule = Callable[[Node[Any]], Chunked[Any] | None]
"""Returns a node's output in chunks; None where it is to be computed at once."""


def _split(shape: tuple[int, ...]) -> tuple[int, Bounds]:
    """Return along which axis a tensor is cut best, and where."""
    count = max(-(-math.prod(shape) // _CHUNK), 1)
    axis = _CHANNELS if len(shape) > 1 and shape[1] >= count else int(np.argmax(shape))
    length = max(-(-shape[axis] // count), 1)
    return axis, (*range(0, shape[axis], length), shape[axis])


def elementwise(node: Node[_T]) -> Chunked[_T] | None:
    """Each element of the output is computed from those in its place."""
    given = [each for each in node.inputs if each is not None]
    shape = np.broadcast_shapes(*(each.shape for each in given))
    if math.prod(shape) < LARGE:
        return None
    recipe = next((each for each in given if each.is_recipe and each.shape == shape), None)
    axis, bounds = (recipe.axis, recipe.bounds) if recipe else _split(shape)

    def part_of(tensor: Chunked[_T] | None) -> _Chunks[_T]:
        if tensor is not None:
            own = axis - len(shape) + len(tensor.shape)
            if own >= 0 and tensor.shape[own] > 1:
                return node.some_of(tensor, own, bounds)
        return node.all_of(tensor)

    return node.made(shape, axis, bounds, [*map(part_of, node.inputs)])


def per_channel(node: Node[_T]) -> Chunked[_T] | None:
    """Elementwise in its data; all else is one number for each channel, along axis 1."""
    data, shape = node.data, node.data.shape
    if math.prod(shape) < LARGE or len(shape) <= _CHANNELS:
        return None
    axis, bounds = (data.axis, data.bounds) if data.is_recipe else _split(shape)
    chunks: list[_Chunks[_T]] = [node.some_of(data, axis, bounds)]
    for each in node.inputs[1:]:
        if each is not None and each.shape != (shape[_CHANNELS],):
            return None
        along = each is not None and axis == _CHANNELS
        chunks += [node.some_of(each, 0, bounds) if each and along else node.all_of(each)]
    return node.made(shape, axis, bounds, chunks)


def concatenation(node: Node[_T]) -> Chunked[_T] | None:
    """The chunks of one input, then those of the next."""
    given = [each for each in node.inputs if each is not None]
    shape = [*given[0].shape]
    if len(given) < len(node.inputs) or "axis" not in node.attributes or not shape:
        return None
    axis = range(len(shape))[node.attributes["axis"]]
    beside = {(*each.shape[:axis], *each.shape[axis + 1 :]) for each in given}
    if len(beside) > 1:
        raise ValueError(f"{[list(each.shape) for each in given]} do not fit together")
    shape[axis] = sum(each.shape[axis] for each in given)
    if math.prod(shape) < LARGE:
        return None
    cuts = [each.bounds if each.is_recipe and each.axis == axis
            else _split(each.shape)[1] if _split(each.shape)[0] == axis
            else (0, each.shape[axis]) for each in given]  # fmt: skip
    parts = [node.some_of(each, axis, some) for each, some in zip(given, cuts, strict=True)]
    starts = [0, *accumulate(len(some) - 1 for some in cuts)]
    lengths = (end - begin for some in cuts for begin, end in pairwise(some))

    def chunk(number: int) -> _T:
        which = bisect_right(starts, number) - 1
        return parts[which](number - starts[which])

    return node.made_by(tuple(shape), axis, (0, *accumulate(lengths)), chunk)


def rearranged(node: Node[_T]) -> Chunked[_T] | None:
    """A Reshape after which the chunks' axis still is one: none of those before it took part."""
    data, target = node.data, node.inputs[1]
    if not data.is_recipe or target is None:
        return None
    shape = _stated(node.form.bare(target.joined()), data.shape, node.attributes)
    before, length = math.prod(data.shape[: data.axis]), data.shape[data.axis]
    axis = next(
        (a for a, size in enumerate(shape) if size == length and math.prod(shape[:a]) == before),
        None,
    )
    if axis is None or math.prod(shape) != math.prod(data.shape):
        return None

    def target_of(number: int) -> _T:
        begin, end = data.bounds[number : number + 2]
        return node.form.exact(np.array([*shape[:axis], end - begin, *shape[axis + 1 :]], np.int64))

    return node.made(shape, axis, data.bounds, [data.make, target_of])


def _stated(target: Array, shape: tuple[int, ...], attributes: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape that a Reshape states: 0 is that of before, −1 what is left."""
    said = [int(length) for length in target.reshape(-1)]
    if not attributes.get("allowzero"):
        said = [shape[i] if not n and i < len(shape) else n for i, n in enumerate(said)]
    known = math.prod(length for length in said if length >= 0)
    return tuple(math.prod(shape) // max(known, 1) if n < 0 else n for n in said)


def turned(node: Node[_T]) -> Chunked[_T] | None:
    """A Transpose: the chunks' axis is another one."""
    data = node.data
    order = node.attributes.get("perm") or [*range(len(data.shape))][::-1]
    if not data.is_recipe:
        return None
    shape = tuple(data.shape[axis] for axis in order)
    return node.made(shape, order.index(data.axis), data.bounds, [data.make])


def convolution(node: Node[_T]) -> Chunked[_T] | None:
    """A convolution of all channels: a chunk of its output needs a chunk of its weight."""
    weight, biases = node.inputs[1], node.inputs[2:]
    groups, data = node.attributes.get("group", 1), node.data
    if weight is None or groups != 1 or len(data.shape) != len(weight.shape):
        return None
    if math.prod((*data.shape[:1], *weight.shape[:1], *data.shape[2:])) < LARGE:
        return None

    def chunks(bounds: Bounds) -> list[_Chunks[_T]]:
        given = (each and node.some_of(each, 0, bounds) for each in (weight, *biases))
        return [node.all_of(data), *(each or (lambda _: None) for each in given)]

    first = node.form.bare(node.compute([of(0) for of in chunks((0, 1))]))
    shape = (first.shape[0], weight.shape[0], *first.shape[2:])
    _, bounds = _split(shape)
    return node.made(shape, _CHANNELS, bounds, chunks(bounds))
