import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
HIDING_THE_PEERS = """
import runpy, sys
for peer in ("onnx_ir", "onnxoptimizer", "onnxscript", "onnxsim", "onnxslim"):
    sys.modules[peer] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[1])
del sys.argv[1]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "script",
    [
        "charts.py",
        "files.py",
        "gain.py",
        "graphs.py",
        "verify_cost.py",
        "large.py",
        "others.py",
        "peers.py",
        "run_all.py",
        "quantization.py",
        "sums.py",
        "toolchains.py",
    ],
)
def test_scripts_explain_themselves_without_the_peers(script: str) -> None:
    path = BENCHMARKS / script
    words: list[str | Path] = [sys.executable, "-c", HIDING_THE_PEERS, path, BENCHMARKS, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert script in done.stdout
    assert "--help" in done.stdout
