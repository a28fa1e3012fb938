"""What verification costs, beside running both models once at each of the levels it compares at.

    python benchmarks/verify_cost.py
    python benchmarks/verify_cost.py --rounds 3 network.onnx

The cost is the time of `bnfold MODEL` less that of `bnfold MODEL --no-verify`, both whole
processes. The yardstick is one process that loads the original and the folded model and runs
each once at ORT_DISABLE_ALL and once at ORT_ENABLE_ALL. All of them take turns.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from measure import HERE, interleaved, provenance, run, table, wall

_TARGET: Final = 1.5
_YARDSTICK: Final = "--yardstick"
_GENERATED: Final = 45


def run_both(paths: Sequence[str]) -> None:
    """Load and run the models, each at both levels; print how long that took without imports."""
    import numpy as np
    import onnxruntime

    start = time.perf_counter()
    for path in paths:
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            initializers = {each.name for each in session.get_overridable_initializers()}
            random = np.random.default_rng(0)
            feed = {
                each.name: random.standard_normal(
                    [size if isinstance(size, int) else 1 for size in each.shape]
                ).astype(np.float32)
                for each in session.get_inputs()
                if each.name not in initializers
            }
            session.run(None, feed)
    print(time.perf_counter() - start)


def default_models(folder: Path) -> list[Path]:
    """Return a small network, one of the onnx package, and a generated one."""
    import onnx

    generated = folder / f"generated_{_GENERATED}MB.onnx"
    made = run([sys.executable, HERE / "networks.py", str(_GENERATED), generated])
    if not made.ok:
        raise SystemExit(made.errors)
    light = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    return [HERE.parent / "models" / "resnet.onnx", light, generated]


def rows(models: Sequence[Path], out: Path, rounds: int) -> Iterator[list[str]]:
    """Yield a table's row for each model."""
    for model in models:
        folded = out / "folded.onnx"
        command: list[str | Path] = [sys.executable, "-m", "bnfold", model, "-o", folded]
        yardstick: list[str | Path] = [sys.executable, Path(__file__), _YARDSTICK, model, folded]
        samples = interleaved(
            {
                "without": [*command, "--no-verify"],
                "with": command,
                "yardstick": yardstick,
            },
            rounds,
        )
        for name, taken in samples.items():
            if not taken[-1].ok:
                raise SystemExit(f"{model.name}, {name}: {taken[-1].errors}")
        cost = wall(samples["with"]) - wall(samples["without"])
        whole = wall(samples["yardstick"])
        alone = median(float(sample.output) for sample in samples["yardstick"])
        yield [
            model.name,
            f"{wall(samples['without']):.2f} s",
            f"{wall(samples['with']):.2f} s",
            f"{cost:.2f} s",
            f"{whole:.2f} s",
            f"{alone:.2f} s",
            f"{cost / whole:.2f}",
            "met" if cost <= _TARGET * whole else "missed",
        ]


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == [_YARDSTICK]:
        run_both(words[1:])
        return
    parser = argparse.ArgumentParser(description="Time that verification takes.")
    parser.add_argument("models", type=Path, nargs="*", help="[default: three networks]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work [default: the system's]")
    arguments = parser.parse_args(words)
    print(provenance())
    print()
    head = [
        "network",
        "--no-verify",
        "verified",
        "cost",
        "yardstick",
        "without starting Python",
        "cost / yardstick",
        f"≤ {_TARGET}",
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bnfold-benchmark-") as name:
        folder = Path(name)
        models = arguments.models or default_models(folder)
        print(table(head, rows(models, folder, arguments.rounds)))


if __name__ == "__main__":
    main()
