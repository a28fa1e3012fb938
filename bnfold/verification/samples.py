"""Inputs for a probe: small shapes to try, and ever sparser numbers."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bnfold.verification.cut import Cone, Weights
from bnfold.verification.dtypes import Array

Shape = tuple[int | None, ...]

VOLUME = 1 << 24
"""Elements that one input may have."""
_TARGETS = (6, 12, 24, 48, 1 << 20)
"""Lengths to which the longest spatial axis is cut down, in the order of trying."""
_SAMPLES = 5


def trials(
    leaves: Sequence[str], shapes: Mapping[str, Shape], hints: Sequence[int]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield shapes for all leaves, small ones first; the batch comes on top (`batches`)."""
    seen: set[tuple[tuple[int, ...], ...]] = set()
    ranks = (4, 3, 2, 5)
    known = {leaf: shapes.get(leaf) for leaf in leaves}
    for rank, channels, target, first in itertools.product(
        ranks if None in known.values() else ranks[:1],
        hints if any(shape is None or None in shape[1:] for shape in known.values()) else [1],
        _TARGETS,
        (2, 1),
    ):
        sizes = _shrunk(
            {leaf: shape or (None,) * rank for leaf, shape in known.items()},
            channels, target, first,
        )  # fmt: skip
        key = tuple(sizes.values())
        if key not in seen and max(map(math.prod, key), default=0) <= VOLUME:
            seen.add(key)
            yield sizes


def _shrunk(
    shapes: Mapping[str, Shape], channels: int, target: int, first: int
) -> dict[str, tuple[int, ...]]:
    """Cut the axes from `first` on down in proportion, so that the longest has `target`.

    An unknown length is the number of channels on axis 1 (on the last one, where `first` is 1)
    and `target` elsewhere.
    """
    longest = max(
        (dim or 0 for shape in shapes.values() for dim in _spatial(shape, first)), default=0
    )
    factor = max(longest / target, 1.0)
    sizes: dict[str, tuple[int, ...]] = {}
    for leaf, shape in shapes.items():
        spatial = range(len(shape))[first:] if first > 1 else range(1, max(len(shape) - 1, 1))
        dims = []
        for axis, dim in enumerate(shape):
            if axis not in spatial:
                dims.append(dim if dim is not None else (channels if axis else 1))
            elif dim is None:
                dims.append(min(target, _TARGETS[-2]))
            else:
                dims.append(max(math.ceil(dim / factor), min(dim, 2)))
        sizes[leaf] = tuple(dims)
    return sizes


def _spatial(shape: Shape, first: int) -> Shape:
    return shape[first:] if first > 1 else shape[1:-1]


def channel_hints(cone: Cone, weights: Weights) -> list[int]:
    """Return numbers of channels that the constants suggest."""
    hints: dict[int, None] = {}
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        for name in node.input:
            if name in weights.values and weights.values[name].value.ndim:
                shape = weights.values[name].value.shape
                hints |= dict.fromkeys((*(s * groups for s in shape[1:2]), shape[0], shape[-1]))
    return list(hints)[:8] or [1]


def batches(
    sizes: Mapping[str, tuple[int, ...]], seed: int, *, stacked: bool
) -> list[dict[str, Array]]:
    """Return the samples; stacked along the batch where every input has one of length 1."""
    samples = [_sample(sizes, seed, index) for index in range(_SAMPLES)]
    if stacked and all(shape and shape[0] == 1 for shape in sizes.values()):
        return [{leaf: np.concatenate([s[leaf] for s in samples]) for leaf in sizes}]
    return samples


def _sample(sizes: Mapping[str, tuple[int, ...]], seed: int, index: int) -> dict[str, Array]:
    """Return one input per leaf: zero, then dense, then ever sparser and larger ones."""
    rng = np.random.default_rng((seed, index))
    density = 0.0 if index == 0 else 16.0 ** (1 - index)
    amplitude = 256.0 ** (index - 1)
    sample: dict[str, Array] = {}
    for leaf, shape in sizes.items():
        volume = max(math.prod(shape), 1)
        keep = rng.random(shape) < (max(density, 2.0 / volume) if density else 0.0)
        sample[leaf] = np.where(keep, amplitude * rng.standard_normal(shape), 0.0)
    return sample
