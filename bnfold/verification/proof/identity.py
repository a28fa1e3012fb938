"""When two nodes are the same: the operator's definition and the values of all attributes.

What a skeleton keeps of a large tensor is where it lies, which says nothing about what it holds. So
tensors count by their bits, wherever they stand: in a field of their own, in a list, or sparse.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

import numpy as np
import onnx
from onnx import helper

from bnfold.files.opened import OpenedModel
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import EvaluationError, default_domain
from bnfold.verification.operators.table import Cell, row_named, row_of
from bnfold.verification.proof.ranges import bounded_anyway
from bnfold.verification.proof.scopes import Scope

Key = tuple[object, ...]

_Stated = dict[str, onnx.AttributeProto]
_HALF_PIXEL = 16
"""From this version on a RoiAlign may leave out half a pixel, and does so by default."""
_LINEAR = 20
"""From this version on GridSample calls interpolations by other names."""
_SHORT = 64  # bytes that are kept as they are, instead of their digest


def content(array: Array) -> Key:
    """Return what identifies an array: its type, its shape and its bits."""
    if array.dtype == object:
        return ("object", array.shape, tuple(array.reshape(-1)))
    held = array.tobytes()
    if len(held) > _SHORT:
        held = hashlib.sha256(held).digest()
    return (_name(array.dtype), array.shape, held)


@functools.cache
def _name(dtype: np.dtype[np.generic]) -> str:
    return str(dtype)


def attribute_content(model: OpenedModel, attribute: onnx.AttributeProto) -> Key:
    """Return what identifies an attribute that holds no graph."""
    dense = [attribute.t] if attribute.HasField("t") else []
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    dense += attribute.tensors
    sparse += attribute.sparse_tensors
    if not (dense or sparse):  # so it is with most of them
        return (attribute.name, _written(attribute), (), ())
    plain = onnx.AttributeProto()
    plain.CopyFrom(attribute)
    for field in ("t", "tensors", "sparse_tensor", "sparse_tensors"):
        plain.ClearField(field)
    return (
        attribute.name,
        _written(plain),
        tuple(content(model.read(tensor)) for tensor in dense),
        tuple(
            (tuple(each.dims), content(model.read(each.values)), content(model.read(each.indices)))
            for each in sparse
        ),
    )


def _written(attribute: onnx.AttributeProto) -> bytes:
    """Return the bytes of an attribute, without the words about it."""
    if attribute.HasField("doc_string"):
        plain = onnx.AttributeProto()
        plain.CopyFrom(attribute)
        plain.ClearField("doc_string")
        attribute = plain
    return bytes(attribute.SerializeToString(deterministic=True))


def says_nothing(
    attribute: onnx.AttributeProto, op_type: str, domain: str, opset: int | None
) -> bool:
    """Tell whether an attribute states what an operator does without it, too."""
    default = None if opset is None else _defaults(op_type, domain, opset).get(attribute.name)
    return default is not None and _written(attribute) == default


@functools.cache
def _defaults(op_type: str, domain: str, opset: int) -> Mapping[str, bytes]:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: attribute.default_value.SerializeToString(deterministic=True)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }


def version_of(op_type: str, domain: str, opset: int | None) -> object:
    """Return what identifies the definition of an operator in a version of its operator set.

    Versions that differ only in the types they admit are one.
    """
    return opset if opset is None else _first_alike(op_type, domain, opset)


@functools.cache
def _first_alike(op_type: str, domain: str, opset: int) -> object:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:  # nobody knows what a version means there
        return ("unknown", opset)
    changed_in = row_named(op_type).changed_in
    while schema.since_version > 1 and schema.since_version not in changed_in:
        try:
            before = onnx.defs.get_schema(op_type, schema.since_version - 1, domain)
        except onnx.defs.SchemaError:
            break
        if not _only_adds(before, schema):
            break
        schema = before
    return int(schema.since_version)


def _only_adds(before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> bool:
    """Tell whether a version declares the same as the one before, but for types and words.

    It may have more attributes: without them it does what it did.
    """
    had, has = _attributes(before), _attributes(after)
    added = (after.attributes[name] for name in has.keys() - had.keys())
    return (
        _formal(before) == _formal(after)
        and had.items() <= has.items()
        and not any(attribute.required for attribute in added)
    )


def _attributes(schema: onnx.defs.OpSchema) -> Mapping[str, Key]:
    return {
        a.name: (str(a.type), a.required, a.default_value.SerializeToString(deterministic=True))
        for a in schema.attributes.values()
    }


def _formal(schema: onnx.defs.OpSchema) -> Key:
    formal = [
        tuple((p.name, str(p.option), p.is_homogeneous, p.min_arity) for p in parameters)
        for parameters in (schema.inputs, schema.outputs)
    ]
    return (*formal, schema.min_input, schema.max_input, schema.min_output, schema.max_output)


def settled(
    node: onnx.NodeProto, opset: int | None, shape_of: Callable[[str], Shape | None]
) -> tuple[list[onnx.AttributeProto], int | None]:
    """Return a node's attributes in one of the ways to write them, and the version to read them by.

    Axes are counted from the first one, where the rank of the first input is known; those that are
    reduced are in order. What says nothing for such inputs is left out.

    Args:
        node: Any node.
        opset: The version of its operator set.
        shape_of: Tells what is known of the shape of a tensor.
    """
    stated = {attribute.name: attribute for attribute in node.attribute}
    if opset is None or not default_domain(node):
        return [*stated.values()], opset
    for name in _moot(node, stated, shape_of):
        del stated[name]
    for name in ("axis", "mode"):
        default = _defaults(node.op_type, "", opset).get(name)
        if default is not None:
            stated.setdefault(name, onnx.AttributeProto.FromString(default))
    if not ("axis" in stated or "axes" in stated or node.op_type.startswith("Reduce")):
        opset = _in_newer_words(node.op_type, stated, opset, None)
        return [*stated.values()], opset
    shape = shape_of(node.input[0]) if node.input and node.input[0] else None
    rank = None if shape is None else len(shape)
    more = row_of(node).more_axes
    if rank is not None and more is not None:
        stated = _with_axes(node, stated, rank + more)
    opset = _in_newer_words(node.op_type, stated, opset, rank)
    return [*stated.values()], opset


def _moot(
    node: onnx.NodeProto, stated: _Stated, shape_of: Callable[[str], Shape | None]
) -> Iterator[str]:
    """Yield the attributes of which nothing depends for such inputs."""
    if row_of(node).scaled_along and "axis" in stated and len(node.input) > 1:
        blocks = stated.get("block_size")
        if shape_of(node.input[1]) in {(), (1,)} and not (blocks and blocks.i):
            yield "axis"
    cell = row_of(node).cell
    if cell is not None and not any(a.ref_attr_name for a in node.attribute):
        yield from _moot_in_a_cell(node, cell, stated, shape_of)


def _moot_in_a_cell(
    node: onnx.NodeProto, cell: Cell, stated: _Stated, shape_of: Callable[[str], Shape | None]
) -> Iterator[str]:
    """Yield what a recurrent cell does anyway: its usual functions, as many states as it has."""
    functions = stated["activations"].strings if "activations" in stated else ()
    both = "direction" in stated and stated["direction"].s == b"bidirectional"
    usual = [*cell.activations] * (1 + both)
    if not functions or [function.lower() for function in functions] == usual:
        yield from stated.keys() & {"activations", "activation_alpha", "activation_beta"}
    inner = shape_of(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004
    if "hidden_size" in stated and inner and inner[-1] == stated["hidden_size"].i:
        yield "hidden_size"


def _with_axes(node: onnx.NodeProto, stated: _Stated, rank: int) -> _Stated:
    """Return attributes with axes as they are counted from the first one."""
    is_reduction = node.op_type.startswith("Reduce") and "noop_with_empty_axes" not in stated
    if rank and is_reduction and len(node.input) == 1:
        stated = {"axes": helper.make_attribute("axes", range(rank)), **stated}
    return {name: _counted(node.op_type, each, rank) for name, each in stated.items()}


def _counted(op_type: str, attribute: onnx.AttributeProto, rank: int) -> onnx.AttributeProto:
    if attribute.ref_attr_name or attribute.name not in {"axis", "axes"}:
        return attribute
    plain = onnx.AttributeProto()
    plain.CopyFrom(attribute)
    if attribute.type == onnx.AttributeProto.INT:
        plain.i += rank if plain.i < 0 else 0
        return plain
    axes = [axis + rank if axis < 0 else axis for axis in attribute.ints]
    plain.ints[:] = sorted(axes) if op_type.startswith("Reduce") else axes
    return plain


def _in_newer_words(op_type: str, stated: _Stated, opset: int, rank: int | None) -> int:
    """Say in the words of a newer version what it can say, too; return the version."""
    if op_type == "RoiAlign" and opset < _HALF_PIXEL:
        half = helper.make_attribute("coordinate_transformation_mode", "output_half_pixel")
        stated[half.name] = half
        return _HALF_PIXEL
    if op_type == "GridSample" and opset < _LINEAR:
        stated["mode"] = mode = deepcopy(stated["mode"])
        mode.s = {b"bilinear": b"linear", b"bicubic": b"cubic"}.get(mode.s, mode.s)
        return _LINEAR
    along_one = row_named(op_type).along_one_axis_from
    if along_one and rank is not None and stated["axis"].i == rank - 1:
        return max(opset, along_one)
    return opset


def unchanged_operand(
    node: onnx.NodeProto, scope: Scope, shape_of: Callable[[str], Shape | None]
) -> str | None:
    """Return the input that a node gives back as it is; None if it does something to it."""
    if not default_domain(node) or not node.input:
        return None
    if node.op_type == "Identity":
        return str(node.input[0])
    bounded = bounded_anyway(node, scope)
    if bounded is not None:
        operand, bound = bounded
        fits = bound is None or _enlarges_nothing(bound, shape_of(operand))
        return operand if fits else None
    row = row_of(node)
    if row.neutral is None or len(node.input) != 2 or node.attribute:  # noqa: PLR2004 - two operands
        return None
    for place in (1, 0) if row.commutes else (1,):
        operand, other = _untyped(scope, node.input[place]), node.input[1 - place]
        if scope.is_constant(operand) and _is_all(scope, operand, row.neutral, shape_of(other)):
            return str(other)
    return None


def _untyped(scope: Scope, name: str) -> str:
    """Return what a tensor is but for its type: 0 and 1 are themselves in any."""
    node, _ = scope.producers.get(name, (None, 0))
    casts = node is not None and row_of(node).of_type_alone is not None
    return str(node.input[0]) if node is not None and casts else name


def _is_all(scope: Scope, name: str, number: float, shape: Shape | None) -> bool:
    """Tell whether all elements of a constant are `number`, and broadcasting it keeps a shape."""
    try:
        value = scope.constant(name)
    except EvaluationError:
        return False
    is_number = value.dtype.kind != "O" and bool(np.all(value == number))
    return is_number and _enlarges_nothing(value, shape)


def _enlarges_nothing(value: Array, shape: Shape | None) -> bool:
    """Tell whether an array that is broadcast to a shape fits into it."""
    if not value.ndim:
        return True
    if shape is None or value.ndim > len(shape):
        return False
    sizes = shape[len(shape) - value.ndim :]
    return all(own in (1, size) for own, size in zip(value.shape, sizes, strict=True))
