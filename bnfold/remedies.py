"""What each reason means, whether it is a matter of exactness, and what to do about it.

`bnfold explain` prints these texts, and docs/reasons.md is made of them.
"""

from collections.abc import Iterator, Mapping

from bnfold.reasons import Reason

EXPLANATIONS: Mapping[Reason, str] = {
    Reason.TRAINING_MODE: """\
The node computes with the statistics of the batch that it gets (a BatchNormalization), or drops
values by chance (a Dropout). That is no fixed affine map, so there is nothing that could be
folded. Most often the model was exported in training mode by mistake. In PyTorch call
`model.eval()` before `torch.onnx.export`, and leave `training=` alone; in Keras export with
`training=False`. Or let bnfold switch it off: `--freeze-training` takes the stored statistics
as they are, `--estimate-statistics DATA` computes them from data (docs/statistics.md).""",
    Reason.CONSTANT: """\
Everything that the node reads is known before the model runs, so a runtime computes it once,
when it loads the model. Folding would save nothing.""",
    Reason.PER_ELEMENT_STATISTICS: """\
Up to opset 8 a BatchNormalization with `spatial=0` has a mean and a variance for every element,
not for every channel. A convolution has one weight for all positions of a channel and cannot
take that up. Nothing exports this today; converting the model to opset 9 or newer tells whether
it is meant.""",
    Reason.EXTRA_OUTPUTS: """\
Somebody reads an output of the node besides its first: running or saved statistics. If the node
went, they would go with it. Remove those outputs from the graph's outputs where they are left
over from training.""",
    Reason.PARAMETERS_NOT_CONSTANT: """\
A parameter is computed while the model runs, or is an input of the model. Then its numbers are
not known now. Where it should be a constant, export it as an initializer (in PyTorch a
parameter or a buffer of the module), or let a constant-folding tool run first.""",
    Reason.BAD_PARAMETERS: """\
The parameters have another shape than the input's channels, are of a type that is no
floating-point number, or hold NaN or infinity. Folding would spread that over a weight. Look at
the named tensor: NaN there comes from training that diverged.""",
    Reason.BAD_VARIANCE: """\
The variance plus epsilon is zero, negative or no number, so its square root does not exist.
Negative variances come from arithmetic on stored statistics, such as averaging or quantizing
them.""",
    Reason.INVALID_NODE: """\
The node's attributes and inputs contradict each other or the specification, so nobody knows
what it computes. `onnx.checker.check_model(path, full_check=True)` says more; the exporter or
the tool that edited the model last is to blame.""",
    Reason.EXACT_SUMS: """\
A step follows (Floor, Round, a Cast to integers, a comparison, ArgMax), and what is scaled may be
exact: an input, or a sum in a network that computes with whole numbers stored as floats. With the
scale in the weights the sum would be rounded, and where it falls on a step the result would be
another by a whole step. A power of two is exact, and is folded. There is nothing to mend; hardware
for such networks wants the scale apart.""",
    Reason.UNKNOWN_SHAPE: """\
It is not known how many axes a tensor has, or how long one is, and that decides which elements
belong to which channel. bnfold does not guess. Export with static shapes for all but the batch
(in PyTorch: mark fewer `dynamic_shapes`), or write the shapes in with
`onnxruntime.tools.symbolic_shape_infer` or `make_dynamic_shape_fixed`, and fold again.""",
    Reason.TOO_LARGE: """\
Something would have to be computed that is far larger than in any network: an axis of millions
of elements, constants of hundreds of megabytes, or a search without end. This is a protection
against broken files. If your model is real, please report it.""",
    Reason.FUNCTION_ARGUMENT: """\
The node is inside a local function of the model, and its parameters are arguments of it. bnfold
inlines such a function where they are constant at the call; here they are not, or inlining it
would not help.""",
    Reason.OVERRIDABLE: """\
The parameter is an initializer that is also listed as an input of the graph, so a caller may
feed something else, and `--keep-overridable` was given. Without it bnfold folds such
parameters, and takes them off the list of inputs.""",
    Reason.GRAPH_INPUT: """\
On the way to a linear operator the model's own input is met. Nothing in the model could take
the affine up: the caller's data would have to change. If it is a normalization of the input,
you may do it in preprocessing, or move it behind the first convolution by hand if that has no
padding.""",
    Reason.GRAPH_OUTPUT: """\
A tensor that would change is an output of the model, and somebody may read it. Remove it from
the graph's outputs if it was only exported for debugging.""",
    Reason.OTHER_READER: """\
A tensor that would change has another reader, which needs it as it is. This is so in
pre-activation networks and DenseNets (Concat or Add, then BN, then Relu, while others read the
sum): there no exact fold exists. The reader is named; if it is left over, remove it.""",
    Reason.CAPTURED: """\
A tensor that would change is read inside the body of an If, Loop or Scan, which needs it as it
is. Where the condition is a constant, a constant-folding tool takes the If away.""",
    Reason.OTHER_SCOPE: """\
The node is inside the body of an If, Loop or Scan and reads a tensor from outside. Changing
that tensor would change it for everybody outside, too.""",
    Reason.NOT_LINEAR: """\
An operator stands between that neither absorbs an affine nor lets it pass: Sigmoid, Softmax, a
custom operator. No exact fold exists across it. `bnfold ops` lists what
can be crossed. In PyTorch, putting the normalization right behind the convolution when the
network is designed avoids it.""",
    Reason.NO_GAIN: """\
The fold would be exact, but would put in as many nodes as it takes out, for instance a MatMul
without a bias that needs an Add. The model would not become faster.""",
    Reason.COMPOSITE: """\
Runtimes and converters look for some formulas, as exporters write them, and put one operator in
their place: GELU, LayerNorm, hard-swish and others (`bnfold ops` lists them). A number taken out
of one, or put into it, would take it apart, and every piece would be executed by itself. So it
stays whole; what lies around it is folded as usual.""",
    Reason.NEEDS_POSITIVE_SCALE: """\
The operator lets a scale pass only if it is positive: max(s x) = s max(x) and relu(s x) = s
relu(x) hold for s > 0 alone. At least one channel has a negative or a zero scale (a negative
γ). That is what training found, and no exact fold exists.""",
    Reason.NEEDS_ZERO_SHIFT: """\
The operator lets a scale pass, but no shift: relu(x + t) is not relu(x) plus anything. No exact
fold exists; the normalization belongs on the other side of the activation.""",
    Reason.CHANNELS_MIX: """\
The operator makes one output of several channels, or puts several channels into one place, and
these channels need different values. Only where all of them had the same would the fold be
exact.""",
    Reason.BRANCHES_DISAGREE: """\
Several branches meet, in a sum, a Concat or at one weight, and each would need another value. A
sum needs one scale for all of its branches, for example.""",
    Reason.PAD_VALUE: """\
A Pad fills with one number for all channels. Behind it each channel would need a number of its
own, which a Pad cannot give.""",
    Reason.CLIP_BOUND: """\
A Clip has two bounds for all channels, such as 0 and 6. Behind it each channel would need bounds
of its own, which a Clip cannot have. An infinite bound lets every affine pass, and 0 every scale
of one sign; any other bound lets pass what is the same for all channels. Put the normalization
in front of the Clip.""",
    Reason.INEXACT_CAST: """\
A Cast to a narrower type stands between. Moved across it, the numbers would be rounded, or
overflow, where they did not before.""",
    Reason.QUANTIZED_ACTIVATION: """\
The activation is quantized between the two operators (QuantizeLinear, DequantizeLinear, or an
operator on integers). Rounding to a grid does not commute with an affine. Fold first, quantize
afterwards: that also gives better ranges.""",
    Reason.OTHER_GEOMETRY: """\
Branches of one tensor that are added up are one linear operator where their strides agree and,
on each axis, the pads before and behind less the extent of the kernel. Here they do not, so for
other sizes of the input the branches would make results of different sizes. Where the sizes of
the input are fixed, exporting the model with them may help.""",
    Reason.COSTS_MORE: """\
Branches of one tensor that are added up could be one linear operator, but it would multiply more
often, or store more, than they do: a dense kernel of one and a depthwise kernel of three would
be a dense kernel of three. Both numbers are told. Nothing is to be done.""",
    Reason.WEIGHT_NOT_CONSTANT: """\
The weight of the linear operator is computed while the model runs, so it cannot be rewritten.
Dynamic convolutions and attention are such. Where it should be constant, let a constant-folding
tool run first, or export the parametrization away (in PyTorch
`torch.nn.utils.parametrize.remove_parametrizations`).""",
    Reason.BIAS_NOT_CONSTANT: """\
The bias is computed while the model runs, so the shift has nowhere to go. Where it should be
constant, let a constant-folding tool run first.""",
    Reason.OTHER_AXIS: """\
The values vary along another axis than the operator's channels: along the width of an image,
say. A weight has no place for that. A constant of shape [C] against an NCHW tensor runs along
the width, as ONNX broadcasts from the right; if channels were meant, it must be [C, 1, 1].""",
    Reason.ZERO_PADDING: """\
A normalization in front of a convolution with zero padding: the convolution reads zeros at the
border, while a folded one would need to read −t/s there, which differs between channels. No
exact fold exists. In PyTorch, put the normalization behind the convolution, or pad explicitly
before the normalization.""",
    Reason.QUANTIZED_RANGE: """\
The weight or bias is stored as integers, and the folded values would not fit between the
smallest and the largest. Fold the model before it is quantized.""",
    Reason.QUANTIZED_FORM: """\
The weight is stored as integers with scales, and the scales are such that the affine cannot go
into them: they lie along another axis than the output channels or are shared by blocks of
numbers, the opset allows one scale only, the weight is computed from what is dequantized by more
than a Transpose that nothing else reads, or another operator than ONNX's own dequantizes it. New
integers would have to be rounded, which is not exact. Fold before you quantize, or quantize per
output channel.""",
    Reason.OVERFLOW: """\
The folded numbers are too large for the element type: above 65504 in float16. Fold the float32
model, and convert it afterwards with a converter that knows what to keep in float32.""",
    Reason.UNDERFLOW: """\
The products of the weight and the scale are so small that the element type cannot hold them:
float16 has no numbers between 0 and 6e-8, and fewer digits below 6e-5; float32 and bfloat16 are as
far only at 1e-45 and 1e-38. What output channels
compute would lose more than half of its digits, and in the original it does not, where the scale
comes after the sum. (Dead channels beside others do not count.) Layer scales of 1e-6, as they are
before training, do this. Fold the float32 model, and convert it afterwards with a converter that
knows what to keep in float32.""",
    Reason.NOT_FINITE: """\
The weight into which the affine would go holds NaN or infinity. Then its channel computes no
numbers in the original either, and nothing can be said about a fold. Such weights come from
training that diverged, or from a conversion to float16 that overflowed: look at the named
operator's weight.""",
    Reason.INT8_LOSS: """\
With `--for-quantization` what would make a weight worse as int8 stays. A fold multiplies the
channels of the weight by different factors, and one scale for channels of very different size
rounds the small ones badly. The two numbers are the ratio of signal to quantization noise before
and after, in dB; six are one bit. In front of a linear operator a normalization multiplies its
*input* channels, which share a scale even in a weight that is quantized per channel. With
`--per-tensor` the output channels share one, too, and each counts as its output does: behind a
depthwise convolution some may hold nothing any more. A normalization that stays costs one node.
Where it is not to stay, equalize the channels first (cross-layer equalization, SmoothQuant), or
fold without the option and give that operator 16 bits.""",
}


def explanation(reason: Reason) -> str:
    """Return the text of one reason, for a terminal: code, sentence and paragraph."""
    return f"{reason.value}: {reason.text}\n\n{EXPLANATIONS[reason]}"


def listing() -> str:
    """Return all codes with their sentences."""
    width = max(len(reason.value) for reason in Reason)
    return "\n".join(f"{reason.value:<{width}}  {reason.text}" for reason in Reason)


def as_markdown() -> str:
    """Return docs/reasons.md."""
    return "\n".join(_markdown())


def _markdown() -> Iterator[str]:
    yield "# Why a node was kept"
    yield ""
    yield (
        "bnfold folds what can be folded exactly and names everything else, with one of these\n"
        "reasons. The codes are stable; reports carry them. `bnfold explain CODE` prints a section."
    )
    for reason in Reason:
        yield from ("", f"## {reason.value}", "", f"*{reason.text}*", "", EXPLANATIONS[reason])
    yield ""
