"""Inputs for a probe: small shapes to try, and dense and sparse numbers."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np

from bnfold import limits
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.proof.computing import Weights
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.demands import merged

Sizes = Mapping[str, tuple[int, ...]]

VOLUME = 1 << 22
"""Elements that all inputs together may have in one sample; they are float64."""
ALL = 1 << 18
"""Samples in a batch: as many as there is room for."""
PAIR = 2
"""The fewest samples of a batch."""
_STACKED = 1 << 18
"""Elements of the samples that are computed together."""
_ROWS = 1 << 9
"""Rows of a table that are chosen together."""
_RANKS = (4, 3, 2, 5, 1, 0)
"""Numbers of axes to try where it is not known, in this order."""
_TARGETS = (6, 12, 24, 48, 96, 1 << 20)
"""Lengths to which the longest spatial axis is cut down, in the order of trying."""
_TOGETHER = 64
"""In a sparse sample at most so many indices of the longest axis have a nonzero element …"""
_SPARSE = (2, 32)
"""… unless that takes more sparse samples than 32; there are 2 at least."""
_CHEAP = 1 << 13
"""As long as all sparse samples have no more elements than this together there are more of them,
until each has one nonzero element."""
_OTHERS = 5
"""Samples that are not sparse."""
_KEPT = 1 << 16
"""Elements of all samples of some shapes, up to which they are kept for the next such region."""
_SIZES = (-24.0, 12.0)
"""Powers of two between which the elements of a sample lie that shows where a function bends."""
_USUAL_SIZES = (-4.0, 8.0)
"""Those of every other one."""
_OF_ALL_SIZES = 16
"""Such samples."""
_BESIDE = 3.0
"""How far numbers lie around one that a shift makes zero."""
_HUGE = (63.0, 126.0)
"""Powers of two, of which the largest lifts the smallest normal float32 weight to 1."""


_INDICES = 4.0
"""Integers of 32 and 64 bits are smaller than this: they may be indices, or numbers of elements."""
_LONG = (4, 8)
"""Bytes of such integers."""
_ANY = 2
"""Samples of integers of any size."""
_AT_ENDS = 0.05
"""The part of these that is at an end of the range: the opposite of the least one is itself."""
_SCATTER = 1009.0
"""A sample is multiplied by this before its fraction is dropped, so that few integers repeat."""
_NEAR = 61.0
"""Two thirds of the integers of 8 and 16 bits lie this near to an end of their range."""


def trials(
    leaves: Sequence[str],
    shapes: Mapping[str, Shape],
    demands: Mapping[str, Shape],
    hints: Sequence[int],
    least: Mapping[str, int],
    *,
    step: int = 1,
    both: bool = False,
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield shapes for all leaves, small ones first; the batch comes on top (`batches`).

    Args:
        leaves: The tensors that need a shape.
        shapes: What is known of them.
        demands: What their readers demand; such axes are not cut down.
        hints: Numbers of channels to try where none is known, and of samples where one is not
            enough: a Gemm may read its channels there, a Reshape may say how many there are.
        least: The lengths to which the spatial axes of each leaf are cut down first.
        step: Known lengths are cut down by a multiple of it.
        both: Try unknown lengths that are even and odd.
    """
    seen: set[tuple[tuple[int, ...], ...]] = set()
    if any(len(shapes.get(leaf, ())) > limits.RANK for leaf in leaves):
        return
    known = {
        leaf: merged(shapes.get(leaf), demands[leaf]) if leaf in demands else shapes.get(leaf)
        for leaf in leaves
    }
    batch_is_free = any(shape is not None and shape[:1] == (None,) for shape in known.values())
    # More samples than one come last: for a wrong number of them a Reshape to a stated shape may
    # well be computed, of elements that do not belong together.
    numbers = dict.fromkeys((1, *hints)) if batch_is_free else [1]
    in_turn = ((samples, goals) for samples in numbers for goals in _goals(least, both=both))
    ways = (
        hints if any(shape is None or None in shape[1:] for shape in known.values()) else [1],
        _RANKS if None in known.values() else _RANKS[:1],
        (2, 1),
    )
    for (samples, goals), (channels, rank, first) in (
        (size, way) for size in in_turn for way in itertools.product(*ways)
    ):
        sizes = _shrunk(
            {leaf: (None,) * rank if shape is None else shape for leaf, shape in known.items()},
            demands, channels, goals, first, samples, step,
        )  # fmt: skip
        key = tuple(sizes.values())
        if goals is least and not _suffice(sizes, known, least):
            continue
        if key not in seen and sum(map(math.prod, key)) <= VOLUME:
            seen.add(key)
            yield sizes


