"""Models small enough to be folded by hand, and what bnfold makes of each."""

from __future__ import annotations

import onnx
import pytest
from evaluation import assert_same
from goldencase import Golden, cases, kept_lines
from invariants import check_invariants

from bnfold.errors import ModelError
from bnfold.reasons import Reason

_CASES = cases()
_VALID = [case for case in _CASES if "invalid" not in case.sections]


def _named(listed: list[Golden]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", listed, ids=[case.name for case in listed])


@_named(_VALID)
def test_a_case(case: Golden) -> None:
    folding = case.fold()
    assert onnx.printer.to_text(folding.model) == case.expected
    assert list(kept_lines(folding)) == case.kept


@_named(_VALID)
def test_a_case_computes_the_same(case: Golden) -> None:
    model, folding = case.model, case.fold()
    onnx.checker.check_model(model, full_check=True)
    if "options" not in case.sections:
        check_invariants(model, folding)
    if folding.folds:
        assert_same(model, folding.model, elem_type=onnx.TensorProto.FLOAT)


@_named([case for case in _CASES if "invalid" in case.sections])
def test_a_case_is_invalid(case: Golden) -> None:
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnx.checker.check_model(case.model, full_check=True)
    with pytest.raises(ModelError) as caught:
        case.fold()
    assert f"{caught.value}\n" == case.sections["invalid"]


def test_every_reason_has_a_case() -> None:
    shown = set().union(*(case.reasons for case in _CASES))
    assert shown == {reason.value for reason in Reason}
