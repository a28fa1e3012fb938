"""Why a node was not folded: a closed list, so that no refusal is silent.

A `Reason` is a promise to the reader of a report: its value is stable, its text says what stands
in the way. An `Obstacle` is a reason met at a place.
"""

from enum import Enum

from bnfold.frozen import frozen


class Reason(Enum):
    """What stands in the way of a fold; the value is the code in reports."""

    # The node itself is no fixed per-channel affine.
    TRAINING_MODE = "training-mode"
    CONSTANT = "constant"
    PER_ELEMENT_STATISTICS = "per-element-statistics"
    EXTRA_OUTPUTS = "extra-outputs"
    PARAMETERS_NOT_CONSTANT = "parameters-not-constant"
    BAD_PARAMETERS = "bad-parameters"
    BAD_VARIANCE = "bad-variance"
    INVALID_NODE = "invalid-node"
    EXACT_SUMS = "exact-sums"
    UNKNOWN_SHAPE = "unknown-shape"
    TOO_LARGE = "too-large"
    FUNCTION_ARGUMENT = "function-argument"
    OVERRIDABLE = "overridable"

    # The graph around it.
    GRAPH_INPUT = "graph-input"
    GRAPH_OUTPUT = "graph-output"
    OTHER_READER = "other-reader"
    CAPTURED = "captured"
    OTHER_SCOPE = "other-scope"
    NOT_LINEAR = "not-linear"
    NO_GAIN = "no-gain"
    COMPOSITE = "composite"

    # An operator on the way does not let it pass.
    NEEDS_POSITIVE_SCALE = "needs-positive-scale"
    NEEDS_ZERO_SHIFT = "needs-zero-shift"
    CHANNELS_MIX = "channels-mix"
    BRANCHES_DISAGREE = "branches-disagree"
    PAD_VALUE = "pad-value"
    CLIP_BOUND = "clip-bound"
    INEXACT_CAST = "inexact-cast"
    QUANTIZED_ACTIVATION = "quantized-activation"

    # The branches of a sum are no single linear operator.
    OTHER_GEOMETRY = "other-geometry"
    COSTS_MORE = "costs-more"

    # The linear operator cannot absorb it.
    WEIGHT_NOT_CONSTANT = "weight-not-constant"
    BIAS_NOT_CONSTANT = "bias-not-constant"
    OTHER_AXIS = "other-axis"
    ZERO_PADDING = "zero-padding"
    QUANTIZED_RANGE = "quantized-range"
    QUANTIZED_FORM = "quantized-form"
    OVERFLOW = "overflow"
    UNDERFLOW = "underflow"
    NOT_FINITE = "not-finite"
    INT8_LOSS = "int8-loss"

    @property
    def text(self) -> str:
        """One sentence for people."""
        return _TEXTS[self]


_TEXTS = {
    Reason.TRAINING_MODE: (
        "it is in training mode, so its result depends on the batch or on chance; "
        "--freeze-training takes a normalization's stored statistics, --estimate-statistics takes "
        "them from data"
    ),
    Reason.CONSTANT: "it reads constants alone, so a runtime computes it before it runs",
    Reason.PER_ELEMENT_STATISTICS: "its statistics are per element, not per channel (spatial=0)",
    Reason.EXTRA_OUTPUTS: "its extra outputs are in use",
    Reason.PARAMETERS_NOT_CONSTANT: "its parameters are not constant",
    Reason.BAD_PARAMETERS: "its parameters do not fit its input, or are not finite",
    Reason.BAD_VARIANCE: "variance + epsilon is not a positive number",
    Reason.INVALID_NODE: "the node is not valid ONNX",
    Reason.EXACT_SUMS: (
        "it scales what may be exact, and a step follows: elsewhere that is rounded otherwise"
    ),
    Reason.UNKNOWN_SHAPE: "a shape that decides where the channels lie is unknown",
    Reason.TOO_LARGE: "what would have to be computed is larger than any network needs",
    Reason.FUNCTION_ARGUMENT: "its parameters are arguments of a local function",
    Reason.OVERRIDABLE: "a parameter can be overridden by the caller of the model",
    Reason.GRAPH_INPUT: "a graph input is read on the way",
    Reason.GRAPH_OUTPUT: "a tensor that would change is a graph output",
    Reason.OTHER_READER: "it reads a tensor that would change, and needs it as it is",
    Reason.CAPTURED: "a tensor that would change is read inside a subgraph",
    Reason.OTHER_SCOPE: "the tensor comes from outside the subgraph",
    Reason.NOT_LINEAR: "the operator is neither linear nor lets a channel affine pass",
    Reason.NO_GAIN: "folding would put as many nodes in as it takes out",
    Reason.COMPOSITE: "it is part of what runtimes know as one operator, and stays whole",
    Reason.NEEDS_POSITIVE_SCALE: "the operator lets only positive scales pass",
    Reason.NEEDS_ZERO_SHIFT: "the operator lets no shift pass",
    Reason.CHANNELS_MIX: "the operator mixes channels that need different values",
    Reason.BRANCHES_DISAGREE: "the branches that meet here need different values",
    Reason.PAD_VALUE: "the pad value would have to differ between channels",
    Reason.CLIP_BOUND: "the bounds of the clip would have to differ between channels",
    Reason.INEXACT_CAST: "the cast would round or overflow where it did not before",
    Reason.QUANTIZED_ACTIVATION: "the activation is quantized in between",
    Reason.OTHER_GEOMETRY: "it reads its input another way than the branches that it is added to",
    Reason.COSTS_MORE: "one operator in place of the branches would cost more than they do",
    Reason.WEIGHT_NOT_CONSTANT: "the weight is not constant",
    Reason.BIAS_NOT_CONSTANT: "the bias is not constant",
    Reason.OTHER_AXIS: "the values do not vary along the operator's channels",
    Reason.ZERO_PADDING: "zero padding would no longer be what the operator reads at the border",
    Reason.QUANTIZED_RANGE: "the quantized values would leave their range",
    Reason.QUANTIZED_FORM: "the weight is quantized in a form that the values do not fit",
    Reason.OVERFLOW: "the folded values overflow the element type",
    Reason.UNDERFLOW: "the folded weight would lose its digits to underflow",
    Reason.NOT_FINITE: "the weight holds NaN or infinity",
    Reason.INT8_LOSS: "the weight would lose more than 3 dB as int8",
}


@frozen
class Obstacle:
    """A reason and where it was met.

    Attributes:
        reason: What stands in the way.
        at: The tensor or node in the way, as a reader of the graph would find it; may be empty.
        detail: The values that decided, where there are any.
    """

    reason: Reason
    at: str = ""
    detail: str = ""

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{place}{self.reason.text}{detail}"


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A rule's answer that it cannot be done, with the obstacle."""

    def __init__(self, reason: Reason, detail: str = "", at: str = "") -> None:
        super().__init__(reason.value)
        self.obstacle = Obstacle(reason, at, detail)
