"""One node at a time, in float64.

Floating-point tensors are float64 whatever their declared dtype, so a Cast between floating
dtypes changes nothing; integers and booleans keep theirs. What `kernels` does not have is left
to onnx's reference evaluator. Constants are different: what a model computes from constants
alone is computed in the dtypes that the model says, as every runtime does it when it loads the
model (`constant_node`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from bnfold.limits import COMPUTED
from bnfold.onnx_model.computing import TooLargeError, require_room_for_outputs
from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators import kernels, pooling

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

Opsets = Mapping[str, int]


class EvaluationError(Exception):
    """A node cannot be computed: the operator is unknown here, or the shapes do not fit."""


class UnsupportedError(EvaluationError):
    """A node is beyond what can be computed or proved here, whatever the shapes."""


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name; references to a function's attributes are refused."""
    if any(attribute.ref_attr_name for attribute in node.attribute):
        raise UnsupportedError(f"{node.op_type} depends on an attribute of its function")
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def default_domain(node: onnx.NodeProto) -> bool:
    """Tell whether the node is one of ONNX's own operators."""
    return node.domain in {"", "ai.onnx"}


def opset_of(node: onnx.NodeProto, opsets: Opsets) -> int:
    """Return the version of the operator set that defines `node`; 0 if the model names none."""
    if default_domain(node):
        return opsets.get("", opsets.get("ai.onnx", 0))
    return opsets.get(node.domain, 0)


_Native = Callable[[Sequence[Array | None], Mapping[str, Any], int], Array]


def _binary(operator: Callable[[Array, Array], Array]) -> _Native:
    def compute(inputs: Sequence[Array | None], attributes: Mapping[str, Any], opset: int) -> Array:
        a, b = inputs[0], inputs[1]
        assert a is not None  # noqa: S101  # required by the operator
        assert b is not None  # noqa: S101
        b = kernels.aligned(a, b, attributes, opset)
        kernels.require_room(np.broadcast_shapes(a.shape, b.shape))
        return operator(a, b)

    return compute


def _first(inputs: Sequence[Array | None], _: Mapping[str, Any], __: int) -> Array:
    assert inputs[0] is not None  # noqa: S101  # required by the operator
    return inputs[0]


def _dropout(inputs: Sequence[Array | None], attributes: Mapping[str, Any], opset: int) -> Array:
    """Pass on the data; a Dropout that drops something gives no tensor that could be compared."""
    training = inputs[2] if len(inputs) > 2 else None  # noqa: PLR2004 - (data, ratio, training)
    old = opset < 7 and not attributes.get("is_test")  # noqa: PLR2004
    if old or (training is not None and bool(training)):
        raise UnsupportedError("this Dropout is in training mode")
    return _first(inputs, attributes, opset)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind != "f":
        raise EvaluationError("integer division is left to the reference")
    return np.asarray(a / b)


NATIVE: dict[str, _Native] = {
    "Conv": lambda inputs, attributes, _: kernels.conv(inputs, attributes),
    "ConvTranspose": lambda inputs, attributes, _: kernels.conv_transpose(inputs, attributes),
    "Gemm": lambda inputs, attributes, _: kernels.gemm(inputs, attributes),
    "BatchNormalization": lambda inputs, attributes, _: kernels.batch_normalization(
        inputs, attributes
    ),
    "MatMul": lambda inputs, *_: kernels.matmul(inputs),
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_divide),
    "Identity": _first,
    "Dropout": _dropout,
    "MaxPool": lambda inputs, attributes, _: pooling.pool(inputs, attributes, average=False),
    "AveragePool": lambda inputs, attributes, _: pooling.pool(inputs, attributes, average=True),
    "Relu": lambda inputs, attributes, opset: np.maximum(_first(inputs, attributes, opset), 0),
    "Neg": lambda inputs, attributes, opset: -_first(inputs, attributes, opset),
}


def run_node(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Array | None]) -> list[Array]:
    """Compute a node's outputs.

    Args:
        node: Any node without subgraphs.
        opsets: Versions of the operator sets by domain.
        inputs: Its inputs, in order; floats as float64, None for an absent one.

    Raises:
        EvaluationError: It cannot be computed.
    """
    try:
        if default_domain(node) and node.op_type in NATIVE:
            attributes = attributes_of(node)
            opset = opset_of(node, opsets)
            if not _beyond_native(node, inputs, opset):
                return [NATIVE[node.op_type](inputs, attributes, opset)]
        if default_domain(node) and node.op_type in {"Cast", "CastLike"}:
            return [_cast(node, inputs)]
        if default_domain(node) and node.op_type in {"Resize", "Upsample"}:
            return [_resize(node, opsets, inputs)]
        if default_domain(node) and node.op_type == "Pad" and len(inputs) > 1:
            return constant_node(node, opsets, _cropped(inputs))
        return constant_node(node, opsets, inputs)
    except EvaluationError:
        raise
    except Exception as error:  # the kernels and the reference raise whatever numpy raises
        raise EvaluationError(f"{node.op_type}: {error}") from error


def trains(node: onnx.NodeProto, opset: int) -> bool:
    """Tell whether a BatchNormalization normalizes by the batch's own statistics.

    Until opset 6 `is_test` decides, from 14 on `training_mode`; between the two the number of its
    outputs: Y alone in test mode, Y and the statistics in training.
    """
    attributes = attributes_of(node)
    if opset < _MODE_BY_OUTPUTS:
        return not attributes.get("is_test")
    if opset < _MODE_BY_ATTRIBUTE:
        return any(node.output[1:])
    return bool(attributes.get("training_mode"))


