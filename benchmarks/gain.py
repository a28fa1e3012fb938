"""What ONNX Runtime executes and how long it takes, before and after folding.

    python benchmarks/gain.py
    python benchmarks/gain.py --seconds 20 network.onnx another.onnx

Each network is folded by `bnfold MODEL --time SECONDS --report R.json`, and the table is what the
report says: the nodes that are executed by ONNX Runtime's own profile, and the median time of runs
of both models in turn, at ORT_DISABLE_ALL (what a runtime without optimizations of its own
executes) and at ORT_ENABLE_ALL. Where the quartiles of the two overlap there is no difference.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import networks
from measure import HERE, provenance, run, table

_GENERATED: Final = (5, 45)
"""Megabytes."""
_HEAD: Final = (
    "network",
    "level",
    "nodes",
    "batch normalizations",
    "time of a run",
    "spread",
    "",
)


def default_models(folder: Path) -> Iterator[Path]:
    """Generate the networks of `networks.py`, and name the committed ones."""
    for megabytes in _GENERATED:
        path = folder / f"bottlenecks_{megabytes}MB.onnx"
        networks.generate(path, megabytes, image=56)
        yield path
    yield from sorted((HERE.parent / "models").glob("*.onnx"))


def report_of(model: Path, folder: Path, seconds: float, *more: str) -> Mapping[str, Any]:
    """Fold a network, with more options, and return what the report says.

    Raises:
        RuntimeError: It cannot be folded.
    """
    report = folder / "report.json"
    options: list[str | Path] = [
        "-o",
        folder / "folded.onnx",
        "--provider",
        "cpu",
        "--time",
        str(seconds),
        "-q",
    ]
    bnfold: list[str | Path] = [sys.executable, "-m", "bnfold", model]
    command = [*bnfold, *options, *more, "--report", report]
    sample = run(command)
    if not sample.ok:
        raise RuntimeError(f"{model}: {sample.errors}")
    told: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def rows(model: Path, told: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each level."""
    if told["verification"] is None:
        return
    counts = [told[side]["batch_normalizations"] for side in ("before", "after")]
    for each in told["verification"]["providers"][0]["executed"]:
        nodes = [each[side]["nodes"] for side in ("before", "after")]
        level = each["level"].removeprefix("ORT_")
        yield [model.stem, level, _pair(nodes), _pair(counts), *_timing(each["timing"])]


def _pair(numbers: Sequence[float]) -> str:
    return f"{numbers[0]} → {numbers[1]}"


def _timing(timing: Mapping[str, Any] | None) -> list[str]:
    if timing is None:
        return ["", "", "not measured"]
    sides = [timing["before"], timing["after"]]
    medians = [side["median"] for side in sides]
    claim = timing["verdict"]
    if claim != "no difference":
        claim = f"{abs(1 - medians[1] / medians[0]):.0%} {'less' if claim == 'faster' else 'more'}"
    return [_pair([round(1e3 * m, 3) for m in medians]) + " ms", f"± {spread(timing):.0%}", claim]


def spread(timing: Mapping[str, Any]) -> float:
    """Return by what part of the median runs lie around it, on the side where they do so more."""
    sides = timing["before"], timing["after"]
    parts: list[float] = [(side["high"] - side["low"]) / 2 / side["median"] for side in sides]
    return max(parts)


def asked(description: str) -> argparse.Namespace:
    """Read a command line of networks, and how long to time each."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("models", type=Path, nargs="*", help="[default: see the script]")
    parser.add_argument("--seconds", type=float, default=5.0, help="for timing each network")
    return parser.parse_args()


def main() -> None:
    """Read the command line, measure, print."""
    arguments = asked("What is executed, and how long it takes.")
    print(provenance())
    print()
    with tempfile.TemporaryDirectory(prefix="bnfold-benchmark-") as name:
        folder = Path(name)
        found: list[list[str]] = []
        for model in arguments.models or default_models(folder):
            found.extend(rows(model, report_of(model, folder, arguments.seconds)))
        print(table(_HEAD, found))


if __name__ == "__main__":
    main()
