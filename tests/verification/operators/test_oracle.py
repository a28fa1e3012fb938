"""Every row of the table against ONNX Runtime, which shares nothing with it, and by its own law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import affine_steps
import carry_steps
import linear_steps
import numpy as np
import onnx
import onnxruntime
import pytest
import rowcases
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented, RuntimeException  # noqa: A004 - its name
from test_kernels import CASES, ELEMENTWISE

from bnfold.verification.operators.evaluate import track
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.operators.node import UnsupportedError
from bnfold.verification.operators.table import TABLE

if TYPE_CHECKING:
    from building import Network
    from evaluation import Array

_FEW, _MANY = range(2), range(2, 40)
_CARRIED = sorted(carry_steps.STRATEGIES.keys() - {"Cast"})
_LINEAR = sorted({*linear_steps.SOURCES, *linear_steps.NORMALIZATIONS})
_AFFINE = sorted(affine_steps.STRATEGIES)
_ROWS = [
    *((rowcases.carried_up, op_type) for op_type in _CARRIED),
    *((rowcases.linear_output, op_type) for op_type in _LINEAR),
    *((rowcases.affine_row, op_type) for op_type in _AFFINE),
]


def test_every_row_is_compared() -> None:
    compared = {*_CARRIED, *_LINEAR, *_AFFINE, *ELEMENTWISE, *(op_type for op_type, *_ in CASES)}
    computed = {name for name, row in TABLE.items() if row.kernel or row.magnitude}
    assert computed <= compared


@pytest.mark.parametrize(("build", "op_type"), _ROWS)
def test_what_it_computes_is_what_onnxruntime_computes(build: Any, op_type: str) -> None:
    assert sum(_agrees(build(op_type, seed, onnx.TensorProto.FLOAT)) for seed in _FEW)


@pytest.mark.full
@pytest.mark.parametrize(("build", "op_type"), _ROWS)
def test_whatever_it_computes_is_what_onnxruntime_computes(build: Any, op_type: str) -> None:
    assert sum(_agrees(build(op_type, seed, onnx.TensorProto.FLOAT)) for seed in _MANY)


def _agrees(case: rowcases.Case) -> bool:
    """Compare every tensor of a network; return whether ONNX Runtime computes it."""
    model = case.model
    made = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(case.net.value_info(name) for name in made)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    feeds = {name: value.astype(np.float32) for name, value in case.net.feeds().items()}
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except NotImplemented:  # it knows an operator of earlier opsets only, as GlobalLpPool
        return False
    try:
        found = session.run(None, feeds)
    except RuntimeException:  # it refuses a pool whose padding is wider than its window
        return False
    for name, value in zip(made, found, strict=True):
        expected = case.net.values[name]
        scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
        np.testing.assert_allclose(
            value, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=_told(model, name)
        )
    return True


def _told(model: onnx.ModelProto, name: str) -> str:
    node = next(node for node in model.graph.node if name in node.output)
    return str(helper.printable_node(node))


# -- magnitudes -------------------------------------------------------------------------------

_U = 2.0**-20
"""A rounding, large enough that float64's own do not show."""


@pytest.mark.parametrize(("build", "op_type"), _ROWS)
def test_no_rounding_of_what_enters_is_larger_than_the_magnitude(build: Any, op_type: str) -> None:
    """|f(x + δ) − f(x)| ≤ u · magnitude, for every x and every δ with |δ| ≤ u |x|."""
    checked = 0
    for seed in _FEW:
        net: Network = build(op_type, seed, onnx.TensorProto.DOUBLE).net
        nodes = [node for node in net.nodes if node.op_type == op_type]
        checked += sum(_bounded(net, node, seed) for node in nodes)
    assert checked


def _bounded(net: Network, node: onnx.NodeProto, seed: int) -> bool:
    made = {name for other in net.nodes if other.op_type != "Constant" for name in other.output}
    varying = made | {value.name for value in net.inputs}
    values = [net.values[name] if name else None for name in node.input]
    vary = [name in varying for name in node.input]
    before = _tracked(net, node, values, vary)
    together = sum(vary) if TABLE[node.op_type].multiplies else 1
    rng = np.random.default_rng(seed)
    for _ in range(4):
        after = _tracked(net, node, _perturbed(rng, values, vary), vary)
        for old, new in zip(before, after, strict=True):
            if old.size is not None:
                bound = _U * together * old.size * (1 + 1e-3) + 1e-13
                assert (np.abs(new.value - old.value) <= bound).all(), helper.printable_node(node)
    return any(vary)


def _tracked(
    net: Network, node: onnx.NodeProto, values: list[Array | None], vary: list[bool]
) -> list[Tracked]:
    inputs = [
        None if value is None
        else Tracked(value, np.abs(value) if value.dtype.kind == "f" else None, constant=not varies)
        for value, varies in zip(values, vary, strict=True)
    ]  # fmt: skip
    try:
        return track(node, {"": net.opset}, inputs)
    except UnsupportedError:  # of two tensors that both vary, say
        return []


def _perturbed(
    rng: np.random.Generator, values: list[Array | None], vary: list[bool]
) -> list[Array | None]:
    return [
        value * (1 + _U * rng.choice([-1.0, 1.0], value.shape)) if varies and value is not None
        else value
        for value, varies in zip(values, vary, strict=True)
    ]  # fmt: skip
