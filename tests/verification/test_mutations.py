"""A short version of the mutation study: planted faults are caught, correct folds pass."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

BENCHMARKS: Final = Path(__file__).resolve().parents[2] / "benchmarks"
NETWORKS: Final = {"plain": 0, "depthwise": 2, "residual-float16": 4}
ROUNDINGS_OF_A_STRANGER: Final = 4.0


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("mutation_study")


@pytest.fixture(scope="module", params=list(NETWORKS.values()), ids=list(NETWORKS))
def results(study: ModuleType, request: pytest.FixtureRequest) -> Any:
    return study.study_one(request.param, seed=1, deepest=5)


def described(result: Any) -> str:
    return f"{result.fault}, {result.size:.3g} roundings: {result.verdicts}"


def test_correct_folds_are_not_rejected(study: ModuleType, results: Any) -> None:
    [fold] = [r for r in results if r.fault == study.CORRECT]
    assert not fold.rejected & {study.TOLD, study.UNTOLD}, described(fold)
    assert fold.size <= 1


def test_faults_above_rounding_are_caught(study: ModuleType, results: Any) -> None:
    faults = [r for r in results if r.fault != study.CORRECT]
    assert len(faults) >= len(study.FAULTS) - 1  # float16 cannot be rounded through float16
    for fault in faults:
        if fault.size > 1:
            assert study.TOLD in fault.rejected, described(fault)
        if fault.size > ROUNDINGS_OF_A_STRANGER:
            assert study.UNTOLD in fault.rejected, described(fault)


def test_the_report_counts_every_fault_once(study: ModuleType, results: Any) -> None:
    printed = study.report(results)
    counted = [
        int(line.split("|")[2])
        for line in printed.splitlines()
        if any(line.startswith(f"| {fault}, ") for fault in study.FAULTS)
    ]
    assert sum(counted) == len(results) - 1
