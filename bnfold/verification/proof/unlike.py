"""How two nodes of one operator differ, in words: attributes, inputs and constants."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.identity import attribute_content
from bnfold.verification.proof.matching import equal_constants
from bnfold.verification.proof.scopes import Scope

_LARGEST = 1 << 24
"""Arrays with more elements are only said to be different."""
_SHORT = 16
"""Of so few integers, which are shapes and axes, all are shown."""
_LONG = 60
"""Attributes with more characters are only said to be different."""
_TENSORS = (onnx.AttributeProto.TENSOR, onnx.AttributeProto.TENSORS)
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_SAME_ALONG_AXES = {"pads": 0, "strides": 1, "dilations": 1}
"""What each number of an attribute is where a node does not state it."""
_IMPLIED = {"kernel_shape", "auto_pad"}
"""Attributes that follow from the weight or from others where a node does not state them."""
_ELEMENT_TYPES = {"to", "dtype", "output_dtype"}
"""Attributes whose number stands for an element type."""


def is_alike(mine: onnx.NodeProto, theirs: onnx.NodeProto) -> bool:
    """Tell whether two nodes are of the same operator."""
    return (mine.op_type, mine.domain) == (theirs.op_type, theirs.domain)


def with_article(op_type: str) -> str:
    """Return an operator's type with its article."""
    return f"{'an' if op_type[:1] in 'AEIO' else 'a'} {op_type}"


def unlike_attributes(
    old: Scope, new: Scope, mine: onnx.NodeProto, theirs: onnx.NodeProto
) -> Iterator[str]:
    """Yield how the attributes of two nodes of the same operator differ; subgraphs are left out."""
    before, after = ({a.name: a for a in node.attribute} for node in (mine, theirs))
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        stated = one or other
        if stated is None or stated.type in _GRAPHS:
            continue
        if one is None or other is None:
            yield from _stated_by_one(name, _default(old, mine, stated), one, other)
        elif attribute_content(old.model, one) != attribute_content(new.model, other):
            if one.type == other.type and one.type in _TENSORS:
                yield from _unlike_tensors(old, new, one, other)
            else:
                yield _instead(name, _said(other), _said(one))


def casting(scope: Scope, node: onnx.NodeProto) -> str:
    """Return between which element types a Cast casts, as far as that is known, in words."""
    made = [scope.producers[name][0] for name in node.input if name in scope.producers]
    before, after = _cast_to(*made[:1]), _cast_to(node)
    return (f" from {before}" if before and after else "") + (f" to {after}" if after else "")


def _cast_to(*nodes: onnx.NodeProto) -> str:
    """Return the element type that a Cast makes; nothing of another operator."""
    casts = (node for node in nodes if row_of(node).casts)
    return next((_said(a) for node in casts for a in node.attribute if a.name == "to"), "")


def unlike_inputs(mine: onnx.NodeProto, theirs: onnx.NodeProto, old: Scope, new: Scope) -> str:
    """Say how what enters two nodes differs; nothing where it does not."""
    before, after = entering(old, mine), entering(new, theirs)
    return "" if before == after else f"it reads {_listed(after)} instead of {_listed(before)}"


def entering(scope: Scope, node: onnx.NodeProto) -> list[str]:
    """Return the inputs of a node that are no constants, in order."""
    return [name for name in node.input if name and not scope.is_constant(name)]


def unlike_constants(
    old: Scope, new: Scope, mine: onnx.NodeProto, theirs: onnx.NodeProto
) -> Iterator[str]:
    """Yield how the constants differ that two nodes of the same operator read."""
    pairs = itertools.zip_longest(mine.input, theirs.input, fillvalue="")
    for index, (first, second) in enumerate(pairs):
        known = [scope.is_constant(n) for scope, n in ((old, first), (new, second)) if n]
        if not known or not all(known):
            continue
        called = _formal(new, theirs, index)
        if not first or not second:
            yield f"{called} is left out" if first else f"{called} is not left out"
            continue
        how = _unlike_values(old, new, first, second)
        if how:
            yield f"{called} {second!r} {how}"


def _unlike_values(old: Scope, new: Scope, first: str, second: str) -> str:
    if first == second and equal_constants(old, new, first):
        return ""
    try:
        return unlike_arrays(old.constant(first), new.constant(second))
    except (EvaluationError, TooLargeError):  # what it holds is unknown
        return ""


