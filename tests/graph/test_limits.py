"""Memory is for what a file holds, not for what it declares."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import hungry
import numpy as np
import pytest
from onnx import helper

from bnfold import folding
from bnfold.folding import fold
from bnfold.graph.plan.plan import Plan
from bnfold.graph.plan.planner import make_plan
from bnfold.limits import COMPUTED
from bnfold.onnx_model.computing import TooLargeError, require_computable
from bnfold.reasons import Reason

HUNGRY = Path(__file__).with_name("hungry.py")
MEGABYTES = 900
"""Of these some 60 are Python with onnx, and 512 the constants that may be computed."""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured as Linux tells it")
@pytest.mark.slow
def test_what_is_only_declared_takes_no_memory() -> None:
    done = subprocess.run([sys.executable, HUNGRY], capture_output=True, text=True, check=True)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(measured) > 15
    assert [name for name, _, peak in measured if peak > MEGABYTES] == []


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("ConstantOfShape", [np.array([1 << 40])], {}),
        ("ConstantOfShape", [np.array([1 << 40, 1 << 40])], {}),
        ("Expand", [np.ones(1), np.array([-5])], {}),
        ("Range", [np.int64(0), np.int64(1 << 40), np.int64(1)], {}),
        ("HannWindow", [np.int64(1 << 40)], {}),
        ("Einsum", [np.ones(500)] * 5, {"equation": "a,b,c,d,e->"}),
        ("Resize", [np.ones((1, 1, 2, 2)), None, None, np.array([1, 1, 2000, 2000])], {}),
        ("NoSuchOperator", [np.ones(1)], {}),
    ],
)
def test_what_cannot_be_computed(
    op_type: str, inputs: list[np.ndarray | None], attributes: dict[str, Any]
) -> None:
    names = ["" if value is None else f"i{i}" for i, value in enumerate(inputs)]
    node = helper.make_node(op_type, names, ["o"], **attributes)
    with pytest.raises(TooLargeError):
        require_computable(node, 17, inputs, COMPUTED)


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("ConstantOfShape", [np.array([512, 512, 3, 3])]),
        ("NonZero", [np.ones((3, 4))]),
        ("Reshape", [np.ones(4), np.array([2, 2])]),
        ("DequantizeLinear", [np.ones((512, 512), np.int8), np.float32(0.1)]),
    ],
)
def test_what_exporters_write_is_computed(op_type: str, inputs: list[np.ndarray]) -> None:
    node = helper.make_node(op_type, [f"i{i}" for i in range(len(inputs))], ["o"])
    require_computable(node, 17, inputs, COMPUTED)


def test_a_constant_that_overflows_ends_the_fold_and_not_the_program() -> None:
    constant = np.full((1, 4, 2, 2), 1e38, np.float32)
    constant[0, :, 0, 0] = range(4)  # so that it is no channel affine
    nodes = [hungry.CONV, hungry.node("Add", "c b", "s"), hungry.node("Mul", "s k", "y")]
    folding = fold(hungry.model(nodes, w=hungry.KERNEL, b=constant, k=1000 * hungry.SCALE))
    assert len(folding.model.graph.node) == 3
    assert Reason.OVERFLOW.value in {kept.above.reason for kept in folding.kept}


def test_many_weights_that_overflow_are_not_planned_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[Plan] = []

    def planned(*args: Any, **kept: Any) -> Plan:
        plans.append(make_plan(*args, **kept))
        return plans[-1]

    monkeypatch.setattr(folding, "make_plan", planned)
    count = 60
    nodes = [
        node
        for i in range(count)
        for node in (
            hungry.node("Conv", f"r{i} w{i}", f"c{i}"),
            hungry.node("Mul", f"c{i} k", f"m{i}"),
            hungry.node("Relu", f"m{i}", f"r{i + 1}" if i < count - 1 else "y"),
        )
    ]
    weights = {f"w{i}": np.full((4, 4, 1, 1), 1e38, np.float32) for i in range(count)}
    model = hungry.model(nodes, {"r0": hungry.PLANE}, k=1000 * hungry.SCALE, **weights)
    assert len(fold(model).model.graph.node) == len(nodes)
    assert len(plans) < count
