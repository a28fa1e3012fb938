"""The original, moved by rounding only: every weight and every input by at most one ulp.

What holds whole numbers alone stays as it is: they are exact, and networks of integers that are
stored as floats count on it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from bnfold.files.opened import OpenedModel
from bnfold.verification.dtypes import FLOATS, Array, is_float, unit_roundoff
from bnfold.verification.operators.table import row_of


def jittered(values: Array, rng: np.random.Generator) -> Array:
    """Return `values` with each element multiplied by 1 or 1 ± 2u, which is about one ulp."""
    steps = rng.integers(-1, 2, values.shape) * (2 * unit_roundoff(values.dtype))
    return np.asarray((values.astype(np.float64) * (1 + steps)).astype(values.dtype))


def jittered_weights(model: OpenedModel, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the moved initializers by name: those of the file's own, and overridable ones.

    The latter are inputs too, and a session takes them with the feed.
    """
    rng = np.random.default_rng(seed)
    inputs = {value.name for value in model.proto.graph.input}
    exact = set(_exact_names(model.proto.graph))
    own: dict[str, Any] = {}
    overridable: dict[str, Any] = {}
    for tensor in model.proto.graph.initializer:
        if tensor.data_type in FLOATS and tensor.name not in exact:
            place = overridable if tensor.name in inputs else own
            values = model.read(tensor)
            if not are_whole(values):
                place[tensor.name] = jittered(values, rng)
    return own, overridable


def _exact_names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        for index in row_of(node).decided_by:
            yield from node.input[index : index + 1]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _exact_names(attribute.g)


def jittered_feeds(feed: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return a feed with its floating-point tensors moved."""
    rng = np.random.default_rng(seed)
    return {
        name: jittered(value, rng) if _may_move(value) else value for name, value in feed.items()
    }


def _may_move(value: object) -> bool:
    return isinstance(value, np.ndarray) and is_float(value) and not are_whole(value)


def are_whole(values: Array) -> bool:
    """Tell whether all numbers are whole, so that they are exact and nobody has rounded them."""
    flat = values.reshape(-1)
    return all(_is_whole(part) for part in (flat[:_GLANCE], flat[_GLANCE:]))


_GLANCE = 1 << 12
"""Elements; of nearly all weights so many already show that they are not whole."""


def _is_whole(values: Array) -> bool:
    wide = values.astype(np.float64)
    return bool((wide == np.rint(wide)).all())
