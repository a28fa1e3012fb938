"""Sessions of ONNX Runtime: which of them live on."""

from pathlib import Path

import numpy as np
import pytest
from handfold import network

from bnfold.verification.options import VerifyOptions
from bnfold.verification.runs.bench import Bench
from bnfold.verification.runs.loadable import runnable
from bnfold.verification.runs.providers import CPU
from bnfold.verification.runs.sessions import DISABLE_ALL, ENABLE_ALL, KEPT, run

FEED = {"x": np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(network(0).SerializeToString())
    return path


def test_a_small_session_that_was_profiled_gives_the_same_again(path: Path, tmp_path: Path) -> None:
    found = run(runnable(path), DISABLE_ALL, CPU, [FEED], profile=tmp_path)
    assert found.session is not None
    assert found.executed
    [again] = found.session.run(["y"], FEED)
    assert np.array_equal(again, found.outputs[0]["y"])
    assert run(runnable(path), DISABLE_ALL, CPU, [FEED]).session is None


def test_timing_loads_no_small_model_anew(path: Path, tmp_path: Path) -> None:
    bench = started(path, tmp_path)
    kept = [each.session for each in bench.originals.baselines[0].plain.values()]
    assert all(session is not None for session in kept)
    [told] = bench.times(path)["times"]
    assert set(told["levels"]) == {ENABLE_ALL, DISABLE_ALL}


@pytest.mark.parametrize(
    ("size", "kept"),
    [(KEPT[DISABLE_ALL] + 1, [ENABLE_ALL]), (KEPT[ENABLE_ALL] + 1, [])],
)
def test_no_session_of_a_large_file_is_kept(tmp_path: Path, size: int, kept: list[str]) -> None:
    path = tmp_path / "large.onnx"
    model = network(0)
    model.doc_string = "x" * size
    path.write_bytes(model.SerializeToString())
    bench = started(path, tmp_path)
    runs = bench.originals.baselines[0].plain
    assert [level for level, run in runs.items() if run.session is not None] == kept
    bench.times(path)
    assert all(run.session is None for run in runs.values()), "those of the other level come next"


def started(path: Path, folder: Path) -> Bench:
    bench = Bench(path, VerifyOptions(providers=("cpu",)), lambda _: None, folder)
    bench.start()
    bench.compare(path)
    return bench
