"""Random networks out of all rows together, folded and compared in float64.

The environment variable BNFOLD_RANDOM_GRAPHS says how many.
"""

from __future__ import annotations

import os

import onnx
import pytest
from evaluation import assert_same
from growing import grow_valid
from invariants import as_bytes, check_invariants
from nesting import NESTINGS, Nesting

import bnfold

_COUNT = int(os.environ.get("BNFOLD_RANDOM_GRAPHS", "2000"))
_AT_ONCE = 20


def _check(seed: int, nesting: Nesting | None = None) -> None:
    grower, model = grow_valid(seed)
    if nesting is not None:
        model = nesting(model, grower.dice)
        if not _is_valid(model):
            return
    before = as_bytes(model)
    try:
        folding = bnfold.fold(model)
        assert as_bytes(model) == before
        assert_same(model, folding.model, grower.net.feeds(), magnitude=grower.magnitude)
        check_invariants(model, folding)
        if nesting is None and seed < _COUNT // 2:
            # Which operand comes first decides nothing.
            assert folding.after == bnfold.fold(_mirrored(model)).after, "mirrored"
    except Exception as error:
        text = onnx.printer.to_text(model)
        raise AssertionError(f"seed {seed}: {type(error).__name__} {error}\n{text}") from error


def _is_valid(model: onnx.ModelProto) -> bool:
    """Whether ONNX's shape inference agrees; before opset 9 a Constant node holds no integers."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


def _mirrored(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the operands of what does not care about their order swapped."""
    mirrored = onnx.ModelProto()
    mirrored.CopyFrom(model)
    for node in mirrored.graph.node:
        if node.op_type in ("Add", "Mul", "Sum") and not node.attribute:
            inputs = list(node.input)[::-1]
            del node.input[:]
            node.input.extend(inputs)
    return mirrored


def _seeds(first: int) -> range:
    return range(first, min(first + _AT_ONCE, _COUNT))


@pytest.mark.parametrize("first", range(0, _COUNT, _AT_ONCE))
def test_random_networks_compute_the_same_in_any_order_of_operands(first: int) -> None:
    for seed in _seeds(first):
        _check(seed)


@pytest.mark.parametrize("name", NESTINGS)
@pytest.mark.parametrize("first", range(0, _COUNT // len(NESTINGS), _AT_ONCE))
def test_random_networks_elsewhere_compute_the_same(first: int, name: str) -> None:
    for seed in _seeds(first):
        _check(seed, NESTINGS[name])
