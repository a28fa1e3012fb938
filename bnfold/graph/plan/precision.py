"""What folds may cost a weight as int8, where a model is folded in order to be quantized.

A fold that multiplies the channels of a weight by different factors can spread them, so that one
scale fits the small ones badly. Here a linear node refuses a fold that would take more than 3
dB, half a bit, from the signal-to-quantization-noise ratio of its weight. What makes the ratio
better is never refused. A fold is measured against what the weight holds before it, not against
what the file held: only so a folded model, which holds just that and does not tell what it was, has
nothing to fold. Of two folds into one weight each may take 3 dB.

Branches that are merged are not measured. By weights alone most merges of RepVGG's blocks lose 4
to 13 dB, and yet the network as int8 loses nothing with a scale per channel, and MobileOne and
FastViT gain 2 to 4 dB (docs/recipes/quantization.md): what each branch makes is no longer rounded.

With one scale for the whole weight, Σ w² of all channels says little: behind a normalization all
channels are of like size in the output, however small the weights of some have become. There each
channel counts as its output does, whose variance the normalization tells.
"""

from math import prod
from typing import Final

import numpy as np

from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.quantized import is_dequantizer
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.absorbed import Absorbed
from bnfold.graph.plan.run import Run
from bnfold.limits import MEASURED
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64
from bnfold.rules.int8 import NOTABLE, Spread, change

_VARIANCE: Final = 4
"""The input of a BatchNormalization that is its variance."""


class Precision:
    """Measures the weights of linear nodes, each once, and refuses what costs too much."""

    def __init__(self, graph: Graph, options: FoldOptions) -> None:
        self._graph = graph
        self._per_tensor = options.per_tensor
        self._spreads: dict[tuple[int, int], Spread] = {}

    def require(self, before: Absorbed, after: Absorbed, variances: F64 | None) -> None:
        """Refuse a further state of a linear node that loses too much.

        `variances` are those of the node's output then, [Cout]; None where they are not known.

        Raises:
            Refusal: The weight would lose more than 3 dB.
        """
        if after.layout.is_diagonal or after.summed is not None or not self._is_measured(after):
            return
        so_far, new = (self._ratio(state, variances) for state in (before, after))
        if new < so_far - NOTABLE:
            how = "tensor" if self._per_tensor else "channel"
            raise Refusal(Reason.INT8_LOSS, f"{change(so_far, new)} per {how}")

    def variance_before(self, run: Run) -> F64 | None:
        """Return the variance of what a run of affines reads, where its first node tells it.

        One that is the same for all channels tells nothing: it is what a normalization has that
        several have been merged to.
        """
        node = run.nodes[0]
        if not self._graph.is_normalization(node) or run.is_merged:
            return None
        tensor = self._graph.view.nodes[node].inputs[_VARIANCE]
        variance = self._graph.constants.value(tensor).astype(np.float64)
        return variance if np.any(variance != variance[:1]) else None

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

    def _ratio(self, state: Absorbed, variances: F64 | None) -> float:
        """Return the ratio of a weight in a state of its node, in dB."""
        weight, layout = self._weight(state), state.layout
        rank = len(self._graph.shapes.shapes[weight])
        axis = layout.output_axis(rank)
        factor = layout.factor(state.out_scale, state.in_scale, rank)
        spread = self._spread(weight, axis).times(factor, axis)
        if spread is None:
            numbers = self._graph.constants.value(weight).astype(np.float32)
            spread = Spread.of(numbers * factor, axis)
        if not self._per_tensor:
            return spread.int8().per_channel
        if variances is not None and len(variances) == len(spread.signals):
            spread = spread.counting(variances)
        return spread.int8().per_tensor

    def _spread(self, weight: int, axis: int) -> Spread:
        if (weight, axis) not in self._spreads:
            numbers = self._graph.constants.value(weight)
            self._spreads[weight, axis] = Spread.of(numbers, axis)
        return self._spreads[weight, axis]
