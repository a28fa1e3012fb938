"""What `bnfold verify` says of models that other tools folded, right ones and wrong ones.

    python benchmarks/others.py
    python benchmarks/others.py --folder networks/ --only onnxsim onnxslim

Each tool folds every network in a process of its own, and `bnfold verify` compares what it wrote
with the original: once as it is, and once with the weights of a convolution in the middle off by
one in ten thousand, as a wrong fold might leave them. Nobody tells bnfold what was folded.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import contenders
import numpy as np
import onnx
from measure import HERE, provenance, run, table
from onnx import numpy_helper

TOOLS: Final = ("onnxruntime", "onnxscript", "onnxslim", "onnxsim", "onnxoptimizer")

_OFF: Final = 1.0001
_FLOATS: Final = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_VERDICTS: Final = {
    "passed": "passed",
    "passed by proof": "passed",
    "passed by outputs": "by outputs",
    "inconclusive": "inconclusive",
    "failed": "failed",
}


def verdict(original: Path, candidate: Path) -> tuple[str, str]:
    """Return what `bnfold verify` says of a pair, and why."""
    report = candidate.with_suffix(".json")
    words: list[str | Path] = [sys.executable, "-m", "bnfold", "verify", original, candidate]
    done = run([*words, "--report", report, "-q"])
    if not report.exists():
        return "refused", done.errors.strip()
    found = json.loads(report.read_text(encoding="utf-8"))["verification"]
    return _VERDICTS[found["verdict"]], found["reason"]


def spoil(path: Path, target: Path) -> bool:
    """Write the model with one weight off; return False where it has none that will do."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    stored = {t.name: t for t in model.graph.initializer if t.data_type in _FLOATS}
    weights = [
        node.input[1]
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in stored
    ]
    if not weights:
        return False
    tensor = stored[weights[len(weights) // 2]]
    values = numpy_helper.to_array(tensor)
    spoilt = (values * _OFF).astype(values.dtype)
    if np.array_equal(spoilt, values):
        return False
    tensor.CopyFrom(numpy_helper.from_array(spoilt, tensor.name))
    target.write_bytes(model.SerializeToString())
    return True


def row(tool: str, networks: Sequence[Path], folder: Path) -> list[str]:
    """Return a tool's row; say on stderr what was not proved, and what is wrong and not told."""
    counts: Counter[str] = Counter()
    for source in networks:
        target, wrong = folder / f"{source.stem}.{tool}.onnx", folder / "wrong.onnx"
        if not run([sys.executable, HERE / "contenders.py", tool, source, target]).ok:
            counts["the tool fails"] += 1
            continue
        said, why = verdict(source, target)
        counts[said] += 1
        if said != "passed":
            print(f"{source.name}, {tool}: {said}: {why}", file=sys.stderr)
        if said in ("failed", "refused") or not spoil(target, wrong):
            continue
        counts["spoilt"] += 1
        said, why = verdict(source, wrong)
        counts["told"] += said == "failed"
        if said != "failed":
            print(f"{source.name}, {tool}, one weight off: {said}: {why}", file=sys.stderr)
    shown = ("the tool fails", "passed", "by outputs", "inconclusive", "failed", "refused")
    told = f"{counts['told']} of {counts['spoilt']}"
    return [tool, *(str(counts[name]) for name in shown), told]


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, fold, verify, print."""
    parser = argparse.ArgumentParser(description="Verdicts on what other tools folded.")
    parser.add_argument("networks", type=Path, nargs="*", help="[default: those of models/]")
    parser.add_argument("--folder", type=Path, help="also the networks in this folder")
    parser.add_argument("--only", nargs="*", default=list(TOOLS), choices=TOOLS, metavar="NAME")
    arguments = parser.parse_args(words)
    networks = arguments.networks or sorted((HERE.parent / "models").glob("*.onnx"))
    if arguments.folder is not None:
        networks += sorted(arguments.folder.glob("*.onnx"))
    tools = [tool for tool in arguments.only if contenders.is_installed(tool)]
    print(provenance())
    print(f"\n{len(networks)} networks:\n")
    head = [
        "folded by", "tool fails", "proved", "by outputs", "inconclusive", "failed", "refused",
        f"weight × {_OFF}: failed",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bnfold-benchmark-") as name:
        print(table(head, [row(tool, networks, Path(name)) for tool in tools]))


if __name__ == "__main__":
    main()
