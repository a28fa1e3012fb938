"""Models evaluated in float64, so that only a wrong fold and no rounding can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from bnfold.verification.operators import evaluate
from bnfold.verification.operators.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Array = NDArray[Any]

_FLOATS: dict[int, float] = {
    onnx.TensorProto.FLOAT16: 2.0**-11,
    onnx.TensorProto.BFLOAT16: 2.0**-8,
    onnx.TensorProto.FLOAT: 2.0**-24,
    onnx.TensorProto.DOUBLE: 2.0**-53,
}
_SLACK = 2.0**10
"""Units of rounding, relative to the largest number: each of the few dozen sums of a generated
network rounds a little. A wrong channel or a lost constant is some 10¹² times larger in float64."""


class _Kernel(OpRun):
    """An operator of which the verifier has a kernel; the reference evaluator errs on some."""

    op_domain = ""

    def _run(self, *inputs: Array | None, **_: Any) -> tuple[Array, ...]:
        return tuple(evaluate.run_node(self.onnx_node, self.run_params["opsets"], inputs))


KERNELS: list[type[OpRun]] = [
    type(op_type, (_Kernel,), {}) for op_type, row in TABLE.items() if row.kernel is not None
]


def roundoff(elem_type: int) -> float:
    return _FLOATS[elem_type]


def promoted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every floating-point tensor widened to float64."""
    wide = onnx.inliner.inline_local_functions(model)  # the evaluator runs its own kernels inside
    for graph in graphs(wide):
        if isinstance(graph, onnx.GraphProto):
            for tensor in graph.initializer:
                _widen(tensor)
            for value in (*graph.input, *graph.output, *graph.value_info):
                if value.type.tensor_type.elem_type in _FLOATS:
                    value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        for node in graph.node:
            _widen_node(node)
    return wide


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(a.g for node in graph.node for a in node.attribute if a.HasField("g"))


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _widen_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen(attribute.t)
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in _FLOATS:
            attribute.i = onnx.TensorProto.DOUBLE


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model in float64."""
    wide = {
        name: value if value.dtype.kind in "iub" else value.astype(np.float64)
        for name, value in feeds.items()
    }
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(promoted(model), new_ops=KERNELS)
        return [np.asarray(y) for y in evaluator.run(None, wide)]


def run_node(node: onnx.NodeProto, opset: int, values: Mapping[str, Array]) -> list[Array]:
    """The outputs of one node in float64."""
    graph = onnx.GraphProto(name="node", node=[node])
    names = [*dict.fromkeys(name for name in node.input if name)]
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in names)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    model = onnx.ModelProto(ir_version=10, graph=graph)
    model.opset_import.add(domain="", version=opset)
    return run(model, {name: values[name] for name in names})


def feeds_of(model: onnx.ModelProto, seed: int = 0, size: int = 2) -> dict[str, Array]:
    """Random numbers for every input that must be fed; unknown dimensions get `size`."""
    generator = np.random.default_rng(seed)
    stored = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name in stored:
            continue
        typed = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else size for d in typed.shape.dim]
        if typed.elem_type == onnx.TensorProto.BOOL:
            feeds[value.name] = np.asarray(generator.integers(0, 2, shape), dtype=np.bool_)
        elif typed.elem_type in _FLOATS:
            feeds[value.name] = np.asarray(generator.uniform(-1, 1, shape))
        else:
            feeds[value.name] = np.asarray(generator.integers(0, 3, shape))
    return feeds


def assert_same(
    original: onnx.ModelProto,
    folded: onnx.ModelProto,
    feeds: Mapping[str, Array] | None = None,
    elem_type: int = onnx.TensorProto.DOUBLE,
    magnitude: float = 1.0,
) -> None:
    """Both models compute the same, up to a few roundings of the weights to `elem_type`.

    `magnitude` is that of the largest number on the way, if it is larger than the outputs'.
    """
    given = feeds_of(original) if feeds is None else feeds
    assert_close(run(original, given), run(folded, given), elem_type, magnitude)


def assert_close(
    expected: Sequence[Array],
    found: Sequence[Array],
    elem_type: int = onnx.TensorProto.DOUBLE,
    magnitude: float = 1.0,
) -> None:
    assert len(expected) == len(found)
    for old, new in zip(expected, found, strict=True):
        assert old.shape == new.shape
        largest = max(float(np.max(np.abs(old), initial=0.0)), magnitude)
        np.testing.assert_allclose(
            new, old, rtol=0, atol=_SLACK * roundoff(elem_type) * largest, equal_nan=False
        )
