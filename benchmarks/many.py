"""How throughput grows from one process to two.

    python benchmarks/many.py [--copies 2] [--rounds 3] [--no-verify] [--dask] [MODEL...]

Some copies of each network are folded, by default of those of models/. The numbers of processes
take turns, so that what else the machine does strikes both alike; what is told is the median of the
ratios of neighbouring rounds. The seconds that a processor works for one model depend less on other
programs: where they are the same for both numbers, two processes on two idle processors do twice as
much.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from typing import Any

import bnfold

MODELS = Path(__file__).resolve().parent.parent / "models"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", help="[default: those of models/]")
    parser.add_argument("--copies", type=int, default=1, help="copies of each network")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each number takes its turn"
    )
    parser.add_argument("--no-verify", action="store_true", help="fold without verification")
    parser.add_argument("--dask", action="store_true", help="on a Dask cluster on this machine")
    options = parser.parse_args()
    how: dict[str, Any] = {"verify": None} if options.no_verify else {}
    if not options.no_verify:
        how["verify"] = bnfold.VerifyOptions(providers=("cpu",), time=0)
    with tempfile.TemporaryDirectory() as scratch:
        models = options.models or sorted(MODELS.glob("*.onnx"))
        sources = list(_copies(models, Path(scratch), options.copies))
        seconds: dict[int, list[float]] = {1: [], 2: []}
        worked: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(options.rounds):
            for workers, times in seconds.items():
                before = _worked()
                with _hands(workers, dask=options.dask) as hands:
                    times.append(_seconds(sources, Path(scratch) / "out", {**how, **hands}))
                worked[workers].append(_worked() - before)
    for workers, times in seconds.items():
        rate = len(sources) / statistics.median(times)
        each = statistics.median(worked[workers]) / len(sources)
        print(f"{workers} at a time: {rate:.2f} models/s, {each:.2f} s of a processor for each")
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"1 → 2: {statistics.median(ratios):.2f} ×  ({min(ratios):.2f} to {max(ratios):.2f})")


def _copies(models: Sequence[Path], folder: Path, copies: int) -> Iterator[Path]:
    for number in range(copies):
        for model in models:
            yield Path(shutil.copy(model, folder / f"{model.stem}{number}.onnx"))


def _seconds(sources: list[Path], out: Path, how: dict[str, Any]) -> float:
    out.mkdir()
    began = perf_counter()
    outcomes = list(bnfold.fold_many([(path, out / path.name) for path in sources], **how))
    took = perf_counter() - began
    shutil.rmtree(out)
    failed = [outcome.error for outcome in outcomes if not outcome.ok]
    if failed:
        raise SystemExit("\n".join(failed))
    return took


def _worked() -> float:
    """Return how long processors have worked for processes that this one has waited for."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _hands(workers: int, *, dask: bool) -> Iterator[dict[str, int | Executor]]:
    """Give who does the work, as `fold_many` takes it."""
    if not dask:
        yield {"jobs": workers}
        return
    from distributed import Client

    make: Callable[..., Any] = Client
    with make(n_workers=workers, threads_per_worker=1, dashboard_address=None) as client:
        yield {"executor": client.get_executor()}


if __name__ == "__main__":
    main()
