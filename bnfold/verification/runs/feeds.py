"""Inputs made up for a model: seeded, of the declared types and shapes.

What a file leaves open is tried: one size for every symbolic dimension after the other, then
mixtures of sizes, then tamer integers, until the original model runs. A batch is one; a picture
is 64 pixels wide at first, as a single pixel would see little but padding.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold import limits
from bnfold.errors import RequestError
from bnfold.verification.runs.inputs import Dim, Feed, InputSpec, shape_text

SIZES = (64, 32, 224, 1, 2, 3, 4, 8, 16, 7, 10, 14, 28, 48, 96, 112, 128, 160, 192, 256, 299,
         320, 384, 416, 512, 640)  # fmt: skip
"""Sizes of symbolic dimensions, in the order in which they are tried."""

_MIXED = (1, 2, 3, 4, 8, 16, 32, 64)
_MIXTURES = 48
_VOLUME = 1 << 26  # elements; more than this is no test input


def generated(
    specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], *, seed: int, count: int
) -> Iterator[list[Feed]]:
    """Yield lists of `count` feeds to try in turn.

    Args:
        specs: The model's inputs.
        shapes: Shapes that the user gave, by input name.
        seed: Seed of all values.
        count: Feeds in each list; they differ in their values only.

    Raises:
        RequestError: A given shape contradicts the model, or is too large.
    """
    given = _given_sizes(specs, shapes)
    for sizes in _assignments(specs, given):
        if any(_volume(spec, sizes) > _VOLUME for spec in specs):
            continue
        if any(len(spec.dims or ()) > limits.RANK for spec in specs):
            continue
        for integers in ("any", "ones") if _has_integers(specs) else ("any",):
            rng = np.random.default_rng(seed)
            yield [
                {spec.name: _value(spec, sizes, rng, integers) for spec in specs}
                for _ in range(count)
            ]


def too_large(specs: Sequence[InputSpec]) -> InputSpec | None:
    """Return an input that is too large to be made up even where all free lengths are 1."""
    return next((spec for spec in specs if _volume(spec, {}) > _VOLUME), None)


def of_other_sizes(
    specs: Sequence[InputSpec],
    shapes: Mapping[str, tuple[int, ...]],
    feed: Mapping[str, Any],
    *,
    seed: int,
) -> Iterator[Feed]:
    """Yield feeds of other sizes than a given one, where the model's inputs leave sizes open.

    A batch of two comes first, with odd lengths, then one of the two alone. The `shapes` that the
    user gave stay.
    """
    given = _given_sizes(specs, shapes)
    usual = _sizes_of(specs, feed)
    batch = _batch(specs)
    free = [symbol for symbol in usual if symbol not in given]
    for several, odd in ((True, True), (True, False), (False, True)):
        sizes = dict(usual)
        for symbol in free:
            if symbol in batch:
                sizes[symbol] += several
            elif odd:
                sizes[symbol] = _odd(sizes[symbol])
        if sizes != usual and all(_volume(spec, sizes) <= _VOLUME for spec in specs):
            rng = np.random.default_rng(seed)
            yield {spec.name: _value(spec, sizes, rng, "any") for spec in specs}


def _odd(size: int) -> int:
    """Return a size a little larger, and odd."""
    return size + 3 - size % 2


def _sizes_of(specs: Sequence[InputSpec], feed: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of the symbolic dimensions."""
    return {
        dim: int(size)
        for spec in specs
        if isinstance(feed.get(spec.name), np.ndarray)
        for dim, size in zip(spec.dims or (), feed[spec.name].shape, strict=False)
        if isinstance(dim, str)
    }


def _batch(specs: Sequence[InputSpec]) -> set[Dim]:
    """Return the dimensions that count samples."""
    return {spec.dims[0] for spec in specs if spec.dims and len(spec.dims) > 1}


