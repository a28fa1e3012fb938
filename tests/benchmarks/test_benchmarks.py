"""Every benchmark runs from end to end at its smallest; no time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import pytest
from commandline import run_here, write

if TYPE_CHECKING:
    from types import ModuleType

ROOT: Final = Path(__file__).resolve().parents[2]
BENCHMARKS: Final = ROOT / "benchmarks"
PEERS: Final = ("onnxoptimizer", "onnxsim", "onnxslim", "onnxscript", "onnxruntime")

pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="processes are measured by wait4")


def run(script: str, *words: str | Path) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(printed: str, first: str) -> list[str]:
    """The cells of the table row that begins so."""
    (line,) = (row for row in printed.splitlines() if row.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("contenders")


@pytest.mark.parametrize("form", [[], ["--external"]], ids=["inline", "external"])
def test_generated_networks_pass_on_the_command_line(tmp_path: Path, form: list[str]) -> None:
    path = tmp_path / "network.onnx"
    run("networks.py", "2", path, *form)
    _fold_and_prove(path)


@pytest.mark.parametrize("kind", ["straight", "branchy"])
def test_generated_graphs_pass_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    path = tmp_path / "graph.onnx"
    write(getattr(importlib.import_module("graphs"), kind)(60), path)
    _fold_and_prove(path)


def _fold_and_prove(path: Path) -> None:
    words = ("--provider", "cpu", "--time", "0", "-q", "--report", "report.json")
    done = run_here(path.name, *words, cwd=path.parent)
    assert done.code == 0, done.text
    report = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert report["folds"]
    assert report["verification"]["structure"]["proved"]


@pytest.mark.parametrize("form", [[], ["--external"]], ids=["inline", "external"])
def test_generated_networks_are_sound_and_their_weights_are_where_it_says(
    tmp_path: Path, form: list[str]
) -> None:
    path = tmp_path / "network.onnx"
    run("networks.py", "0.3", path, *form)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load_model_from_string(path.read_bytes())
    onnx.external_data_helper.load_external_data_for_model(model, str(tmp_path))
    listing = json.loads((tmp_path / "network.onnx.json").read_text(encoding="utf-8"))
    data = (tmp_path / listing["file"]).read_bytes()
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    for tensor, (offset, length) in zip(weights, listing["weights"], strict=True):
        assert data[offset : offset + length] == tensor.raw_data
    assert sum(map(len, (tensor.raw_data for tensor in weights))) == pytest.approx(0.3e6, rel=0.5)


@pytest.mark.parametrize("form", [[], ["--external"]], ids=["inline", "external"])
def test_the_floor_copies_all_and_halves_the_weights(tmp_path: Path, form: list[str]) -> None:
    source, target = tmp_path / "network.onnx", tmp_path / "copy.onnx"
    run("networks.py", "0.3", source, *form)
    run("contenders.py", "floor", source, target)
    listing = json.loads((tmp_path / "network.onnx.json").read_text(encoding="utf-8"))
    holder = tmp_path / listing["file"]
    copied = target.with_name(holder.name.replace("network", "copy"))
    before, after = bytearray(holder.read_bytes()), copied.read_bytes()
    for offset, length in listing["weights"]:
        halved = np.frombuffer(before, np.float32, length // 4, offset) / 2
        before[offset : offset + length] = halved.astype(np.float32).tobytes()
    assert after == before


def test_files(tmp_path: Path) -> None:
    sizes = ["--sizes", "0.3", "--rounds", "1"]
    printed = run("files.py", *sizes, "--folder", tmp_path, "--explain")
    for name in ("bnfold --no-verify", "imports alone", "cp", "floor", "floor, on the disk"):
        assert cells(printed, name)[1].endswith(" s")
    for name in ("onnxruntime", "onnxscript", "onnxslim", "onnxsim"):
        assert cells(printed, name)[1] == "not installed" or cells(printed, name)[1].endswith(" s")
    assert cells(printed, "memory < 150 MB + 2 × largest tensor")[-1] in ("met", "missed")
    for stage in ("import libraries", "open", "graphsurgeon", "plan", "rewrite", "save", "fsync"):
        assert cells(printed, stage)[1].endswith(" s")
    assert not list(tmp_path.iterdir())


def test_graphs() -> None:
    printed = run("graphs.py", "--nodes", "60", "--rounds", "1")
    assert cells(printed, "chain of Conv, BN, Relu")[1] == "60"
    assert len(re.findall(r" ms \|", printed)) == 2


def test_verify_cost(tmp_path: Path) -> None:
    model = ROOT / "models" / "perceptron.onnx"
    printed = run("verify_cost.py", model, "--rounds", "1", "--folder", tmp_path)
    head, row = cells(printed, "network"), cells(printed, "perceptron.onnx")
    assert len(row) == len(head)
    assert dict(zip(head, row, strict=True))["target"] in ("met", "missed")


def test_peers() -> None:
    printed = run("peers.py", ROOT / "models" / "digits.onnx")
    (head,) = (row for row in printed.splitlines() if row.startswith("| network |"))
    assert [cell.strip() for cell in head.strip("| ").split(" | ")][2:] == [*PEERS, "bnfold"]
    before, *left = cells(printed, "digits.onnx")[1:]
    assert before == "8"
    assert left[-1] == "0"
    assert all(cell in ("0", "not installed") for cell in left)


def test_others() -> None:
    printed = run("others.py", ROOT / "models" / "digits.onnx", "--only", "onnxruntime")
    assert cells(printed, "onnxruntime")[1:] == ["0", "1", "0", "0", "0", "0", "1 of 1"]


def test_a_wrong_fold_is_told_from_a_right_one(tmp_path: Path) -> None:
    source = ROOT / "models" / "digits.onnx"
    model = onnx.load_model_from_string(source.read_bytes())
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(model.SerializeToString())
    assert run("peers.py", "--compare", source, source).strip() == "same"
    assert run("peers.py", "--compare", source, wrong).startswith("differs")


def test_what_is_not_installed_is_said(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CONTENDERS, "onnxslim", ("no_such_package", module.onnxslim_all))
    assert not module.is_installed("onnxslim")
    assert module.is_installed("floor")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_measured_of_parent_and_child() -> None:
    said = run("large.py", "--megabytes", "3", "--channels", "64")
    [row] = [line for line in said.splitlines() if line.startswith("| bnfold |")]
    assert all(int(cell.split()[0]) > 10 for cell in row.split("|")[3:5])
