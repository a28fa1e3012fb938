"""What a model's users see of it: its inputs and outputs, by name, type and order."""

from collections.abc import Sequence
from typing import Final

import onnx

_BY_NAME: Final = "--match-outputs-by-name accepts that"


def unlike_interface(
    original: onnx.GraphProto, candidate: onnx.GraphProto, *, by_name: bool
) -> str:
    """Return in a sentence how the inputs or outputs of two models differ; nothing if they do not.

    Inputs that have a default value count for nothing: who folds a weight takes its input away.
    """
    pairs = (
        ("input", _fed(original), _fed(candidate)),
        ("output", original.output, candidate.output),
    )
    found = (_unlike(what, before, after, by_name=by_name) for what, before, after in pairs)
    return next(filter(None, found), "")


def redefined(original: onnx.ModelProto, candidate: onnx.ModelProto) -> str:
    """Say which of ONNX's own operators the candidate defines anew; nothing where it does not.

    Whether a runtime takes the model's function or its own is up to the runtime.
    """
    before, after = (
        [f.name for f in model.functions if f.domain in {"", "ai.onnx"}]
        for model in (original, candidate)
    )
    added = [name for name in after if name not in before]
    return f"the candidate has a function of its own for {added[0]}" if added else ""


def _fed(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in stored]


def _unlike(
    what: str,
    before: Sequence[onnx.ValueInfoProto],
    after: Sequence[onnx.ValueInfoProto],
    *,
    by_name: bool,
) -> str:
    names = [[value.name for value in values] for values in (before, after)]
    missing = [name for name in names[0] if name not in names[1]]
    added = [name for name in names[1] if name not in names[0]]
    if missing:
        return f"the candidate has no {what} {missing[0]!r}"
    if added:
        return f"the candidate has an {what} {added[0]!r}, which the original does not have"
    if len(names[0]) != len(names[1]):
        return f"the candidate has {len(names[1])} {what}s instead of {len(names[0])}"
    if names[0] != names[1] and not by_name:
        place, name = next(
            (k, n) for k, (n, other) in enumerate(zip(*names, strict=True)) if n != other
        )
        return f"{what} {place + 1} is {names[1][place]!r} instead of {name!r} ({_BY_NAME})"
    types = {value.name: _type(value) for value in after}
    for value in before:
        mine, theirs = _type(value), types[value.name]
        if mine and theirs and mine != theirs:
            return f"{what} {value.name!r} is of type {theirs} instead of {mine}"
    return ""


def _type(value: onnx.ValueInfoProto) -> str:
    """Return the name of a tensor's element type; nothing where none is declared."""
    number = value.type.tensor_type.elem_type
    known = number in onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number).lower() if number and known else ""


def narrowed_inputs(original: onnx.ModelProto, candidate: onnx.ModelProto) -> tuple[str, ...]:
    """Return a sentence for each input whose declared shape admits less than the original's.

    Some tools write the shape of one input into a model with free dimensions. What it computes for
    that shape is right; other shapes it no longer takes.
    """
    before = {value.name: value for value in original.graph.input}
    return tuple(
        f"input {value.name!r} takes {_shown(value)} only, in the original {_shown(other)}"
        for value in candidate.graph.input
        if (other := before.get(value.name)) is not None and _admits_less(value, other)
    )


def _admits_less(value: onnx.ValueInfoProto, other: onnx.ValueInfoProto) -> bool:
    dims, free = _dims(value), _dims(other)
    if dims is None:
        return False
    if free is None:
        return True
    return len(dims) == len(free) and any(
        isinstance(dim, int) and not isinstance(was, int)
        for dim, was in zip(dims, free, strict=True)
    )


def _dims(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """Return the declared sizes and names, `?` for neither; None without even a rank."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]


def _shown(value: onnx.ValueInfoProto) -> str:
    dims = _dims(value)
    return "any shape" if dims is None else f"[{', '.join(map(str, dims))}]"


def has_free_lengths(graph: onnx.GraphProto) -> bool:
    """Tell whether an input may have several shapes."""
    return any(
        dims is None or not all(isinstance(dim, int) and dim > 0 for dim in dims)
        for dims in map(_dims, _fed(graph))
    )


def with_inputs_of(original: onnx.ModelProto, candidate: onnx.ModelProto) -> onnx.ModelProto:
    """Return the original as it is for the inputs that the candidate takes."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    accepted = {value.name: value for value in candidate.graph.input}
    for value in model.graph.input:
        if value.name in accepted:
            value.type.CopyFrom(accepted[value.name].type)
    return model