def _unlike_tensors(
    old: Scope, new: Scope, mine: onnx.AttributeProto, theirs: onnx.AttributeProto
) -> Iterator[str]:
    several = mine.type == onnx.AttributeProto.TENSORS
    before, after = ((*a.tensors,) if several else (a.t,) for a in (mine, theirs))
    if len(before) != len(after):
        yield f"{mine.name} has {len(after)} tensors instead of {len(before)}"
        return
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        how = unlike_arrays(old.model.read(one), new.model.read(other))
        if how:
            yield f"{mine.name}{f'[{number}]' if several else ''} {how}"


def unlike_arrays(before: Array, after: Array) -> str:
    """Say how two arrays differ, where they differ most; nothing where they do not."""
    if before.dtype != after.dtype:
        return f"is {after.dtype} instead of {before.dtype}"
    if before.shape != after.shape:
        return f"has the shape {list(after.shape)} instead of {list(before.shape)}"
    if before.tobytes() == after.tobytes():
        return ""
    if 1 < before.size <= _SHORT and before.dtype.kind in "biu":
        return f"is {after.tolist()} instead of {before.tolist()}"
    if before.size > _LARGEST or not (is_float(before) or before.dtype.kind in "biu"):
        return "is another one"
    place = _farthest(before, after)
    where = f" at {list(map(int, place))}" if before.size > 1 else ""
    made, was = (str(array[place]).removesuffix(".0") for array in (after, before))
    return f"is {made} instead of {was}{where}"


@np.errstate(all="ignore")
def _farthest(before: Array, after: Array) -> tuple[np.intp, ...]:
    """Return where two arrays of numbers differ most."""
    off = np.abs(after.astype(np.float64) - before.astype(np.float64))
    off = np.where((after != before) & np.isnan(off), np.inf, off)
    return np.unravel_index(int(np.argmax(off)), before.shape)


def _stated_by_one(
    name: str,
    default: object,
    mine: onnx.AttributeProto | None,
    theirs: onnx.AttributeProto | None,
) -> Iterator[str]:
    """Yield how an attribute differs that one of two nodes does not state."""
    before, after = (_said(a) if a is not None else default for a in (mine, theirs))
    if before == after or name in _IMPLIED:
        return
    if before is None or after is None:
        yield f"{name} is left out" if theirs is None else f"{name} is stated"
    else:
        yield _instead(name, str(after), str(before))


def _instead(name: str, after: str, before: str) -> str:
    long = max(len(after), len(before)) > _LONG or after == before
    return f"{name} is another one" if long else f"{name} is {after} instead of {before}"


def _default(scope: Scope, node: onnx.NodeProto, stated: onnx.AttributeProto) -> str | None:
    """Return what an attribute is where a node does not state it, in words; None if unknown."""
    if stated.name in _SAME_ALONG_AXES and not node.domain:
        return str([_SAME_ALONG_AXES[stated.name]] * len(stated.ints))
    schema = schema_of(scope, node)
    known = None if schema is None else schema.attributes.get(stated.name)
    if known is None or not known.default_value.name:
        return None
    return _said(known.default_value)


def schema_of(scope: Scope, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
    """Return how an operator is declared in the version that a scope has; None if unknown."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, scope.opsets[domain], domain)
    except (onnx.defs.SchemaError, KeyError):
        return None


def _formal(scope: Scope, node: onnx.NodeProto, index: int) -> str:
    """Return what an operator calls one of its inputs."""
    schema = schema_of(scope, node)
    if schema is None or index >= len(schema.inputs):
        return f"input {index}"
    parameter = schema.inputs[index]
    variadic = parameter.option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return f"input {index}" if variadic else str(parameter.name)


def _said(attribute: onnx.AttributeProto) -> str:
    """Return an attribute's value in words."""
    if attribute.ref_attr_name:
        return f"the function's {attribute.ref_attr_name}"
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in _ELEMENT_TYPES and value in onnx.TensorProto.DataType.values():
        return str(onnx.TensorProto.DataType.Name(value)).lower()
    return _value_said(value)


def _value_said(value: Any) -> str:  # noqa: ANN401 - whatever an attribute may hold
    if isinstance(value, bytes):
        return repr(value.decode(errors="replace"))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value)
    return str([v.decode(errors="replace") if isinstance(v, bytes) else v for v in value])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "constants"
