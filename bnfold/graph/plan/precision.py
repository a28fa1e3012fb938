"""What folds may cost a weight as int8, where a model is folded in order to be quantized.

A fold that multiplies the channels of a weight by different factors can spread them, so that one
scale fits the small ones badly. Here a linear node refuses what would take more than 3 dB, half a
bit, from the signal-to-quantization-noise ratio that its weight has in the original. What makes
the ratio better is never refused.
"""

from math import prod
from typing import Final

import numpy as np

from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.quantized import is_dequantizer
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.limits import MEASURED
from bnfold.reasons import Reason, Refusal
from bnfold.rules.int8 import Spread, change, int8

DECIBELS: Final = 3
"""So much may be lost."""


class Precision:
    """Measures the weights of linear nodes, each once, and refuses what costs too much."""

    def __init__(self, graph: Graph, options: FoldOptions) -> None:
        self._graph = graph
        self._per_tensor = options.per_tensor
        self._spreads: dict[tuple[int, int], Spread] = {}

    def require(self, before: Absorbed, after: Absorbed) -> None:
        """Refuse a further state of a linear node that loses too much.

        Args:
            before: What the node has absorbed.
            after: What it would have absorbed.

        Raises:
            Refusal: The weight would lose more than 3 dB, and more than it has lost already.
        """
        if after.layout.is_diagonal or after.summed is not None or not self._is_measured(after):
            return
        nothing = Absorbed.nothing(after.node, after.layout, after.bias_node)
        original, so_far, new = (self._ratio(state) for state in (nothing, before, after))
        if new < min(original - DECIBELS, so_far):
            how = "tensor" if self._per_tensor else "channel"
            raise Refusal(Reason.INT8_LOSS, f"{change(original, new)} per {how}")

    def _is_measured(self, state: Absorbed) -> bool:
        """Whether a weight holds floating-point numbers, and not more than can be looked at."""
        weight = self._weight(state)
        maker = self._graph.view.producer(weight)
        if maker is not None and is_dequantizer(maker):
            return False
        shape = self._graph.shapes.shapes[weight]
        return prod(size for size in shape if isinstance(size, int)) <= MEASURED

    def _weight(self, state: Absorbed) -> int:
        return self._graph.view.nodes[state.node].inputs[state.layout.weight]

    def _ratio(self, state: Absorbed) -> float:
        """Return the ratio of a weight in a state of its node, in dB."""
        weight, layout = self._weight(state), state.layout
        rank = len(self._graph.shapes.shapes[weight])
        axis = layout.output_axis(rank)
        factor = layout.factor(state.out_scale, state.in_scale, rank)
        if factor.size == factor.shape[axis]:  # then there is no need to make the numbers
            found = self._spread(weight, axis).times(factor.reshape(-1)).int8()
        else:
            found = int8(self._graph.constants.value(weight).astype(np.float32) * factor, axis)
        return found.per_tensor if self._per_tensor else found.per_channel

    def _spread(self, weight: int, axis: int) -> Spread:
        if (weight, axis) not in self._spreads:
            numbers = self._graph.constants.value(weight)
            self._spreads[weight, axis] = Spread.of(numbers, axis)
        return self._spreads[weight, axis]
