"""Headlines that say no more than is true."""

from typing import Any

import pytest

from bnfold.reports.page.outcome import Tone, outcome


def entry(before: int, after: int, **other: Any) -> dict[str, Any]:
    return {
        "error": None,
        "exit_code": 0,
        "before": {"batch_normalizations": before},
        "after": {"batch_normalizations": after},
        "folds": [{"taken": ["one"]}] if before != after else [],
        "kept": [{"above": {"reason": "not-linear"}}] * after,
        "target": {"path": "n.onnx"},
        "verification": {"verdict": "passed"},
        **other,
    }


@pytest.mark.parametrize(
    ("told", "tone", "headline"),
    [
        (entry(8, 0), Tone.GOOD, "8 of 8 batch normalizations folded, verified"),
        (entry(5, 4), Tone.FAIR, "1 of 5 batch normalizations folded, verified"),
        (entry(1, 0, target=None), Tone.PLAIN, "1 of 1 batch normalization can be folded"),
        (entry(5, 4, target=None), Tone.FAIR, "1 of 5 batch normalizations can be folded"),
        (
            entry(2, 0, verification=None),
            Tone.FAIR,
            "2 of 2 batch normalizations folded, not verified",
        ),
        (
            entry(2, 0, verification={"verdict": "passed by proof"}),
            Tone.GOOD,
            "2 of 2 batch normalizations folded, verified by proof",
        ),
        (entry(5, 5), Tone.FAIR, "None of 5 batch normalizations can be folded"),
        (entry(0, 0), Tone.PLAIN, "Nothing to fold"),
        (entry(0, 0, folds=[{"taken": ["a", "b"]}]), Tone.GOOD, "2 nodes folded, verified"),
        (
            entry(2, 2, kept=[{"above": {"reason": "training-mode"}}] * 2),
            Tone.FAIR,
            "2 nodes are in training mode",
        ),
        (
            entry(2, 0, error="x", exit_code=3, verification={"verdict": "failed"}),
            Tone.BAD,
            "Verification failed: nothing was written",
        ),
        ({"error": "x", "exit_code": 2}, Tone.BAD, "Could not be folded"),
        (
            {"error": None, "candidate": {}, "exit_code": 0},
            Tone.GOOD,
            "Both models compute the same but for rounding",
        ),
        (
            {"error": "x", "candidate": {}, "exit_code": 3, "verification": {"verdict": "failed"}},
            Tone.BAD,
            "Verification failed",
        ),
    ],
)
def test_headlines(told: dict[str, Any], tone: Tone, headline: str) -> None:
    found = outcome(told)
    assert (found.tone, found.headline) == (tone, headline)
    assert found.is_problem == (tone in (Tone.BAD, Tone.FAIR))
