"""Runners compute what ONNX Runtime does; with `bnfold[test-edge]` installed."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from commandline import MODELS, ROOT, run_here

RUNNERS = ROOT / "benchmarks" / "runners"


@pytest.mark.full
@pytest.mark.parametrize(
    ("package", "runner"),
    [
        ("openvino", "openvino_cpu"),
        ("cv2", "opencv_dnn"),
        ("tract", "tract_onnx"),
        ("onnx2torch", "onnx2torch_eager"),
        ("tvm", "tvm_relax"),
        ("iree.runtime", "iree_cpu"),
        ("emx_onnx_cgen", "emx_c"),
    ],
)
def test_a_runtime_computes_the_same_of_the_folded_model(
    package: str, runner: str, tmp_path: Path
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: bnfold[test-edge]")
    done = run_here(MODELS / "digits.onnx", "-o", "net.onnx", "--lift-constants", cwd=tmp_path)
    assert done.code == 0, done.err
    image = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    np.savez(tmp_path / "inputs.npz", image=image)
    words = [RUNNERS / f"{runner}.py", "net.onnx", "inputs.npz", "logits", "result.npy", "0.1"]
    subprocess.run([sys.executable, *map(str, words)], cwd=tmp_path, check=True)
    session = onnxruntime.InferenceSession(MODELS / "digits.onnx")
    (right,) = session.run(None, {"image": image})
    np.testing.assert_allclose(np.load(tmp_path / "result.npy"), right, rtol=1e-4, atol=1e-5)
    assert float((tmp_path / "result.txt").read_text()) > 0


def test_variants_that_are_one_file_are_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    toolchains = importlib.import_module("toolchains")
    contents = {"original": b"a", "folded": b"b", "lifted": b"b"}
    files = {name: tmp_path / name for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(content)
    ran: list[str] = []

    def run(_environment: object, _subject: object, variant: str, _seconds: float) -> str:
        ran.append(variant)
        return f"outcome of {variant}"

    monkeypatch.setattr(toolchains, "run", run)
    subject = toolchains.Subject("net", files, tmp_path, "y", np.zeros(1))
    outcomes = toolchains.run_all(toolchains.Environment(None, tmp_path), subject)
    assert ran == ["original", "folded"]
    assert outcomes == ["outcome of original", "outcome of folded", "outcome of folded"]


def test_results_tell_at_which_commits_they_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    toolchains = importlib.import_module("toolchains")
    kept = tmp_path / "results.json"
    for commit in ("a1", "b2", "b2"):
        monkeypatch.setattr(toolchains, "_commit", lambda commit=commit: commit)
        toolchains.Results.of(kept).add("mnn", "net", [toolchains.Outcome(0.5)], "MNN 3")
    assert toolchains.Results.of(kept).commits == {"mnn": ["a1", "b2"]}


def test_a_toolchain_without_its_python_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    toolchains = importlib.import_module("toolchains")
    needs = toolchains.Toolchain("Net", "net", ("net",), ("net",), interpreter="python0.0")
    with pytest.raises(toolchains.Unavailable, match="is not installed"):
        toolchains.Environment(needs, tmp_path / "net").install()


def test_the_page_says_of_its_tables_what_is_true() -> None:
    """What is right as exported is right folded, and the counts are those of the figures."""
    page = (ROOT / "docs" / "toolchains.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    start = next(place for place, row in enumerate(rows) if row[0] == "model")
    counts, names = {row[0]: row for row in rows[1:start] if row[0] != "---"}, rows[start][1:]
    for column, name in enumerate(names, start=1):
        cells = [row[column].split(" → ") for row in rows[start + 2 :]]
        right = np.array([[cell[0].isdigit() for cell in each] for each in cells])
        assert np.all(right[:, 1] >= right[:, 0]), name
        loads = np.array([[cell not in ("–", "crash") for cell in each] for each in cells])
        sums = zip(loads.sum(axis=0), right.sum(axis=0), strict=True)
        told = [f"{loaded} ({good})" for loaded, good in sums]
        assert counts[name][1:5] == [*told, str(len(cells))], name
