"""What folding does to weights: the ranges of their channels, and what they lose as int8."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.recipe import Recipe
from bnfold.frozen import sealed
from bnfold.graph.edit.rewrite import Rewritten
from bnfold.graph.facts.graph import Graph
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.plan import Plan
from bnfold.limits import MEASURED
from bnfold.plain import Plain, fields_of
from bnfold.reports.records import NodeRecord, node_record
from bnfold.rules.int8 import Int8, Spread, int8

_RANGES = 256
"""The ranges of so many channels are reported; of more channels, evenly spread ones."""

_DIGITS = 4
"""Significant digits of a range, which is there to be drawn."""


@sealed
class Int8Record(Plain):
    """What a weight loses as symmetric int8, and the ranges of its output channels.

    Attributes:
        per_tensor: The signal-to-quantization-noise ratio with one scale for all, in dB; infinite
            where every number is kept exactly.
        per_channel: The same with one scale for each index along the axis of the output channels.
        smallest: The smallest max |w| of a channel.
        largest: The largest max |w| of a channel.
        ranges: max |w| of each channel, in order; of more than 256 channels evenly spread ones.
    """

    per_tensor: float
    per_channel: float
    smallest: float
    largest: float
    ranges: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        ranges = [float(f"{value:.{_DIGITS}g}") for value in self.ranges]
        return {**fields_of(self), "ranges": ranges}


@sealed
class WeightRecord(Plain):
    """A weight that folding changed.

    Attributes:
        node: The linear operator that reads it.
        name: Its name in the original.
        shape: Its shape in the folded model.
        axis: The axis of its output channels.
        before: What it loses as int8 before; None where it is a sum of several weights now.
        after: What it loses after.
    """

    node: NodeRecord
    name: str
    shape: tuple[int, ...]
    axis: int
    before: Int8Record | None
    after: Int8Record


def weight_records(graph: Graph, plan: Plan, rewritten: Rewritten) -> tuple[WeightRecord, ...]:
    """Return what folding does to each weight that it changes, in the order of the nodes.

    Every such weight is read whole, one after the other. Weights that are stored as
    integers, and those of more than 2²⁶ elements, are left out.

    Raises:
        UnfitNumbers: A new number of a weight is NaN, or too large for its element type.
        ModelError: A weight cannot be read.
    """
    return tuple(_records(graph, plan, rewritten))


def _records(graph: Graph, plan: Plan, rewritten: Rewritten) -> Iterator[WeightRecord]:
    known: dict[tuple[int, int], tuple[Int8Record | None, Int8Record]] = {}
    for node, absorbed in sorted(plan.linear.items()):
        layout = absorbed.layout
        recipe = rewritten.replaced.get((node, layout.weight))
        if recipe is None or layout.is_diagonal or prod(recipe.dims) > MEASURED:
            continue
        weight = graph.view.nodes[node].inputs[layout.weight]
        axis = layout.output_axis(len(recipe.dims))
        key = (id(recipe), axis)  # nodes that share a weight share its recipe
        if key not in known:
            known[key] = _before_and_after(graph, absorbed, recipe, axis)
        name = graph.view.tensors[weight].name
        yield WeightRecord(node_record(graph.view, node), name, recipe.dims, axis, *known[key])


def _before_and_after(
    graph: Graph, absorbed: Absorbed, recipe: Recipe, axis: int
) -> tuple[Int8Record | None, Int8Record]:
    if absorbed.summed is not None:
        return None, _record(int8(_made(recipe), axis))
    layout = absorbed.layout
    weight = graph.view.nodes[absorbed.node].inputs[layout.weight]
    before = Spread.of(graph.constants.value(weight), axis)
    factor = layout.factor(absorbed.out_scale, absorbed.in_scale, len(recipe.dims))
    after = before.times(factor, axis)
    made = int8(_made(recipe), axis) if after is None else after.int8()
    return _record(before.int8()), _record(made)


def _made(recipe: Recipe) -> NDArray[np.generic]:
    """Return the numbers of a recipe."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(recipe.data_type)
    made = np.empty(recipe.dims, dtype)
    data, done = made.reshape(-1).view(np.uint8), 0
    for block in recipe.blocks():
        data[done : done + len(block)] = block
        done += len(block)
    return made


def _record(found: Int8) -> Int8Record:
    count = len(found.ranges)
    shown = np.arange(min(count, _RANGES)) * count // min(count, _RANGES)
    return Int8Record(
        found.per_tensor,
        found.per_channel,
        float(found.ranges.min()),
        float(found.ranges.max()),
        tuple(found.ranges[shown].tolist()),
    )
