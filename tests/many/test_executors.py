"""Executors of other packages that docs/many.md names, each where it is installed."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, ROOT, convolution, files, load, normalizations, write

pytestmark = pytest.mark.full

FOLDING = """
import json, sys
import bnfold
{made}
if __name__ == "__main__":
    pairs = [(name, f"out/{{name}}") for name in sys.argv[1:]]
    with {executor} as executor:
        for outcome in bnfold.fold_many(pairs, executor=executor, verify=None, ahead=4):
            print(json.dumps([str(outcome.source), outcome.written, outcome.error]), flush=True)
"""


def page_block(name: str) -> str:
    """Return the block of the page that defines a class."""
    text = (ROOT / "docs" / "many.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = [str(block) for block in blocks if f"class {name}(" in block]
    return found


def needed(*modules: str, program: str = "") -> None:
    """Skip the test where something is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    if program and shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def fold_in(folder: Path, made: str, executor: str, *start: str) -> None:
    """Fold eleven models, one of which is none, in a process of its own."""
    (folder / "fold.py").write_text(FOLDING.format(made=made, executor=executor))
    names = [write(convolution(), folder / f"{number}.onnx").name for number in range(10)]
    (folder / "bad.onnx").write_text("no model")
    done = subprocess.run(
        [*start, "fold.py", *names, "bad.onnx"],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    found = {source: (written, error) for source, written, error in outcomes}
    assert len(outcomes) == 11, "each is told once"
    written, error = found.pop("bad.onnx")
    assert not written
    assert error.startswith("bad.onnx: this is not an ONNX model")
    assert found == dict.fromkeys(names, (True, ""))
    assert files(folder / "out") == set(names)
    assert all(normalizations(load(folder / "out" / name)) == 0 for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path


def test_loky(folder: Path) -> None:
    needed("loky")
    fold_in(
        folder, "from loky import ProcessPoolExecutor", "ProcessPoolExecutor(2)", sys.executable
    )


def test_mpi(folder: Path) -> None:
    needed("mpi4py", program="mpiexec")
    fold_in(
        folder,
        "from mpi4py.futures import MPIPoolExecutor",
        "MPIPoolExecutor()",
        *("mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures"),
    )


def test_ray(folder: Path) -> None:
    needed("ray")
    made = page_block("RayExecutor") + 'ray.init(num_cpus=2, logging_level="critical")\n'
    fold_in(folder, made, "RayExecutor()", sys.executable)
