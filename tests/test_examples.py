"""The Python of README and docs runs as it is written.

Recipes, formulas and the tutorial have tests of their own.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from commandline import ROOT, convolution, files, model_in, run_here, write

import bnfold

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str) -> list[str]:
    return _BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def statements(code: str) -> Iterator[str]:
    """Yield the statements one by one."""
    for node in ast.parse(code).body:
        yield ast.get_source_segment(code, node) or ""


def perform(code: str, names: dict[str, Any]) -> None:
    """Do what an example says; outcomes that nobody asks for would never come."""
    for statement in statements(code):
        exec(compile(statement, "an example", "exec"), names)  # noqa: S102 - our own pages
        outcomes = names.pop("outcomes", ())
        assert [outcome.error for outcome in outcomes if outcome.error] == []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cannot_run() -> AbstractContextManager[object]:
    """Where there is no CUDA, an example says that it raises; where there is, it may work."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return suppress(bnfold.ProviderError)
    return pytest.raises(bnfold.ProviderError, match="cuda: not in this build")


def test_readme(folder: Path) -> None:
    write(convolution(), folder / "net.onnx")
    model_in(folder, as_name="a.onnx")
    np.savez(folder / "samples.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    (code,) = blocks("README.md")
    names: dict[str, Any] = {}
    everything = [*statements(code)]
    (on_the_gpu,) = (statement for statement in everything if "=on_the_gpu)" in statement)
    for statement in everything:
        with cannot_run() if statement == on_the_gpu else nullcontext():
            perform(statement, names)
    assert files(folder) >= {"net.folded.onnx", "b.onnx"}


def test_a_run_is_repeated_as_the_page_on_reports_says(folder: Path) -> None:
    model_in(folder)
    run_here("digits.onnx", "--report", "R.json", "--seed", "3", "-q", cwd=folder)
    (code,) = blocks("docs/report.md")
    perform(code, {})
    again = (folder / "again.onnx").read_bytes()
    assert again == (folder / "digits.folded.onnx").read_bytes()


def models_of_a_zoo(folder: Path) -> None:
    for name in ("zoo", "folded"):
        (folder / name).mkdir()
    for name in ("a.onnx", "b.onnx"):
        model_in(folder / "zoo", as_name=name)


def test_many_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models_of_a_zoo(folder)
    first = blocks("docs/many.md")[0]
    perform(first, {})
    told = capsys.readouterr().out
    assert {line.split(" ", 2)[1] for line in told.splitlines()} == {"0"}
    assert {"folded/a.onnx", "zoo/b.folded.onnx"} <= files(folder)


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_many_models_in_any_executor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("dask.distributed", reason="needs Dask: bnfold[dask]")
    models_of_a_zoo(folder)
    with distributed.Client(processes=False, dashboard_address=None) as client:
        monkeypatch.setattr(distributed, "Client", {"tcp://scheduler:8786": client}.__getitem__)
        names: dict[str, Any] = {}
        for code in blocks("docs/many.md")[:2]:  # Ray's has a test in tests/many
            perform(code, names)
    assert {"folded/a.onnx", "zoo/b.folded.onnx"} <= files(folder)
