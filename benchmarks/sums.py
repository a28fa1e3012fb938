"""What merging branches gains: convolutions, multiply-accumulates, and how many times as fast.

    python benchmarks/sums.py
    python benchmarks/sums.py --seconds 20 network.onnx another.onnx

Each network is folded by `bnfold MODEL --time SECONDS --report R.json`, once as ever and once with
`--no-merge`, and the table is what the reports say. The ratios are of medians of runs of the
original and of what was made of it, in turn, so that load on the machine counts for both; they are
given for ORT_DISABLE_ALL and ORT_ENABLE_ALL. Behind each the ratio that `--no-merge` reaches, in
parentheses: what folding gains without the sums. Without arguments it takes the networks of
`models/` that have such branches; full-size ones come from timm, by the scripts in `models/`.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gain import asked, report_of, spread
from measure import HERE, provenance, table

_HEAD: Final = (
    "network",
    "BN",
    "convolutions and products",
    "million MACs",
    "nodes",
    "times as fast, DISABLE_ALL",
    "ENABLE_ALL",
)


def default_models() -> Iterator[Path]:
    """Name the committed networks that have branches to merge."""
    for name in ("repvgg", "repvgg_raw", "mobileone", "fastvit_dynamo"):
        yield HERE.parent / "models" / f"{name}.onnx"


def row(model: Path, merged: Mapping[str, Any], apart: Mapping[str, Any]) -> list[str]:
    """Return the line of one network, from what both reports say."""
    sides = [merged["before"], merged["after"]]
    costs = [merged["cost_before"], merged["cost_after"]]
    macs = [cost["multiply_accumulates"] for cost in costs]
    told = "" if None in macs else " → ".join(f"{n / 1e6:.4g}" for n in macs)
    ratios = zip(_ratios(merged), _ratios(apart), strict=True)
    return [
        model.stem,
        " → ".join(str(side["batch_normalizations"]) for side in sides),
        " → ".join(str(cost["linear_operators"]) for cost in costs),
        told,
        " → ".join(str(side["nodes"]) for side in sides),
        *(f"{one} ({other})" for one, other in ratios),
    ]


def _ratios(told: Mapping[str, Any]) -> list[str]:
    """Return how many times as fast the folded network is at each level, with the spread."""
    verification = told["verification"]
    executed = [] if verification is None else verification["providers"][0]["executed"]
    return [_ratio(each["timing"]) for each in executed] or ["1", "1"]


def _ratio(timing: Mapping[str, Any] | None) -> str:
    if timing is None:
        return "not measured"
    ratio = timing["before"]["median"] / timing["after"]["median"]
    return f"{ratio:.2f} ± {spread(timing):.0%}"


def main() -> None:
    """Read the command line, measure, print."""
    arguments = asked("What merging branches gains.")
    print(provenance())
    print()
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="bnfold-benchmark-") as name:
        for model in arguments.models or default_models():
            seconds = arguments.seconds
            merged = report_of(model, Path(name), seconds)
            apart = report_of(model, Path(name), seconds, "--no-merge")
            found.append(row(model, merged, apart))
    print(table(_HEAD, found))


if __name__ == "__main__":
    main()
