"""Every row of every rule table: random networks around it are folded, and compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import affine_steps
import carry_steps
import linear_steps
import numpy as np
import onnx
import pytest
import rowcases
from evaluation import assert_same
from invariants import check_invariants

import bnfold
from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.carry import CARRY
from bnfold.rules.linear import LINEAR
from bnfold.rules.passage import Blind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evaluation import Array

_SEEDS = 8
_BLIND = {"Shape": 0, "Size": 0, "CastLike": 1}
"""The rows that read no numbers of an input, and which input that is."""

ELEM_TYPES = (onnx.TensorProto.DOUBLE,) * 4 + (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def check(
    build: Callable[[str, int, int], rowcases.Case], op_type: str, seeds: Iterable[int]
) -> None:
    promised = 0
    for seed in seeds:
        elem_type = ELEM_TYPES[seed % len(ELEM_TYPES)]
        if op_type == "Cast" and elem_type != onnx.TensorProto.DOUBLE:
            continue  # a cast that narrows is no identity; see below
        case = build(op_type, seed, elem_type)
        folding = bnfold.fold(case.model)
        told = f"{build.__name__} {op_type} {seed}\n{onnx.printer.to_text(case.model)}"
        try:
            assert_same(case.model, folding.model, case.net.feeds(), elem_type)
            check_invariants(case.model, folding)
            if case.foldable:
                promised += 1
                kept = [record.to_dict() for record in folding.kept]
                assert not rowcases.left(folding.model), f"not folded: {kept}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{told}") from error
    assert promised > 0, f"no foldable case in {build.__name__} {op_type}"


@pytest.mark.parametrize("op_type", sorted(CARRY.keys() - _BLIND))
def test_an_affine_sinks_through(op_type: str) -> None:
    check(rowcases.carried_up, op_type, range(_SEEDS))


@pytest.mark.parametrize("op_type", sorted(CARRY.keys() - _BLIND))
def test_an_affine_is_hoisted_through(op_type: str) -> None:
    check(rowcases.carried_down, op_type, range(_SEEDS))


@pytest.mark.parametrize("op_type", sorted(LINEAR.keys() - linear_steps.CELLS.keys()))
def test_an_affine_goes_into_the_output_of(op_type: str) -> None:
    check(rowcases.linear_output, op_type, range(3 * _SEEDS))


@pytest.mark.parametrize("op_type", sorted({*linear_steps.READERS, *linear_steps.CELLS}))
def test_an_affine_goes_into_the_input_of(op_type: str) -> None:
    check(rowcases.linear_input, op_type, range(3 * _SEEDS))


@pytest.mark.parametrize("op_type", sorted(AFFINE))
def test_what_is_an_affine_goes_into_a_linear_operator(op_type: str) -> None:
    check(rowcases.affine_row, op_type, range(2 * _SEEDS))


_READS_NO_NUMBERS = {
    "Shape": "r = Shape (y)",
    "Size": "r = Size (y)",
    "CastLike": "r = CastLike (f, y)",
}


@pytest.mark.parametrize("op_type", _BLIND)
@pytest.mark.parametrize("way", ["up", "down"])
def test_who_reads_no_numbers_of_a_tensor_lets_it_change(op_type: str, way: str) -> None:
    norm = "BatchNormalization <epsilon = 0.5>"
    nodes = {
        "up": f"y = Conv (x, W)  z = {norm} (y, g, b, e, v)",
        "down": f"t = Tanh (x)  y = {norm} (t, g, b, e, v)  z = Conv (y, W)",
    }
    made = {"Shape": "int64[n]", "Size": "int64", "CastLike": "double[1]"}[op_type]
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (double[n,2,3,3] x, float[1] f) => (double[n,2,3,3] z, {made} r)
        <double[2,2,1,1] W = {{1, 2, 3, 4}}, double[2] g = {{2, 6}}, double[2] b = {{1, 2}},
         double[2] e = {{1, 1}}, double[2] v = {{1, 4}}>
        {{ {nodes[way]}  {_READS_NO_NUMBERS[op_type]} }}""")
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    assert folding.after.batch_normalizations == 0
    feeds: dict[str, Array] = {"x": np.linspace(-1, 1, 18).reshape(1, 2, 3, 3)}
    feeds["f"] = np.ones(1, np.float32)
    assert_same(model, folding.model, feeds)


@pytest.mark.parametrize(
    ("source", "target", "way", "folds"),
    [
        ("double", "float", "up", True),
        ("double", "float", "down", False),
        ("float", "double", "up", False),
        ("float", "double", "down", True),
    ],
)
def test_an_affine_goes_to_the_wider_side_of_a_cast(
    source: str, target: str, way: str, *, folds: bool
) -> None:
    storage, nodes = {
        "up": (target, "c = Conv (x, W)  d = Cast <to = TO> (c)  z = Mul (d, k)"),
        "down": (source, "c = Mul (x, k)  d = Cast <to = TO> (c)  z = Conv (d, W)"),
    }[way]
    number = {"float": 1, "double": 11}
    kernel = source if way == "up" else target
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g ({source}[1,2,3,3] x) => ({target}[1,2,3,3] z)
        <{kernel}[2,2,1,1] W = {{1, 2, 3, 4}}, {storage}[2,1,1] k = {{0.3, 0.7}}>
        {{ {nodes.replace("TO", str(number[target]))} }}""")
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    assert bool(folding.folds) == folds
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number[source])
    feeds = {"x": np.linspace(-1, 1, 18).reshape(1, 2, 3, 3).astype(dtype)}
    assert_same(model, folding.model, feeds, onnx.TensorProto.FLOAT)


def test_every_row_has_a_strategy() -> None:
    assert set(CARRY) == set(carry_steps.STRATEGIES) | _BLIND.keys()
    assert all(isinstance(CARRY[name], Blind) for name in _BLIND)
    assert set(linear_steps.SOURCES) == set(linear_steps.READERS)
    steps = (linear_steps.SOURCES, linear_steps.NORMALIZATIONS, linear_steps.CELLS)
    assert set(LINEAR) == {op_type for each in steps for op_type in each}
    assert set(AFFINE) == set(affine_steps.STRATEGIES)
