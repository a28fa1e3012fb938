"""One pair of strategies for each row of the LINEAR table.

A *source* makes a tensor of a wanted shape with its channels on a wanted axis; a *reader* reads the
channels of a given tensor. Both choose everything else of the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steps import Shape, Unsuited

if TYPE_CHECKING:
    from building import Network

_SPATIAL = 2


@dataclass
class Made:
    """What a strategy made.

    Attributes:
        tensor: The linear operator's output.
        takes_shift: Whether a shift costs no new node: there is a bias or a place for one, and on
            the input no zero padding.
        weights: The weights that it made, by use, to be shared.
        absorbs: Whether anything linear was found at all.
    """

    tensor: str
    takes_shift: bool = True
    weights: list[str] = field(default_factory=list)
    absorbs: bool = True


Source = Callable[["Network", Shape, int], Made]
Reader = Callable[["Network", str, int], Made]


def _need(condition: object) -> None:
    if not condition:
        raise Unsuited


def _weighted(
    net: Network,
    op_type: str,
    data: str,
    weight: Shape,
    channels: int,
    attributes: Mapping[str, Any],
) -> Made:
    """A convolution with or without a bias; the optional bias may also be an empty name."""
    w = net.constant(net.dice.numbers(weight), "weight")
    inputs = [data, w]
    if net.dice.chance(0.6):
        inputs.append(net.constant(net.dice.numbers([channels]), "bias"))
    elif net.dice.chance(0.2):
        inputs.append("")
    return Made(net.op(op_type, *inputs, **attributes), weights=[w])


def conv_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == 1 and len(shape) >= 3)
    attributes, spatial, kernel = _conv_before(net, shape[_SPATIAL:], same=net.dice.chance(0.2))
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    inner = net.dice.integer(1, 3)
    data = net.feed((shape[0], groups * inner, *spatial))
    attributes["group"] = groups
    return _weighted(net, "Conv", data, (shape[1], inner, *kernel), shape[1], attributes)


def _conv_before(
    net: Network, spatial: Shape, *, same: bool
) -> tuple[dict[str, Any], Shape, Shape]:
    """Attributes of a Conv, and its input's spatial shape, that give an output's spatial shape."""
    kernel = tuple(net.dice.integer(1, 3) for _ in spatial)
    strides = tuple(net.dice.integer(1, 2) for _ in spatial)
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    if same:
        attributes["auto_pad"] = net.dice.choose(["SAME_UPPER", "SAME_LOWER"])
        return attributes, tuple(s * n for s, n in zip(strides, spatial, strict=True)), kernel
    dilations = [net.dice.integer(1, 2) for _ in spatial]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    needed = [s * (n - 1) + r for s, n, r in zip(strides, spatial, reach, strict=True)]
    pads = [
        net.dice.integer(0, min(k - 1, (n - 1) // 2)) for k, n in zip(kernel, needed, strict=True)
    ]
    attributes |= {"pads": pads + pads, "dilations": dilations}
    return attributes, tuple(n - 2 * p for n, p in zip(needed, pads, strict=True)), kernel


def conv_reader(net: Network, tensor: str, axis: int) -> Made:
    shape = net.shape(tensor)
    _need(axis == 1 and len(shape) >= 3)
    kernel = [net.dice.integer(1, min(3, n)) for n in shape[_SPATIAL:]]
    attributes: dict[str, Any] = {}
    padded = net.dice.chance(0.3)
    if padded and net.dice.chance(0.5):
        attributes["auto_pad"] = net.dice.choose(["SAME_UPPER", "SAME_LOWER"])
    elif padded:
        attributes["pads"] = [net.dice.integer(0, 1) for _ in [*kernel, *kernel]]
    elif net.dice.chance(0.2):
        attributes["auto_pad"] = "VALID"
    if net.dice.chance(0.5):
        attributes["strides"] = [net.dice.integer(1, 2) for _ in kernel]
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    out = groups * net.dice.integer(1, 2)
    weight = (out, shape[1] // groups, *kernel)
    made = _weighted(net, "Conv", tensor, weight, out, attributes | {"group": groups})
    made.takes_shift = not padded
    return made


def conv_transpose_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == 1 and len(shape) >= 3)
    attributes, spatial, kernel = _transposed_before(net, shape[_SPATIAL:])
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    channels = groups * net.dice.integer(1, 3)
    data = net.feed((shape[0], channels, *spatial))
    weight = (channels, shape[1] // groups, *kernel)
    attributes["group"] = groups
    return _weighted(net, "ConvTranspose", data, weight, shape[1], attributes)


def _transposed_before(net: Network, spatial: Shape) -> tuple[dict[str, Any], Shape, Shape]:
    before, kernel, strides, begins, ends, extra = [], [], [], [], [], []
    for size in spatial:
        k, stride = net.dice.integer(1, 3), net.dice.integer(1, 2)
        more = net.dice.integer(0, stride - 1)
        least = max(-(-(size - k - more) // stride) + 1, 1)
        pad = stride * (least - 1) + k + more - size
        begin = net.dice.integer(0, pad)
        before.append(least)
        kernel.append(k)
        strides.append(stride)
        begins.append(begin)
        ends.append(pad - begin)
        extra.append(more)
    attributes: dict[str, Any] = {"strides": strides, "pads": begins + ends}
    if any(extra) or net.dice.chance(0.3):
        attributes["output_padding"] = extra
    return attributes, tuple(before), tuple(kernel)


def conv_transpose_reader(net: Network, tensor: str, axis: int) -> Made:
    shape = net.shape(tensor)
    _need(axis == 1 and len(shape) >= 3)
    plain = net.dice.chance(0.5)
    spatial = shape[_SPATIAL:]
    kernel = [1 if plain else net.dice.integer(1, 3) for _ in spatial]
    attributes = {} if plain else {"strides": [net.dice.integer(1, 2) for _ in spatial]}
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    out = net.dice.integer(1, 2)
    weight = (shape[1], out, *kernel)
    made = _weighted(
        net, "ConvTranspose", tensor, weight, groups * out, attributes | {"group": groups}
    )
    made.takes_shift = plain
    return made


def deform_conv_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(net.opset >= 19 and axis == 1 and len(shape) == 4)  # ONNX Runtime has it for pictures
    attributes, spatial, kernel = _conv_before(net, shape[_SPATIAL:], same=False)
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    data = net.feed((shape[0], groups * net.dice.integer(1, 3), *spatial))
    return _deformed(net, data, shape, kernel, attributes | {"group": groups})


def deform_conv_reader(net: Network, tensor: str, axis: int) -> Made:
    shape = net.shape(tensor)
    _need(net.opset >= 19 and axis == 1 and len(shape) == 4)
    kernel = tuple(net.dice.integer(1, min(3, n)) for n in shape[_SPATIAL:])
    pads = [net.dice.integer(0, 1) for _ in [*kernel, *kernel]]
    sizes = zip(shape[_SPATIAL:], pads[:2], pads[2:], kernel, strict=True)
    out = tuple(size + head + tail - k + 1 for size, head, tail, k in sizes)
    groups = net.dice.divisor(shape[1]) if net.dice.chance(0.5) else 1
    channels = groups * net.dice.integer(1, 2)
    attributes = {"pads": pads, "group": groups}
    made = _deformed(net, tensor, (shape[0], channels, *out), kernel, attributes)
    made.takes_shift = False
    return made


def _deformed(
    net: Network, data: str, out: Shape, kernel: Shape, attributes: Mapping[str, Any]
) -> Made:
    """A DeformConv with offsets from outside, and perhaps a bias and a mask."""
    channels, taps = net.shape(data)[1], kernel[0] * kernel[1]
    inner = channels // attributes["group"]
    parts = net.dice.divisor(channels) if net.dice.chance(0.5) else 1
    weight = net.constant(net.dice.numbers([out[1], inner, *kernel]), "weight")
    offset = net.feed((out[0], parts * taps * 2, *out[_SPATIAL:]))
    bias = net.constant(net.dice.numbers([out[1]]), "bias") if net.dice.chance(0.5) else ""
    inputs = [data, weight, offset, bias]
    if net.dice.chance(0.5):
        inputs.append(net.feed((out[0], parts * taps, *out[_SPATIAL:])))
    while not inputs[-1]:
        inputs.pop()
    product = net.op("DeformConv", *inputs, **attributes, offset_group=parts)
    return Made(product, weights=[weight])


def _gemm(net: Network, data: str, k: int, n: int, attributes: dict[str, Any]) -> Made:
    transposed = net.dice.chance(0.5)
    rows = net.shape(data)[1 if attributes.get("transA") else 0]
    weight = net.constant(net.dice.numbers([n, k] if transposed else [k, n]), "weight")
    attributes["transB"] = int(transposed)
    if net.dice.chance(0.3):
        attributes["alpha"] = net.dice.choose([0.5, 2.0, 0.3])
    if net.dice.chance(0.3):
        attributes["beta"] = net.dice.choose([0.5, 2.0, 0.3])
    inputs = [data, weight]
    if net.opset < _GEMM_BIAS_OPTIONAL or net.dice.chance(0.7):
        shapes: list[Shape] = [(n,), (1, n), (rows, n), (rows, 1), (1,), ()]
        bias = net.dice.choose(shapes[:1] * 3 + shapes)
        inputs.append(net.constant(net.dice.numbers(bias), "bias"))
    return Made(net.op("Gemm", *inputs, **attributes), weights=[weight])


def _gemm_of_rows(net: Network, data: str, axis: int, m: int) -> Made:
    """A matrix times the data, which is transposed where its channels lie on the second axis."""
    shape, dice = net.shape(data), net.dice
    k, n, transposed = shape[axis], shape[1 - axis], dice.chance(0.5)
    weight = net.constant(dice.numbers([k, m] if transposed else [m, k]), "weight")
    attributes: dict[str, Any] = {"transA": int(transposed), "transB": axis}
    if dice.chance(0.3):
        attributes |= {"alpha": dice.choose([0.5, 2.0]), "beta": dice.choose([0.5, 2.0])}
    inputs = [weight, data]
    if net.opset < _GEMM_BIAS_OPTIONAL or dice.chance(0.7):
        shapes: list[Shape] = [(m, 1), (m, n), (n,), (1, n), (1,), ()]
        inputs.append(net.constant(dice.numbers(dice.choose(shapes)), "bias"))
    return Made(net.op("Gemm", *inputs, **attributes), weights=[weight])


_GEMM_BIAS_OPTIONAL = 11


def gemm_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(len(shape) == 2)
    k = net.dice.integer(1, 4)
    transposed = net.dice.chance(0.3)
    if axis == 0:
        data = net.feed((shape[1], k) if transposed else (k, shape[1]))
        return _gemm_of_rows(net, data, int(transposed), shape[0])
    data = net.feed((k, shape[0]) if transposed else (shape[0], k))
    return _gemm(net, data, k, shape[1], {"transA": 1} if transposed else {})


def gemm_reader(net: Network, tensor: str, axis: int) -> Made:
    shape = net.shape(tensor)
    _need(len(shape) == 2)
    if net.dice.chance(0.4):
        return _gemm_of_rows(net, tensor, axis, net.dice.integer(1, 4))
    attributes = {} if axis == 1 else {"transA": 1}
    return _gemm(net, tensor, shape[axis], net.dice.integer(1, 4), attributes)


def matmul_source(net: Network, shape: Shape, axis: int) -> Made:
    rank = len(shape)
    _need(rank >= 2 and axis >= rank - 2)
    k = net.dice.integer(1, 4)
    if axis == rank - 1:
        data = net.feed((*shape[:-1], k))
        weight = net.constant(net.dice.numbers([k, shape[-1]]), "weight")
        product = net.op("MatMul", data, weight)
    else:
        data = net.feed((*shape[:-2], k, shape[-1]))
        weight = net.constant(net.dice.numbers([shape[-2], k]), "weight")
        product = net.op("MatMul", weight, data)
    return _biased(net, product, weight, shape[axis], rank - 1 - axis)


def _biased(net: Network, product: str, weight: str, channels: int, behind: int) -> Made:
    """Perhaps an Add, which is the bias that a MatMul has no place for."""
    rank = len(net.shape(product))
    if net.dice.chance(0.5):
        bias = net.constant(net.dice.numbers([channels] + [1] * behind), "bias")
        order = [product, bias] if net.dice.chance(0.5) else [bias, product]
        return Made(net.op("Add", *order), weights=[weight])
    return Made(product, takes_shift=rank == 2 and not behind, weights=[weight])


def matmul_reader(net: Network, tensor: str, axis: int) -> Made:
    shape = net.shape(tensor)
    rank = len(shape)
    _need(rank >= 2 and axis >= rank - 2)
    out = net.dice.integer(1, 4)
    if axis == rank - 1:
        weight = net.constant(net.dice.numbers([shape[-1], out]), "weight")
        product = net.op("MatMul", tensor, weight)
    else:
        weight = net.constant(net.dice.numbers([out, shape[-2]]), "weight")
        product = net.op("MatMul", weight, tensor)
    return _biased(net, product, weight, out, rank - 1 - axis)


def einsum_source(net: Network, shape: Shape, axis: int) -> Made:
    k = net.dice.integer(1, 4)
    letters = "abcdefgh"[: len(shape)]
    read = letters.replace(letters[axis], "k")
    data = net.feed([k if letter == "k" else shape[letters.index(letter)] for letter in read])
    return _einsum(net, data, read, letters, ("k", letters[axis]), (k, shape[axis]))


def einsum_reader(net: Network, tensor: str, axis: int) -> Made:
    shape, out = net.shape(tensor), net.dice.integer(1, 4)
    letters = "abcdefgh"[: len(shape)]
    made = "".join(letters.replace(letters[axis], "k")[i] for i in net.dice.shuffled(len(shape)))
    return _einsum(net, tensor, letters, made, (letters[axis], "k"), (shape[axis], out))


def _einsum(
    net: Network, data: str, read: str, made: str, matrix: tuple[str, ...], sizes: Shape
) -> Made:
    """A product with a matrix, (inputs, outputs), in any of the orders of an equation."""
    _need(net.opset >= 12)
    if net.dice.chance(0.5):
        matrix, sizes = matrix[::-1], sizes[::-1]
    shared = [letter for letter in read[1:] if letter in made[1:]]
    if shared and net.dice.chance(0.4):  # a matrix for each of them
        letter, place = net.dice.choose(shared), net.dice.integer(0, 2)
        matrix = (*matrix[:place], letter, *matrix[place:])
        size = net.shape(data)[read.index(letter)]
        sizes = (*sizes[:place], size, *sizes[place:])
    weight = net.constant(net.dice.numbers(sizes), "weight")
    operands = [(data, read), (weight, "".join(matrix))]
    if net.dice.chance(0.5):
        operands.reverse()
    if read[0] == made[0] and net.dice.chance(0.5):
        operands = [(name, term.replace(read[0], "...")) for name, term in operands]
        made = made.replace(made[0], "...")
    equation = ",".join(term for _, term in operands) + "->" + made
    product = net.op("Einsum", *(name for name, _ in operands), equation=equation)
    (letter,) = set(matrix) - set(read)
    behind = made[made.index(letter) + 1 :].replace("...", "")
    channels = sizes[matrix.index(letter)]
    if net.dice.chance(0.7):
        bias = net.constant(net.dice.numbers([channels] + [1] * len(behind)), "bias")
        return Made(net.op("Add", product, bias), weights=[weight])
    return Made(product, takes_shift=False, weights=[weight])


SOURCES: Mapping[str, Source] = {
    "Conv": conv_source,
    "ConvTranspose": conv_transpose_source,
    "DeformConv": deform_conv_source,
    "Gemm": gemm_source,
    "MatMul": matmul_source,
    "Einsum": einsum_source,
}

READERS: Mapping[str, Reader] = {
    "Conv": conv_reader,
    "ConvTranspose": conv_transpose_reader,
    "DeformConv": deform_conv_reader,
    "Gemm": gemm_reader,
    "MatMul": matmul_reader,
    "Einsum": einsum_reader,
}


def _cell_reader(op_type: str, gates: int) -> Reader:
    def read(net: Network, tensor: str, axis: int) -> Made:
        shape, dice = net.shape(tensor), net.dice
        _need(len(shape) == 3 and axis == 2)
        direction = dice.choose(["forward", "reverse", "bidirectional"])
        ways, hidden = 2 if direction == "bidirectional" else 1, dice.integer(1, 3)
        attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
        if op_type == "GRU" and dice.chance(0.5):
            attributes["linear_before_reset"] = 1
        if net.opset >= _LAYOUT and dice.chance(0.3):
            attributes["layout"] = 1
        weight = net.constant(dice.numbers([ways, gates * hidden, shape[2]]), "weight")
        again = net.constant(dice.numbers([ways, gates * hidden, hidden]), "recurrence")
        bias = dice.numbers([ways, 2 * gates * hidden])
        inputs = [tensor, weight, again, net.constant(bias, "bias")][: dice.integer(3, 4)]
        return Made(net.op(op_type, *inputs, **attributes), weights=[weight])

    return read


_LAYOUT = 14  # the opset from which on the batch may come first

CELLS: Mapping[str, Reader] = {
    op_type: _cell_reader(op_type, gates)
    for op_type, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
}


def layer_norm_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == len(shape) - 1)
    written = net.dice.choose([-1, axis])
    return _normalized(net, "LayerNormalization", shape, axis, always=False, axis=written)


def rms_norm_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == len(shape) - 1)
    scale = net.constant(net.dice.factors([shape[axis]]), "scale")
    product = net.op("RMSNormalization", net.feed(shape), scale, axis=axis)
    return Made(product, takes_shift=False, weights=[scale])


def instance_norm_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == 1 and len(shape) >= 3)
    return _normalized(net, "InstanceNormalization", shape, axis)


def group_norm_source(net: Network, shape: Shape, axis: int) -> Made:
    _need(axis == 1 and len(shape) >= 3)
    groups = net.dice.divisor(shape[1])
    return _normalized(net, "GroupNormalization", shape, axis, num_groups=groups)


def _normalized(
    net: Network, op_type: str, shape: Shape, along: int, *, always: bool = True, **attributes: Any
) -> Made:
    """A normalization with a scale, and with a shift always or perhaps."""
    scale = net.constant(net.dice.factors([shape[along]]), "scale")
    inputs = [net.feed(shape), scale]
    if always or net.dice.chance(0.6):
        inputs.append(net.constant(net.dice.numbers([shape[along]]), "shift"))
    return Made(net.op(op_type, *inputs, epsilon=0.5, **attributes), weights=[scale])


NORMALIZATIONS: Mapping[str, Source] = {
    "GroupNormalization": group_norm_source,
    "InstanceNormalization": instance_norm_source,
    "LayerNormalization": layer_norm_source,
    "RMSNormalization": rms_norm_source,
}
"""Rows that absorb on their output only."""


def any_source(net: Network, shape: Shape, axis: int) -> Made:
    """A tensor of a shape, made by any operator that can."""
    return _first(net, [SOURCES[name] for name in SOURCES], lambda row: row(net, shape, axis))


def any_reader(net: Network, tensor: str, axis: int) -> Made:
    """Any operator that can read a tensor's channels."""
    return _first(net, [READERS[name] for name in READERS], lambda row: row(net, tensor, axis))


def _first(net: Network, rows: Sequence[Any], call: Callable[[Any], Made]) -> Made:
    for index in net.dice.shuffled(len(rows)):
        try:
            return call(rows[index])
        except Unsuited:
            continue
    raise Unsuited
