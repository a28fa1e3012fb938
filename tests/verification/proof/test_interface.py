"""Inputs and outputs: names, number, order and types."""

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from proving import clone

from bnfold.verification import Verdict, VerifyOptions, verify
from bnfold.verification.proof.interface import unlike_interface


def model() -> onnx.ModelProto:
    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])

    graph = helper.make_graph(
        [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Add", ["a", "b"], ["s"])],
        "g", [info("a"), info("b")], [info("d"), info("s")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def swapped(values: Any) -> None:
    first, second = list(values)
    del values[:]
    values.extend([second, first])


CHANGES: dict[str, tuple[Callable[[onnx.GraphProto], Any], str]] = {
    "outputs in another order": (lambda graph: swapped(graph.output), "output 1 is 's'"),
    "inputs in another order": (lambda graph: swapped(graph.input), "input 1 is 'b'"),
    "an output less": (lambda graph: graph.output.pop(), "no output 's'"),
    "an output more": (
        lambda graph: graph.output.add().CopyFrom(onnx.ValueInfoProto(name="a")),
        "an output 'a'",
    ),
    "another type": (
        lambda graph: setattr(graph.output[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
        "output 'd' is of type double instead of float",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_interface_is_compared(change: str) -> None:
    original, other = model(), clone(model())
    edit, told = CHANGES[change]
    edit(other.graph)
    assert told in unlike_interface(original.graph, other.graph, by_name=False)
    by_name = unlike_interface(original.graph, other.graph, by_name=True)
    assert bool(by_name) is ("order" not in change)


@pytest.mark.slow
def test_another_order_is_a_failure_unless_it_is_asked_for() -> None:
    original, other = model(), clone(model())
    swapped(other.graph.output)
    found = verify(original, other)
    assert found.verdict is Verdict.FAILED
    assert "output 1 is 's' instead of 'd'" in found.reason
    options = VerifyOptions(match_outputs_by_name=True)
    assert verify(original, other, options=options).verdict is Verdict.PASSED
