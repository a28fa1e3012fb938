"""Static quantization of real networks, as benchmarks/quantization.py does it, on ONNX Runtime."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import ROOT

pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of onnxruntime.quantization
]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(f"{folder}/quantization.py")
    finally:
        sys.path.remove(folder)


def figures(script: dict[str, Any], network: str, folder: Path) -> dict[tuple[str, str], list[str]]:
    model = ROOT / "models" / f"{network}.onnx"
    data = script["digits"]() if network == "digits" else script["random_data"](model)
    return {tuple(row[:2]): list(row[2:]) for row in script["rows"](model, data, folder)}


def decibels(row: list[str]) -> float:
    return float(row[-1].removesuffix(" dB"))


def test_folded_digits_lose_less_and_have_fewer_nodes(
    script: dict[str, Any], tmp_path: Path
) -> None:
    found = figures(script, "digits", tmp_path)
    for per in ("tensor", "channel"):
        before, after = found["as exported", per], found["folded", per]
        assert (before[:2], after[:2]) == (["8", "72"], ["0", "48"])
        assert float(after[2].removesuffix("%")) >= float(before[2].removesuffix("%")) > 98
        assert decibels(after) > decibels(before) + 0.5


@pytest.mark.full
def test_what_folding_hurts_is_repaired(script: dict[str, Any], tmp_path: Path) -> None:
    found = figures(script, "perceptron", tmp_path)
    for per in ("tensor", "channel"):
        exported = decibels(found["as exported", per])
        assert decibels(found["folded", per]) < exported - 5
        assert decibels(found["--for-quantization", per]) > exported - 1
    found = figures(script, "mobilenet", tmp_path)
    exported = decibels(found["as exported", "tensor"])
    assert decibels(found["folded", "tensor"]) < exported - 10
    assert decibels(found["folded", "channel"]) > decibels(found["as exported", "channel"])
    assert decibels(found["--for-quantization --per-tensor", "tensor"]) > exported - 3
