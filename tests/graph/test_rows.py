"""Every row of every rule table: random networks around it are folded, and compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import affine_steps
import carry_steps
import linear_steps
import onnx
import pytest
import rowcases
from evaluation import assert_same
from invariants import check_invariants

import bnfold
from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.carry import CARRY, Blind
from bnfold.rules.linear import LINEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SEEDS = 8
_BLIND = {name for name, row in CARRY.items() if isinstance(row, Blind)}  # see test_blind_readers

ELEM_TYPES = (onnx.TensorProto.DOUBLE,) * 4 + (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def check(
    build: Callable[[str, int, int], rowcases.Case], op_type: str, seeds: Iterable[int]
) -> None:
    promised = 0
    for seed in seeds:
        elem_type = ELEM_TYPES[seed % len(ELEM_TYPES)]
        if op_type == "Cast" and elem_type != onnx.TensorProto.DOUBLE:
            continue  # a cast that narrows is no identity; see test_casts
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


@pytest.mark.parametrize("op_type", sorted(set(CARRY) - _BLIND))
def test_an_affine_sinks_through(op_type: str) -> None:
    check(rowcases.carried_up, op_type, range(_SEEDS))


@pytest.mark.parametrize("op_type", sorted(set(CARRY) - _BLIND))
def test_an_affine_is_hoisted_through(op_type: str) -> None:
    check(rowcases.carried_down, op_type, range(_SEEDS))


@pytest.mark.parametrize("op_type", sorted(LINEAR))
def test_an_affine_goes_into_the_output_of(op_type: str) -> None:
    check(rowcases.linear_output, op_type, range(3 * _SEEDS))


@pytest.mark.parametrize("op_type", sorted(LINEAR))
def test_an_affine_goes_into_the_input_of(op_type: str) -> None:
    check(rowcases.linear_input, op_type, range(3 * _SEEDS))


@pytest.mark.parametrize("op_type", sorted(AFFINE))
def test_what_is_an_affine_goes_into_a_linear_operator(op_type: str) -> None:
    check(rowcases.affine_row, op_type, range(2 * _SEEDS))


def test_every_row_has_a_strategy() -> None:
    assert set(CARRY) == set(carry_steps.STRATEGIES) | _BLIND
    assert set(LINEAR) == set(linear_steps.SOURCES) == set(linear_steps.READERS)
    assert set(AFFINE) == set(affine_steps.STRATEGIES)
