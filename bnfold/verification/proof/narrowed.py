"""What a candidate takes less of than the original: shapes that it declares and the original not.

Some tools write the shape of one input into a model with free dimensions. What it computes for
that shape is right; other shapes it no longer takes.
"""

import onnx


def narrowed_inputs(original: onnx.ModelProto, candidate: onnx.ModelProto) -> tuple[str, ...]:
    """Return a sentence for each input whose declared shape admits less than the original's."""
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
