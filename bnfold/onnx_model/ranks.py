"""What follows from an operator about the shapes around it, where shape inference says nothing.

Inference follows the data and stops at an operator that it does not know, and at a shape whose
numbers are known only when the model runs. Yet a Reshape makes as many axes as its shape input has
elements, a Transpose as its `perm`; a convolution has those of its weight, on both sides. Nothing
here is guessed: what follows holds for every model that a runtime can run.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import onnx

from bnfold.files.walk import OWN_DOMAINS
from bnfold.limits import RANK

Dims = tuple[int | str | None, ...]
"""A shape: numbers, symbols that stand for the same number everywhere, or None."""

_Inputs = Sequence[Dims | None]
_Rule = Callable[[onnx.NodeProto, _Inputs], Dims | None]

_MATRIX = 2
_PICTURE = 4  # N, C, H, W


def output_shape(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    """Return what a node tells of the shape of its first output, from those of its inputs, or None.

    None stands for an input that is left out, or of whose shape nothing is known.
    """
    rule = _rules(node, _OUTPUT)
    return None if rule is None else rule(node, inputs)


def input_shape(node: onnx.NodeProto, inputs: _Inputs, output: Dims | None) -> Dims | None:
    """Return what a node tells of the shape of its first input, from its other shapes, or None."""
    if _keeps_shape(node):
        return output
    rule = _rules(node, _INPUT)
    return None if rule is None else rule(node, inputs)


def _rules(node: onnx.NodeProto, table: Mapping[str, _Rule]) -> _Rule | None:
    if _keeps_shape(node):
        return _first if table is _OUTPUT else None
    if node.domain in OWN_DOMAINS:
        return table.get(node.op_type)
    return table.get("Conv") if (node.domain, node.op_type) == _FUSED_CONV else None


def _keeps_shape(node: onnx.NodeProto) -> bool:
    own = node.domain in OWN_DOMAINS and node.op_type in _KEEPS_SHAPE
    return own or (node.domain == _MICROSOFT and node.op_type in _MICROSOFT_KEEPS_SHAPE)


def _first(_: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    return inputs[0] if inputs else None


def _at(inputs: _Inputs, index: int) -> Dims | None:
    return inputs[index] if index < len(inputs) else None


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    stated = (a for a in node.attribute if a.name == name and not a.ref_attr_name)
    return next(stated, None)


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    attribute = _attribute(node, name)
    return default if attribute is None else int(attribute.i)


def _times(size: int | str | None, groups: int) -> int | str | None:
    return size * groups if isinstance(size, int) else (size if groups == 1 else None)


def _of_weight(axis: int, *, grouped: bool) -> _Rule:
    """The rank is the weight's, the channels lie on one of its first two axes."""

    def rule(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
        weight = _at(inputs, 1)
        if weight is None or len(weight) <= _MATRIX:
            return None
        groups = _integer(node, "group", 1) if grouped else 1
        return (None, _times(weight[axis], groups), *(None,) * (len(weight) - 2))

    return rule


def _matrix_product(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    weight = _at(inputs, 1)
    known = weight is not None and len(weight) == _MATRIX
    return (None, weight[0 if _integer(node, "transB", 0) else 1] if weight and known else None)


def _matrix_read(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    weight = _at(inputs, 1)
    known = weight is not None and len(weight) == _MATRIX
    channels = weight[1 if _integer(node, "transB", 0) else 0] if weight and known else None
    return (channels, None) if _integer(node, "transA", 0) else (None, channels)


def _rows_read(_: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    """What is multiplied by a matrix has as many columns as that has rows."""
    data, weight = _at(inputs, 0), _at(inputs, 1)
    if not data or weight is None or len(weight) != _MATRIX:
        return None
    return (*(None,) * (len(data) - 1), weight[0])


def _of_list(name: str, index: int = -1, *, extra: int = 0, per_axis: int = 1) -> _Rule:
    """As many axes as a list has elements, be it an attribute or the input at `index`."""

    def rule(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
        if _attribute(node, "axes") is not None:
            return None
        listed = _attribute(node, name)
        if listed is not None:
            return (None,) * (max(len(listed.ints), len(listed.floats)) // per_axis + extra)
        shape = _at(inputs, index) if index >= 0 else None
        if shape is None or len(shape) != 1 or not isinstance(shape[0], int):
            return None
        rank = shape[0] // per_axis + extra
        return (None,) * rank if 0 <= rank <= RANK else None

    return rule


def _resized(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    """By the sizes, or by the scales, whichever is there; an empty list is not."""
    for index in (1, 2, 3):
        if index == 1 and len(node.input) > _MATRIX:
            continue  # the region of interest
        shape = _of_list("scales", index)(node, inputs)
        if shape:
            return shape
    return None


def _padded(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    if len(node.input) > 3 and node.input[3]:  # noqa: PLR2004 - the axes
        return None
    name = "pads" if _attribute(node, "pads") is not None else "paddings"
    return _of_list(name, 1, per_axis=2)(node, inputs)


def _permuted(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    perm = _attribute(node, "perm")
    del inputs
    return None if perm is None else (None,) * len(perm.ints)


def _joined(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    """All parts of a Concat have one rank, and one size along every other axis."""
    known = [part for part in inputs if part is not None]
    axis = _attribute(node, "axis")
    if not known or len({len(part) for part in known}) > 1:
        return None
    place = (1 if axis is None else axis.i) % max(len(known[0]), 1)
    dims = [_agreed(sizes) for sizes in zip(*known, strict=True)]
    if dims:
        sizes = [part[place] for part in known if isinstance(part[place], int)]
        whole = len(sizes) == len(inputs)
        dims[place] = sum(s for s in sizes if isinstance(s, int)) if whole else None
    return tuple(dims)


def _agreed(sizes: Sequence[int | str | None]) -> int | str | None:
    numbers = [size for size in sizes if isinstance(size, int)]
    return next(iter(numbers), next((size for size in sizes if size is not None), None))


def _joined_part(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    whole = _joined(node, inputs)
    if not whole:
        return None
    axis = _attribute(node, "axis")
    place = (1 if axis is None else axis.i) % len(whole)
    return (*whole[:place], None, *whole[place + 1 :])


def _picture(_: onnx.NodeProto, __: _Inputs) -> Dims | None:
    return (None,) * _PICTURE


def _matrix(_: onnx.NodeProto, __: _Inputs) -> Dims | None:
    return (None,) * _MATRIX


def _broadcast(node: onnx.NodeProto, inputs: _Inputs) -> Dims | None:
    """The larger of two sizes along every axis; before opset 7 the first operand's."""
    known = [shape for shape in inputs if shape is not None]
    if not known or len(known) < len(node.input):
        return None
    if any(a.name in ("axis", "broadcast") for a in node.attribute):
        return known[0]
    return reduce(_together, known)


def _together(a: Dims, b: Dims) -> Dims:
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return tuple(_larger(m, n) for m, n in pairs)


def _larger(m: int | str | None, n: int | str | None) -> int | str | None:
    """Return the larger size; a number beats a symbol, which could be 1."""
    if m in (n, 1):
        return n
    if n == 1 or isinstance(m, int):
        return m
    return n if isinstance(n, int) else None


_OUTPUT: Mapping[str, _Rule] = {
    "Conv": _of_weight(0, grouped=False),
    "DeformConv": _of_weight(0, grouped=False),
    "ConvTranspose": _of_weight(1, grouped=True),
    "Gemm": _matrix_product,
    "Reshape": _of_list("shape", 1),
    "Transpose": _permuted,
    "Concat": _joined,
    "MaxPool": _of_list("kernel_shape", extra=2),
    "AveragePool": _of_list("kernel_shape", extra=2),
    "LpPool": _of_list("kernel_shape", extra=2),
    "Flatten": _matrix,
    "DepthToSpace": _picture,
    "SpaceToDepth": _picture,
    "Resize": _resized,
    "Upsample": _resized,
    "Pad": _padded,
    "Tile": _of_list("", 1),
    "Add": _broadcast,
    "Sub": _broadcast,
    "Mul": _broadcast,
    "Div": _broadcast,
}

_INPUT: Mapping[str, _Rule] = {
    "Conv": _of_weight(1, grouped=True),
    "DeformConv": _of_weight(1, grouped=True),
    "ConvTranspose": _of_weight(0, grouped=False),
    "Gemm": _matrix_read,
    "MatMul": _rows_read,
    **{
        name: _OUTPUT[name]
        for name in (
            "Transpose", "MaxPool", "AveragePool", "LpPool", "DepthToSpace", "SpaceToDepth",
            "Resize", "Upsample", "Pad", "Tile",
        )
    },
    "Concat": _joined_part,
}  # fmt: skip

_KEEPS_SHAPE = frozenset(
    {
        "Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "DequantizeLinear", "Dropout", "Elu",
        "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
        "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "LogSoftmax", "Mish",
        "Neg", "QuantizeLinear", "RMSNormalization", "Relu", "Round", "Selu", "Sigmoid", "Softmax",
        "Softplus", "Sqrt", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip

_MICROSOFT = "com.microsoft"
_FUSED_CONV = (_MICROSOFT, "FusedConv")
_MICROSOFT_KEEPS_SHAPE = frozenset(
    {"BiasGelu", "DequantizeLinear", "FastGelu", "Gelu", "QuantizeLinear", "QuickGelu"}
)
