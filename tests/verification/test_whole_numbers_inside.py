"""Integers and truth values that a model makes on its way: exact in both models, and they wrap."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from proving import proved
from test_deliberate import FIXED, Nodes, accepted, model
from test_wrong_pairs import single, step

WHOLE = [step("Floor", "x", "w"), step("Cast", "w", "i", to=TensorProto.INT32)]
BYTES = [step("Floor", "x", "w"), step("Cast", "w", "i", to=TensorProto.UINT8)]
ABOVE = [step("Greater", "x high", "p"), step("Greater", "x higher", "q")]
STORED = {
    "high": single(1e6), "higher": single(2e6), "nil": single(0.0),
    "two": np.array(2, np.int32), "much": np.array(100_000, np.int32),
    "three": np.array(3, np.int32), "nine": np.array(9, np.int32), "none": np.array(0, np.int32),
    "byte": np.array(200, np.uint8), "third": np.array(3, np.uint8),
}  # fmt: skip


def chosen(*nodes: object) -> Nodes:
    return [*ABOVE, *nodes, step("Where", "c nil x")]  # type: ignore[list-item]


WRONG: Mapping[str, tuple[Nodes, Nodes]] = {
    "a remainder": (
        [*WHOLE, step("Div", "i two", "h"), step("Mul", "h two")], [*WHOLE, step("Identity", "i")]
    ),
    "a quotient of large numbers": (
        [*WHOLE, step("Div", "i much", "h"), step("Add", "h i")], [*WHOLE, step("Identity", "i")]
    ),
    "a sum of bytes": (
        [*BYTES, step("Add", "i byte", "h"), step("Div", "h third")],
        [*BYTES, step("Div", "i third", "h"), step("Div", "byte third", "k"), step("Add", "h k")],
    ),
    "fewer bits": (
        [*WHOLE, step("Cast", "i", "n", to=TensorProto.INT8),
         step("Cast", "n", "y", to=TensorProto.INT32)],
        [*WHOLE, step("Identity", "i")],
    ),
    "a bound of a sum that wraps": (
        [*WHOLE, step("Relu", "i", "r"), step("Add", "r r", "s"), step("Relu", "s")],
        [*WHOLE, step("Relu", "i", "r"), step("Add", "r r")],
    ),
    "a bound of the least number's size": (
        [*WHOLE, step("Abs", "i", "a"), step("Max", "a none")], [*WHOLE, step("Abs", "i")]
    ),
    "either for one of two": (chosen(step("Or", "p q", "c")), chosen(step("Xor", "p q", "c"))),
    "both for either": (chosen(step("Or", "p q", "c")), chosen(step("And", "p q", "c"))),
    "the opposite of another": (
        chosen(step("Not", "p", "n"), step("And", "n q", "c")),
        chosen(step("Not", "q", "n"), step("And", "n p", "c")),
    ),
}  # fmt: skip
RIGHT: Mapping[str, tuple[Nodes, Nodes]] = {
    "factors in one": (
        [*WHOLE, step("Mul", "i three", "h"), step("Mul", "h three")],
        [*WHOLE, step("Mul", "i nine")],
    ),
    "what is added and taken away": (
        [*BYTES, step("Add", "i byte", "h"), step("Sub", "h byte")], [*BYTES, step("Identity", "i")]
    ),
    "none but neither": (
        chosen(step("Or", "p q", "c")),
        chosen(step("Not", "p", "m"), step("Not", "q", "n"), step("And", "m n", "b"),
               step("Not", "b", "c")),
    ),
    "a bound of what has a bound": (
        [*WHOLE, step("Relu", "i", "r"), step("Max", "r none")], [*WHOLE, step("Relu", "i")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_what_differs_for_some_numbers_is_told(tmp_path: Path, how: str) -> None:
    old, new = (model(nodes, STORED, FIXED) for nodes in WRONG[how])
    found = proved(tmp_path, old, new)
    assert not accepted(found)
    # Outputs that agree do not outweigh that, unless a run has shown the bound.
    assert found.broken or found.contradiction or found.unshown


@pytest.mark.parametrize("how", RIGHT)
def test_what_is_the_same_for_all_numbers_is_proved(tmp_path: Path, how: str) -> None:
    old, new = (model(nodes, STORED, FIXED) for nodes in RIGHT[how])
    assert accepted(proved(tmp_path, old, new))