def _given_sizes(
    specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    by_name = {spec.name: spec for spec in specs}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if prod(shape) > _VOLUME:
            raise RequestError(
                f"{shape_text(shape)} of {name!r} is too large: it has {prod(shape)} elements, and"
                f" {_VOLUME} at most are made up"
            )
        spec = by_name.get(name)
        if spec is None:
            raise RequestError(f"the model has no input {name!r}; it has {', '.join(by_name)}")
        if spec.dims is None:
            sizes |= {f"{name}[{axis}]": size for axis, size in enumerate(shape)}
            sizes[f"{name} rank"] = len(shape)
            continue
        sizes |= _matched(spec, spec.dims, shape, sizes)
    return sizes


def _matched(
    spec: InputSpec, dims: tuple[Dim, ...], shape: tuple[int, ...], sizes: Mapping[str, int]
) -> dict[str, int]:
    declared = (
        f"{shape_text(shape)} is no shape of {spec.name!r}; the model takes {shape_text(dims)}"
    )
    if len(dims) != len(shape):
        raise RequestError(declared)
    found: dict[str, int] = {}
    for dim, size in zip(dims, shape, strict=True):
        known = dim if isinstance(dim, int) else {**sizes, **found}.get(dim, size)
        if known != size:
            raise RequestError(declared)
        if isinstance(dim, str):
            found[dim] = size
    return found


def _assignments(specs: Sequence[InputSpec], given: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yield sizes for all symbols: uniform ones first, then mixtures."""
    symbols = list(dict.fromkeys(
        dim for spec in specs for dim in spec.dims or () if isinstance(dim, str)
    ))  # fmt: skip
    free = [symbol for symbol in symbols if symbol not in given]
    if not free:
        yield given
        return
    batch = _batch(specs)
    volumetric = any(spec.dims and len(spec.dims) > 4 for spec in specs)  # noqa: PLR2004
    first = (16, *SIZES) if volumetric else SIZES
    for size in first:
        yield given | {symbol: 1 if symbol in batch else size for symbol in free}
    for size in _MIXED[1:]:
        yield given | dict.fromkeys(free, size)
    if len(free) > 1:
        rng = np.random.default_rng(0)
        mixtures = list(itertools.islice(itertools.product(_MIXED, repeat=len(free)), 4096))
        for index in rng.permutation(len(mixtures))[:_MIXTURES]:
            yield given | dict(zip(free, mixtures[index], strict=True))


def _has_integers(specs: Sequence[InputSpec]) -> bool:
    return any(spec.elem_type in {onnx.TensorProto.INT32, onnx.TensorProto.INT64} for spec in specs)


def _value(
    spec: InputSpec, sizes: Mapping[str, int], rng: np.random.Generator, integers: str
) -> NDArray[Any] | list[NDArray[Any]]:
    array = _array(spec, _shape(spec, sizes), rng, integers)
    return [array] if spec.sequence else array


def _shape(spec: InputSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    dims = spec.dims
    if dims is None:
        rank = sizes.get(f"{spec.name} rank", 1)
        dims = tuple(f"{spec.name}[{axis}]" for axis in range(rank))
    return tuple(dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in dims)


def _volume(spec: InputSpec, sizes: Mapping[str, int]) -> float:
    return float(np.prod(_shape(spec, sizes), dtype=float))


def _array(
    spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator, integers: str
) -> NDArray[Any]:
    if spec.elem_type == onnx.TensorProto.STRING:
        words = np.asarray(["a", "b", "the", "one"], dtype=object)
        return words[rng.integers(0, len(words), shape)]
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(spec.elem_type)
    except KeyError:
        raise RequestError(f"input {spec.name!r} is of an element type unknown to ONNX") from None
    if dtype.kind in "biu":
        low, high = _range(spec, dtype, integers)
        return rng.integers(low, high, shape).astype(dtype)
    values = rng.standard_normal(shape)
    if dtype.kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def _range(spec: InputSpec, dtype: np.dtype[Any], integers: str) -> tuple[int, int]:
    """Return the lowest value of an integer or boolean input, and the one after the highest."""
    if dtype.kind != "b" and dtype.itemsize == 1:  # a picture
        info = np.iinfo(dtype)
        return int(info.min), int(info.max) + 1
    if dtype.kind != "b" and integers == "ones":
        return 1, 2
    return 0, spec.bound or 2
