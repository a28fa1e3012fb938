"""Masks set no allowance for what they do not cover."""

import numpy as np
import pytest

from bnfold.verification.comparison import OutputVerdict
from bnfold.verification.runs.compare import compare_output
from bnfold.verification.runs.magnitudes import groups

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((4, 6)).astype(np.float32)
LEGAL = np.array([[1, 1, 0, 1, 0, 1]] * 4, bool)


def masked(values: np.ndarray, mask: float) -> np.ndarray:
    return np.where(LEGAL, values, np.float32(mask) + values).astype(np.float32)


@pytest.mark.parametrize("mask", [-1e8, -1e4, -3e38, 65504.0])
def test_a_mask_hides_nothing(mask: float) -> None:
    original, noisy = masked(LOGITS, mask), masked(LOGITS * np.float32(1 + 1e-7), mask)
    same = compare_output("y", "L", original, [noisy], masked(LOGITS * np.float32(1 - 1e-7), mask))
    wrong = compare_output("y", "L", original, [noisy], masked(LOGITS * np.float32(1.001), mask))
    assert same.verdict is OutputVerdict.AGREES
    assert same.no_evidence == np.count_nonzero(~LEGAL)
    assert same.magnitude < 10
    assert wrong.verdict is OutputVerdict.DIFFERS


def test_another_mask_differs() -> None:
    original = masked(LOGITS, -1e8)
    found = compare_output("y", "L", original, [original], masked(LOGITS, -1.1e8))
    assert found.verdict is OutputVerdict.DIFFERS


def test_scores_beside_large_boxes_are_judged_as_scores() -> None:
    boxes, scores = RNG.uniform(1000, 4000, 64), RNG.uniform(0.01, 0.9, 64)
    original = np.concatenate([boxes, scores]).astype(np.float32)
    wrong = np.concatenate([boxes, scores * 1.001]).astype(np.float32)
    found = compare_output("y", "L", original, [original], wrong)
    assert found.verdict is OutputVerdict.DIFFERS


@pytest.mark.parametrize(
    "values",
    [
        RNG.standard_normal(1000) * 1e6,
        np.exp(-RNG.uniform(0, 60, 1000)),
        10.0 ** np.linspace(-8, 8, 100),
        np.zeros(7),
        np.array([0.0, 0.0, 1e8]),
        np.array([np.nan, np.inf, 5.0]),
    ],
)
def test_what_is_of_all_magnitudes_is_one_group(values: np.ndarray) -> None:
    assert len(groups(values)) == 1
