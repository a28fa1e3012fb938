"""What verification costs, beside running both models once at each of the levels it compares at.

    python benchmarks/verify_cost.py
    python benchmarks/verify_cost.py --rounds 3 network.onnx

The cost is the time of `bnfold MODEL` less that of `bnfold MODEL --no-verify`, both whole
processes. The yardstick is one process that loads the original and the folded model and runs
each once at ORT_DISABLE_ALL and once at ORT_ENABLE_ALL. All of them take turns.

The whole, folding included, may take 1.5 times what loading and running takes without starting
Python, a second, and 0.2 ms for each node. The process of bnfold itself, without the child in which
ONNX Runtime runs, may take 150 MB and 8 times the largest weight. Seconds of processor time, of all
processes together, tell more where the machine is busy.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from measure import HERE, cpu, interleaved, provenance, run, table, wall
from watched import Watched

if TYPE_CHECKING:
    import onnx

_TARGET: Final = 1.5
_SECONDS: Final = 1.0
_SECONDS_PER_NODE: Final = 0.0002
_MEGABYTES: Final = 150.0
_WEIGHTS: Final = 8.0
_SMALL_NODES: Final = 3000
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


def uncut(size: int, branches: int) -> "onnx.ModelProto":
    """Return a network of a few KB whose Reshapes say how large its pictures are."""
    import numpy as np
    from graphs import CHANNELS, Builder
    from onnx import numpy_helper

    def integers(values: Sequence[int], name: str) -> "onnx.TensorProto":
        return numpy_helper.from_array(np.asarray(values, np.int64), name)

    builder = Builder()
    builder.initializers += [
        integers([1, CHANNELS, size * size], "flat"),
        integers([1, branches * CHANNELS, size, size], "deep"),
    ]
    flat = [builder.node("Reshape", [builder.conv("x"), "flat"]) for _ in range(branches)]
    joined = builder.norm(builder.node("Concat", flat, axis=1), branches * CHANNELS)
    model = builder.model(builder.node("Reshape", [joined, "deep"]))
    for value, channels in ((model.graph.input[0], 1), (model.graph.output[0], branches)):
        dims = (1, channels * CHANNELS, size, size)
        for dim, length in zip(value.type.tensor_type.shape.dim, dims, strict=True):
            dim.dim_value = length
    return model


def default_models(folder: Path) -> list[Path]:
    """Return small and larger networks, graphs of many small nodes, and one of large pictures."""
    import onnx
    from graphs import branchy, straight

    generated = folder / f"generated_{_GENERATED}MB.onnx"
    made = run([sys.executable, HERE / "networks.py", str(_GENERATED), generated])
    if not made.ok:
        raise SystemExit(made.errors)
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    made_here = {
        f"chain_of_{_SMALL_NODES}_nodes": straight(_SMALL_NODES),
        f"branches_of_{_SMALL_NODES}_nodes": branchy(_SMALL_NODES),
        "pictures_that_cannot_be_cut": uncut(128, 4),
    }
    for name, model in made_here.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    committed = [HERE.parent / "models" / f"{name}.onnx" for name in ("resnet", "levit")]
    lights = (light / f"light_{name}.onnx" for name in ("resnet50", "densenet121"))
    return [*committed, *lights, generated, *(folder / f"{name}.onnx" for name in made_here)]


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
        nodes, largest = _sizes(model, folded)
        room = _TARGET * alone + _SECONDS + _SECONDS_PER_NODE * nodes
        memory = Watched(command).parent / 1e6
        most = _MEGABYTES + _WEIGHTS * largest
        yield [
            model.name,
            str(nodes),
            f"{wall(samples['without']):.2f} s",
            f"{wall(samples['with']):.2f} s",
            f"{cost:.2f} s",
            f"{whole:.2f} s",
            f"{alone:.2f} s",
            f"{cost / whole:.2f}",
            f"{room:.2f} s",
            f"{memory:.0f} MB",
            f"{most:.0f} MB",
            "met" if wall(samples["with"]) <= room and memory <= most else "missed",
            *(f"{cpu(samples[name]):.2f} s" for name in ("without", "with", "yardstick")),
        ]


def _sizes(path: Path, folded: Path) -> tuple[int, float]:
    """Return the number of nodes, and the MB of the largest weight, stored or written when folded.

    Some networks compute their weights from a few numbers; the folded model stores them.
    """
    import onnx

    before, after = (
        onnx.load(each, load_external_data=False).graph  # noqa: TID251 - it is measured only
        for each in (path, folded)
    )
    stated = (a.t for graph in (before, after) for node in graph.node for a in node.attribute)
    tensors = (*before.initializer, *after.initializer, *stated)
    largest = max((math.prod(t.dims) * 4 for t in tensors), default=0)
    return len(before.node), largest / 1e6


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == [_YARDSTICK]:
        run_both(words[1:])
        return
    parser = argparse.ArgumentParser(description="Time that verification takes.")
    parser.add_argument("models", type=Path, nargs="*", help="[default: eight networks]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work [default: the system's]")
    arguments = parser.parse_args(words)
    print(provenance())
    print()
    head = [
        "network",
        "nodes",
        "--no-verify",
        "verified",
        "cost",
        "yardstick",
        "without starting Python",
        "cost / yardstick",
        "verified may take",
        "memory",
        "may take",
        "target",
        "CPU: --no-verify",
        "verified",
        "yardstick",
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bnfold-benchmark-") as name:
        folder = Path(name)
        models = arguments.models or default_models(folder)
        print(table(head, rows(models, folder, arguments.rounds)))


if __name__ == "__main__":
    main()
