"""How many batch normalizations each tool leaves in real networks, and whether it got them right.

    python benchmarks/peers.py
    python benchmarks/peers.py --folder networks/ --only onnxruntime onnxslim

Each tool folds every network in a process of its own. Its output and the original are then run by
ONNX Runtime at ORT_DISABLE_ALL on the same random input. What both give may differ by 16 times the
original's own rounding noise, which is how far its result moves from ORT_DISABLE_ALL to
ORT_ENABLE_ALL; that is bnfold's fast rule, applied to all alike.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import contenders
from measure import HERE, Sample, provenance, run, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BNFOLD: Final = "bnfold"
PEERS: Final = ("onnxoptimizer", "onnxsim", "onnxslim", "onnxscript", "onnxruntime")

_COUNT: Final = "--count"
_COMPARE: Final = "--compare"
_ALLOWED: Final = 16
_SIZES: Final = (1, 64, 224)
"""Tried in turn for the unknown dimensions of inputs, but the first; that is 1."""


def count(path: Path) -> int:
    """Return the number of BatchNormalization nodes of a model, subgraphs included."""
    import onnx

    model = onnx.ModelProto.FromString(path.read_bytes())
    found = 0
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        for node in waiting.pop().node:
            found += node.op_type == "BatchNormalization"
            waiting.extend(each.g for each in node.attribute if each.HasField("g"))
    return found


def _session(path: Path, level: str) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feed(session: Any, unknown: int) -> dict[str, "NDArray[np.generic]"]:  # noqa: ANN401
    import numpy as np

    random = np.random.default_rng(0)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": float}
    feed: dict[str, NDArray[np.generic]] = {}
    for each in session.get_inputs():
        sizes = [unknown] * len(each.shape)
        sizes[:1] = [1][: len(sizes)]
        known = zip(each.shape, sizes, strict=True)
        shape = [size if isinstance(size, int) and size > 0 else other for size, other in known]
        dtype = types.get(each.type)
        if dtype is None:
            feed[each.name] = np.ones(shape, np.int64)
        else:
            feed[each.name] = random.standard_normal(shape).astype(dtype)
    return feed


def _first_run(session: Any) -> tuple[dict[str, Any] | None, list[Any]]:  # noqa: ANN401
    """Return an input that the model accepts and what it gives; None if none was found."""
    for unknown in _SIZES:
        feed = _feed(session, unknown)
        with contextlib.suppress(Exception):  # ONNX Runtime's errors have no class in common
            return feed, session.run(None, feed)
    return None, []


def compare(original: Path, candidate: Path) -> str:
    """Say whether two models compute the same but for rounding: same, differs or no evidence."""
    import numpy as np

    plain, optimized = (_session(original, f"ORT_{level}_ALL") for level in ("DISABLE", "ENABLE"))
    feed, expected = _first_run(plain)
    if feed is None:
        return "no evidence"
    names = {each.name for each in optimized.get_inputs()}
    moved = optimized.run(None, {name: feed[name] for name in names})
    made = _session(candidate, "ORT_DISABLE_ALL").run(None, feed)
    worst = 0.0
    for before, noisy, after in zip(expected, moved, made, strict=True):
        if before.shape != after.shape or before.dtype != after.dtype:
            return "differs"
        if before.dtype.kind != "f":
            worst = max(worst, 0.0 if np.array_equal(before, after) else np.inf)
            continue
        exact, other, result = (each.astype(np.float64) for each in (before, noisy, after))
        if not np.isfinite(exact).all():
            return "no evidence"
        smallest = 2 * np.finfo(before.dtype).eps * np.abs(exact).max(initial=0)
        noise = max(np.abs(other - exact).max(initial=0), smallest)
        difference = np.abs(result - exact).max(initial=0)
        worst = max(worst, difference / noise if difference else 0.0)
    return "same" if worst <= _ALLOWED else f"differs by {worst:.0f} × the noise"


def _helper(*words: str | Path) -> Sample:
    """Run this file in a process of its own: what it loads may crash."""
    return run([sys.executable, Path(__file__), *words])


def left(name: str, source: Path, folder: Path) -> tuple[str, str]:
    """Let a tool fold a network; return how many are left, marked, and what was wrong."""
    target = folder / f"{name}.onnx"
    command: list[str | Path] = [sys.executable, HERE / "contenders.py", name, source, target]
    if name == BNFOLD:
        command = [sys.executable, "-m", "bnfold", source, "--no-verify", "-o", target]
    elif not contenders.is_installed(name):
        return "not installed", ""
    folded = run(command)
    counted = _helper(_COUNT, target)
    if not folded.ok or not counted.ok:
        lines = (folded.errors or counted.errors).strip().splitlines() or ["no message"]
        return "fails", lines[-1]
    compared = _helper(_COMPARE, source, target)
    verdict = compared.output.strip()
    if not compared.ok:
        return f"{counted.output.strip()} ✗", compared.errors.strip().splitlines()[-1]
    marks = {"same": "", "no evidence": " ?"}
    return f"{counted.output.strip()}{marks.get(verdict, ' ✗')}", verdict.removeprefix("same")


def rows(networks: Sequence[Path], names: Sequence[str]) -> Iterator[list[str]]:
    """Yield a table's row for each network; say on stderr what was wrong."""
    for source in networks:
        before = _helper(_COUNT, source).output.strip()
        row = [source.name, before]
        for name in names:
            with tempfile.TemporaryDirectory(prefix="bnfold-benchmark-") as folder:
                cell, wrong = left(name, source, Path(folder))
            if wrong:
                print(f"{source.name}, {name}: {wrong}", file=sys.stderr)
            row.append(cell)
        yield row


def _total(table_rows: Sequence[Sequence[str]]) -> list[str]:
    """Add up what each tool leaves; what it fails on is left as it is."""
    before = [int(row[1]) for row in table_rows]
    totals = ["all", str(sum(before))]
    for column in list(zip(*table_rows, strict=True))[2:]:
        if "not installed" in column:
            totals.append("")
            continue
        counts = [cell.split()[0] for cell in column]
        kept = zip(counts, before, strict=True)
        totals.append(str(sum(int(c) if c.isdigit() else whole for c, whole in kept)))
    return totals


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, fold, compare, print."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == [_COUNT]:
        print(count(Path(words[1])))
        return
    if words[:1] == [_COMPARE]:
        print(compare(Path(words[1]), Path(words[2])))
        return
    parser = argparse.ArgumentParser(description="Batch normalizations that each tool leaves.")
    parser.add_argument("networks", type=Path, nargs="*", help="[default: those of models/]")
    parser.add_argument("--folder", type=Path, help="also the networks in this folder")
    parser.add_argument("--only", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME")
    arguments = parser.parse_args(words)
    networks = arguments.networks or sorted((HERE.parent / "models").glob("*.onnx"))
    if arguments.folder is not None:
        networks += sorted(arguments.folder.glob("*.onnx"))
    print(provenance())
    print()
    names = [*arguments.only, BNFOLD]
    found = list(rows(networks, names))
    print(table(["network", "BN", *names], [*found, _total(found)]))
    print("\n✗ the output does not load or computes something else, ? no evidence either way")


if __name__ == "__main__":
    main()