def _goals(least: Mapping[str, int], *, both: bool) -> Iterator[Mapping[str, int]]:
    """Yield the lengths that the axes of each leaf are cut down to, in the order of trying."""
    yield least
    most = max(least.values(), default=0)
    for target in (most, *(t for t in _TARGETS if t > most)):
        for more in (0, 1) if both else (0,):
            yield dict.fromkeys(least, target + more)


def _suffice(sizes: Sizes, known: Mapping[str, Shape | None], least: Mapping[str, int]) -> bool:
    """Tell whether all axes are known, and those cut down are as long as they must be."""
    return all(
        shape is not None
        and all(
            length is not None and size >= min(length, least[leaf])
            for size, length in zip(sizes[leaf][1:], shape[1:], strict=True)
        )
        for leaf, shape in known.items()
    )


def _shrunk(
    shapes: Mapping[str, Shape], demands: Mapping[str, Shape],
    channels: int, goals: Mapping[str, int], first: int, samples: int,
    step: int,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Cut the axes from `first` on down in proportion, until one has what is its tensor's goal.

    Axes of different tensors that count the same from the end are cut down by the same factor. An
    unknown length is the number of samples on axis 0, that of channels on axis 1 (on the last one,
    where `first` is 1) and the longest goal elsewhere.
    """
    longest = max(goals.values(), default=0)
    factors: dict[int, float] = {}
    axes = {leaf: _spatial(shape, demands.get(leaf, ()), first) for leaf, shape in shapes.items()}
    for leaf, shape in shapes.items():
        for axis in axes[leaf]:
            dim, end, target = shape[axis], len(shape) - axis, goals[leaf]
            if dim is not None and dim > target:
                near = min(dim, target + (dim - target) % step)
                factors[end] = min(factors.get(end, math.inf), dim / near)
    sizes: dict[str, tuple[int, ...]] = {}
    for leaf, shape in shapes.items():
        spatial, dims = axes[leaf], []
        for axis, dim in enumerate(shape):
            if axis not in spatial:
                dims.append(dim if dim is not None else (channels if axis else samples))
            elif dim is None:
                dims.append(longest if longest < _TARGETS[-1] else _TARGETS[-2])
            else:
                factor = factors.get(len(shape) - axis, 1.0)
                dims.append(max(math.ceil(dim / factor), min(dim, 2)))
        sizes[leaf] = tuple(dims)
    return sizes


def _spatial(shape: Shape, demanded: Shape, first: int) -> list[int]:
    """Return the axes behind the channels, or before them, whose sizes nobody demands."""
    axes = range(first, len(shape)) if first > 1 else range(1, len(shape) - 1)
    return [axis for axis in axes if axis >= len(demanded) or demanded[axis] is None]


def channel_hints(cone: Cone, weights: Weights) -> list[int]:
    """Return lengths that the constants suggest: a weight's, and those that a Reshape states."""
    hints: dict[int, None] = {}
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        for name in node.input:
            if name in weights.values and weights.values[name].ndim:
                values = weights.values[name]
                shape = values.shape
                if values.dtype.kind in "iu" and values.size <= limits.RANK:
                    hints |= dict.fromkeys(int(v) for v in values.reshape(-1) if v > 0)
                    continue
                hints |= dict.fromkeys((*(s * groups for s in shape[1:2]), shape[0], shape[-1]))
    return list(hints)[:8] or [1]


def batches(
    sizes: Mapping[str, tuple[int, ...]], seed: int, *, together: int
) -> Iterator[dict[str, Array]]:
    """Yield the samples, stacked along the batch where every input has one of length 1.

    One is zero, one is dense, one is nearly empty. The others share the indices of the longest axis
    among them, in stretches, with one nonzero element for each: a fault of any one channel shows in
    a sum of few terms. The last two have an element for all of them, so large that no bias covers
    the weights of a dead channel, and so unlike that in most sums one weight stands out; once with
    either sign, so that no Relu covers both.

    Args:
        sizes: The shape of each leaf.
        seed: Seed of the numbers.
        together: How many samples are stacked at most.
    """
    shapes = tuple(sizes.values())
    if not all(shape and shape[0] == 1 for shape in shapes):
        together = 1
    small = sum(map(math.prod, shapes)) * (_sparse_samples(shapes) + _OTHERS) <= _KEPT
    made = (_shared if small else _arrays)(shapes, seed, together=together)
    for arrays in made:
        yield dict(zip(sizes, arrays, strict=True))


def of_all_rows(
    sizes: Sizes, rows: Mapping[str, int], *, together: int
) -> Iterator[dict[str, Array]]:
    """Yield samples in which leaves that choose rows of a table choose every one.

    Args:
        sizes: The shape of each leaf.
        rows: The leaves that choose, and from how many.
        together: How many samples are stacked at most.
    """
    if not rows:
        return
    if not all(shape[:1] == (1,) for shape in sizes.values()):
        together = 1
    at_once = min([together, *(max(_ROWS // max(math.prod(sizes[n]), 1), 1) for n in rows)])
    shapes = {n: (at_once * shape[0], *shape[1:]) if shape else () for n, shape in sizes.items()}
    rng = np.random.default_rng(0)
    others = {n: rng.standard_normal(shape) for n, shape in shapes.items() if n not in rows}
    chosen = {n: math.prod(shapes[n]) for n in rows}
    for step in range(max((math.ceil(rows[n] / max(chosen[n], 1)) for n in rows), default=0)):
        yield others | {
            n: (np.arange(step * chosen[n], (step + 1) * chosen[n]) % rows[n]).reshape(shapes[n])
            for n in rows
        }


def of_one_sign(sizes: Sizes, seed: int) -> Iterator[dict[str, Array]]:
    """Yield samples without a zero that are huge and below zero, and above, for all leaves at once.

    Of several tensors the largest is less than a bound only where all of them are.
    """
    rng = np.random.default_rng(seed)
    huge = {n: 2.0 ** rng.uniform(*_HUGE, shape) for n, shape in sizes.items()}
    for sign in (-1.0, 1.0):
        yield {name: np.asarray(sign * array) for name, array in huge.items()}


def of_all_sizes(
    sizes: Sizes, seed: int, around: Sequence[float] = ()
) -> Iterator[dict[str, Array]]:
    """Yield samples without a zero whose elements are of either sign, and of all sizes alike.

    Half of them are not far from 1. Then come such `around` some numbers and their opposites, which
    a shift makes zero.
    """
    rng = np.random.default_rng(seed)
    for number in range(_OF_ALL_SIZES):
        low, high = _USUAL_SIZES if number % 2 else _SIZES
        yield {
            name: rng.choice((-1.0, 1.0), shape) * 2.0 ** rng.uniform(low, high, shape)
            for name, shape in sizes.items()
        }
    for middle in (sign * number for number in around for sign in (-1.0, 1.0)):
        yield {name: middle + _BESIDE * rng.standard_normal(shape) for name, shape in sizes.items()}


def of_any_size(
    sizes: Sizes, whole: Mapping[str, np.dtype[np.generic]], seed: int
) -> Iterator[dict[str, Array]]:
    """Yield samples in which leaves of long integers hold any of them, of either sign.

    `whole` are the leaves of integers. Where they are indices, or numbers of elements, the original
    cannot be computed for such.
    """
    if not whole or not all(dtype.itemsize in _LONG for dtype in whole.values()):
        return
    rng = np.random.default_rng(seed)
    for _ in range(_ANY):
        yield {
            n: _long(rng, shape, whole[n]) if n in whole else rng.standard_normal(shape)
            for n, shape in sizes.items()
        }


def _long(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return integers of all lengths in bits, and some at the ends of the range."""
    whole = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
    whole = whole >> rng.integers(0, 8 * dtype.itemsize, shape).astype(dtype)
    ends = rng.choice(_ends(dtype), shape)
    return np.where(rng.random(shape) < _AT_ENDS, ends, whole)


def _ends(dtype: np.dtype[np.generic]) -> Array:
    """Return the least and the largest integer of a type."""
    info = np.iinfo(dtype.name)
    return np.array([info.min, info.max], dtype)


def _arrays(
    shapes: Sequence[tuple[int, ...]], seed: int, *, together: int
) -> Iterator[tuple[Array, ...]]:
    """Yield samples of some shapes, or stacks of them."""
    volume = max(sum(map(math.prod, shapes)), 1)
    count = _sparse_samples(shapes)
    generators = np.random.default_rng(seed).spawn(len(shapes))
    samples = zip(*map(partial(_samples, count=count), generators, shapes), strict=True)
    if together == 1:
        yield from samples
        return
    while some := list(itertools.islice(samples, min(max(_STACKED // volume, 1), together))):
        yield tuple(map(np.concatenate, zip(*some, strict=True)))


@lru_cache(maxsize=16)
def _shared(
    shapes: Sequence[tuple[int, ...]], seed: int, *, together: int
) -> tuple[tuple[Array, ...], ...]:
    """Return samples that the next region of such shapes will need, too; nobody may change them."""
    samples = _arrays(shapes, seed, together=together)
    made = tuple(tuple(map(np.asarray, arrays)) for arrays in samples)
    for array in itertools.chain.from_iterable(made):
        array.flags.writeable = False
    return made


def _sparse_samples(shapes: Sequence[tuple[int, ...]]) -> int:
    """Return how many sparse samples there are of some shapes."""
    longest = max((max(shape, default=1) for shape in shapes), default=1)
    volume = max(sum(map(math.prod, shapes)), 1)
    fewest, most = _SPARSE
    most = min(most, VOLUME // volume)
    wanted = max(math.ceil(longest / _TOGETHER), min(longest, _CHEAP // volume))
    return max(min(wanted, most), fewest)


def _samples(rng: np.random.Generator, shape: tuple[int, ...], *, count: int) -> Iterator[Array]:
    """Yield numbers for one leaf: zeros, dense ones, a few, `count` sparse samples, huge ones."""
    longest = max(shape, default=1)
    yield np.zeros(shape)
    yield rng.standard_normal(shape)
    few = _places(rng, shape, rng.integers(0, max(longest, 1), 3))
    yield _with(shape, few, rng.standard_normal(3) * 256.0)
    every = np.arange(longest)
    # Drawn for all sparse samples at once: to draw takes longer than to make one.
    places, values = _places(rng, shape, every), rng.standard_normal(max(longest, count))
    each, longer = divmod(longest if shape else count, count)
    begin = 0
    for k in range(count):
        part = slice(begin, begin := begin + each + (k < longer))
        yield _with(shape, places[:, part], values[part] * 256.0 ** (2 + k % 3))
    sizes = 2.0 ** rng.uniform(*_HUGE, longest)
    huge = _with(shape, _places(rng, shape, every), rng.standard_normal(longest) * sizes)
    yield huge
    yield -huge


def _places(rng: np.random.Generator, shape: tuple[int, ...], indices: Array) -> Array:
    """Return an element at each of some indices of the longest axis: its index along every axis."""
    if not math.prod(shape):
        return np.zeros((len(shape), 0), np.int64)
    places = rng.integers(0, np.array(shape)[:, None], (len(shape), indices.size))
    if shape:
        places[int(np.argmax(shape))] = indices
    return np.asarray(places)


def _with(shape: tuple[int, ...], places: Array, values: Array) -> Array:
    """Return zeros but for some elements; of a shape without axes the one value."""
    if not shape:
        return np.array(values[0])
    sample = np.zeros(shape)
    if places.size:
        sample[tuple(places)] = values
    return sample


def as_integers(sample: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return a sample as integers: of narrow types near both ends of the range, else small ones.

    Zero stays zero. Arithmetic with 8 or 16 bits wraps around, which floating point does not.
    """
    if dtype.kind == "b":
        return np.asarray(sample > 0)
    narrow = dtype.itemsize <= 2  # noqa: PLR2004 - bytes
    span = 2.0 ** (8 * dtype.itemsize) if narrow else _INDICES
    numbers = np.floor(np.abs(sample) * _SCATTER)
    if narrow:
        where, near = numbers % 3, numbers % _NEAR
        numbers = np.select([where == 0, where == 1], [near, span - 1 - near], numbers)
        numbers[sample == 0] = 0
    numbers %= span
    return np.asarray(numbers.astype(np.int64).astype(dtype))