_MODE_BY_OUTPUTS, _MODE_BY_ATTRIBUTE = 7, 14


def _beyond_native(node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int) -> bool:
    """Tell whether a node uses what its kernel here does not have."""
    if node.op_type == "BatchNormalization":  # at inference it has no other outputs
        if trains(node, opset):
            raise UnsupportedError("this batch normalization is in training mode")
        return False
    if any(node.output[1:]):
        return True
    return node.op_type == "Div" and any(a is not None and a.dtype.kind in "iu" for a in inputs)


def _resize(node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Array | None]) -> Array:
    """Resize pictures, by way of the unit pictures where batch and channels keep their size."""
    X = inputs[0]
    assert X is not None  # noqa: S101  # required by the operator
    rank = X.ndim
    scales = [None if p is None or p.size != rank else p for p in inputs[1:]]
    pictures = node.op_type == "Resize" and rank > 2 and "axes" not in attributes_of(node)  # noqa: PLR2004
    sizes = scales[2] if len(scales) > 2 else None  # noqa: PLR2004
    if sizes is not None:
        pictures &= tuple(sizes[:2]) == X.shape[:2]
    elif len(scales) > 1 and scales[1] is not None:
        pictures &= tuple(scales[1][:2]) == (1, 1)
    else:
        pictures = False

    def resize(images: Array) -> Array:
        rest = list(inputs[1:])
        if sizes is not None:
            rest[2] = np.asarray([*images.shape[:2], *sizes[2:]], np.int64)
        if len(rest) > 1 and rest[1] is not None:
            rest[1] = rest[1].astype(np.float32)
        return constant_node(node, opsets, [images, *rest])[0]

    return pooling.by_basis(X, resize) if pictures else resize(X)


def _cropped(inputs: Sequence[Array | None]) -> Sequence[Array | None]:
    """Return the inputs of a Pad with what it takes away taken away, which the reference cannot."""
    X, pads, *rest = inputs
    axes = rest[1] if len(rest) > 1 else None
    if X is None or pads is None or (pads >= 0).all():
        return inputs
    which = range(X.ndim) if axes is None else [int(axis) % X.ndim for axis in axes]
    crop = [slice(None)] * X.ndim
    for axis, head, tail in zip(which, *np.maximum(-pads, 0).reshape(2, -1), strict=True):
        crop[axis] = slice(int(head), max(X.shape[axis] - int(tail), 0))
    return [X[tuple(crop)], np.maximum(pads, 0), *rest]


def _cast(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array:
    values = inputs[0]
    assert values is not None  # noqa: S101  # required by the operator
    if node.op_type == "CastLike":
        like = inputs[1]
        assert like is not None  # noqa: S101
        dtype = like.dtype
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes_of(node)["to"])
    return values.astype(np.float64 if is_float(np.empty(0, dtype)) else dtype)


def constant_node(
    node: onnx.NodeProto, opsets: Opsets, inputs: Sequence[Array | None]
) -> list[Array]:
    """Compute a node in the dtypes of its inputs, by onnx's reference evaluator.

    Raises:
        EvaluationError: It cannot be computed.
    """
    if default_domain(node) and node.op_type == "DequantizeLinear":
        dequantized = kernels.dequantize(inputs, attributes_of(node))
        if dequantized is not None:
            return [dequantized]
    outputs = [i for i, name in enumerate(node.output) if name]
    present = [i for i, value in enumerate(inputs) if value is not None]
    if default_domain(node):
        try:
            require_room_for_outputs(node, opset_of(node, opsets), inputs, COMPUTED)
        except TooLargeError as error:
            raise EvaluationError(f"{node.op_type}: {error}") from error
    versions = tuple(sorted(opsets.items()))
    try:
        reference = _reference(_anonymous(node, present), versions)
        values = reference.run(None, {f"i{i}": inputs[i] for i in present})
    except Exception as error:  # the reference raises whatever numpy raises
        raise EvaluationError(f"{node.op_type}: {error}") from error
    if len(values) != len(outputs) or any(value is None for value in values):
        raise EvaluationError(f"{node.op_type}: the reference did not give all outputs")
    return [np.asarray(value) for value in values]


def _anonymous(node: onnx.NodeProto, present: Sequence[int]) -> bytes:
    """Return the node with positional tensor names, so that equal nodes share an evaluator."""
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:]
    bare.input.extend(f"i{i}" if i in present else "" for i in range(len(node.input)))
    del bare.output[:]
    bare.output.extend(f"o{i}" if name else "" for i, name in enumerate(node.output))
    bare.name = bare.doc_string = ""
    serialized: bytes = bare.SerializeToString(deterministic=True)
    return serialized


@functools.lru_cache(maxsize=256)
def _reference(node_bytes: bytes, opsets: tuple[tuple[str, int], ...]) -> "ReferenceEvaluator":
    from onnx.reference import ReferenceEvaluator

    node = onnx.NodeProto.FromString(node_bytes)
    graph = onnx.GraphProto(name="node")
    graph.node.append(node)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in node.input if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    model = onnx.ModelProto(ir_version=10, graph=graph)
    model.opset_import.extend(
        onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opsets
    )
    return ReferenceEvaluator(model)
