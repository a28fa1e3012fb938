"""Whole-process time and memory of folding files, beside other tools and the least possible.

    python benchmarks/files.py                     # all sizes; takes 20 minutes and 10 GB of disk
    python benchmarks/files.py --sizes 45 --explain

Every command is a process of its own, from its start to its end, and each round runs every command
once, so that a busy machine disturbs all alike. What was written is removed and the disk is idle
before each run. The source is in the page cache. bnfold waits until its file is on the disk, and so
does one of the two floors; `cp` and the other tools do not.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import contenders
from measure import HERE, Prepare, Sample, cpu, interleaved, memory, provenance, run, table, wall

BNFOLD: Final = "bnfold --no-verify"
CP: Final = "cp"
FLOOR: Final = "floor"
FLOOR_ON_DISK: Final = "floor, on the disk"
IMPORTS: Final = "imports alone"
PEERS: Final = ("onnxruntime", "onnxscript", "onnxslim", "onnxsim")

_LARGEST_INLINE: Final = 1900
_FLOORS: Final = 1.6
_OF_FASTEST: Final = 0.6
_FASTEST_FROM: Final = 50
_BASE_MEMORY: Final = 150


@dataclass(frozen=True, slots=True)
class Case:
    """A network to fold.

    Attributes:
        megabytes: Its size.
        source: The file.
        largest: MB of its largest weight.
    """

    megabytes: float
    source: Path
    largest: float

    @property
    def external(self) -> bool:
        """Whether its weights are beside it."""
        return contenders.has_data(self.source)

    @property
    def title(self) -> str:
        """What it is, for a heading."""
        form = "external data" if self.external else "inline"
        return f"{self.megabytes:g} MB, {form} (largest tensor {self.largest:.1f} MB)"


def prepared(folder: Path, megabytes: float) -> Case:
    """Write a network of a size; above 2 GB its weights go beside it."""
    source = folder / "network.onnx"
    words: list[str | Path] = [sys.executable, HERE / "networks.py", str(megabytes), source]
    if megabytes > _LARGEST_INLINE:
        words.append("--external")
    made = run(words)
    if not made.ok:
        raise SystemExit(made.errors)
    listing = json.loads(source.with_name(f"{source.name}.json").read_text(encoding="utf-8"))
    return Case(megabytes, source, max(length for _, length in listing["weights"]) / 1e6)


def commands(case: Case, target: Path, wanted: Sequence[str]) -> dict[str, list[str | Path]]:
    """Return what to run, by name; tools that are not installed are left out."""
    python, source = sys.executable, case.source
    copied: list[str | Path] = ["sh", "-c", 'cp "$0" "$1"', source, target]
    if case.external:
        copied[2] = 'cp "$0" "$1" && cp "$0.data" "$1.data"'
    every: dict[str, list[str | Path]] = {
        BNFOLD: [python, "-m", "bnfold", source, "--no-verify", "-o", target],
        IMPORTS: [python, "-c", "import onnx, onnx_graphsurgeon, click"],
        CP: copied,
        FLOOR: [python, HERE / "contenders.py", FLOOR, source, target],
        FLOOR_ON_DISK: [python, HERE / "contenders.py", FLOOR_ON_DISK, source, target],
    }
    for name in wanted:
        if contenders.is_installed(name):
            every[name] = [python, HERE / "contenders.py", name, source, target]
    return every


def result_rows(samples: Mapping[str, list[Sample]], wanted: Sequence[str]) -> Iterator[list[str]]:
    """Yield a table's row for each command."""
    reference = wall(samples[BNFOLD])
    for name in dict.fromkeys([*samples, *wanted]):
        taken = samples.get(name)
        if taken is None:
            yield [name, "not installed", "", "", ""]
        elif not taken[-1].ok:
            yield [name, "failed", "", "", f"{memory(taken):.0f} MB"]
        else:
            yield [
                name,
                f"{wall(taken):.2f} s",
                f"{wall(taken) / reference:.2f}",
                f"{cpu(taken):.2f} s",
                f"{memory(taken):.0f} MB",
            ]


def target_rows(case: Case, samples: Mapping[str, list[Sample]]) -> Iterator[list[str]]:
    """Yield a table's row for each target: what it is, the limit, what was found, the verdict."""
    taken = wall(samples[BNFOLD])
    imports = wall(samples[IMPORTS])
    alone = median(float(sample.output) for sample in samples[FLOOR])
    floors = {
        FLOOR: wall(samples[FLOOR]),
        FLOOR_ON_DISK: wall(samples[FLOOR_ON_DISK]),
        f"floor without starting Python ({alone:.2f} s)": alone,
    }
    for name, floor in floors.items():
        limit = imports + _FLOORS * floor
        yield _judged(f"time ≤ imports + {_FLOORS} × {name}", limit, taken, "s")
    peers = {name: wall(samples[name]) for name in PEERS if _worked(samples, name)}
    if peers and case.megabytes >= _FASTEST_FROM:
        fastest = min(peers, key=lambda name: peers[name])
        yield _judged(
            f"time < {_OF_FASTEST} × fastest other ({fastest})",
            _OF_FASTEST * peers[fastest],
            taken,
            "s",
        )
    if "onnxruntime" in peers:
        yield _judged("no slower than ONNX Runtime", peers["onnxruntime"], taken, "s")
    yield _judged(
        f"memory < {_BASE_MEMORY} MB + 2 × largest tensor",
        _BASE_MEMORY + 2 * case.largest,
        memory(samples[BNFOLD]),
        "MB",
    )


def _worked(samples: Mapping[str, list[Sample]], name: str) -> bool:
    return name in samples and samples[name][-1].ok


def _judged(what: str, limit: float, found: float, unit: str) -> list[str]:
    digits = 2 if unit == "s" else 0
    verdict = "met" if found <= limit else "missed"
    return [what, f"{limit:.{digits}f} {unit}", f"{found:.{digits}f} {unit}", verdict]


def stage_rows(case: Case, out: Path, rounds: int) -> Iterator[list[str]]:
    """Yield a table's row for each stage of a fold: the median of its seconds."""
    command: list[str | Path] = [
        sys.executable,
        HERE / "stages.py",
        case.source,
        out / "stages.onnx",
    ]
    runs = interleaved({"stages": command}, rounds, prepare=Prepare(out))["stages"]
    if not runs[-1].ok:
        raise SystemExit(runs[-1].errors)
    seconds: dict[str, list[float]] = {}
    for sample in runs:
        for line in sample.output.splitlines():
            value, name = line.split(" ", 1)
            seconds.setdefault(name, []).append(float(value))
    inside = [sum(values) for values in zip(*seconds.values(), strict=True)]
    started = [sample.wall - known for sample, known in zip(runs, inside, strict=True)]
    yield ["start and end of Python", f"{median(started):.3f} s"]
    for name, values in seconds.items():
        yield [name, f"{median(values):.3f} s"]


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[tuple[Path, Path]]:
    """Provide a folder for the sources and one for what is written."""
    with tempfile.TemporaryDirectory(dir=chosen, prefix="bnfold-benchmark-") as name:
        sources, out = Path(name) / "in", Path(name) / "out"
        sources.mkdir()
        out.mkdir()
        yield sources, out


def report(case: Case, out: Path, arguments: argparse.Namespace) -> None:
    """Measure one network and print its tables."""
    wanted = arguments.peers
    samples = interleaved(
        commands(case, out / "folded.onnx", wanted), arguments.rounds, prepare=Prepare(out)
    )
    for name, taken in samples.items():
        if not taken[-1].ok:
            lines = taken[-1].errors.strip().splitlines() or ["no message"]
            print(f"{name} failed: {lines[-1]}", file=sys.stderr)
    if not samples[BNFOLD][-1].ok:
        raise SystemExit(f"bnfold failed: {samples[BNFOLD][-1].errors}")
    print(f"\n{case.title}, median of {arguments.rounds}:\n")
    print(
        table(["", "time", "of bnfold's", "CPU time", "peak memory"], result_rows(samples, wanted))
    )
    print()
    print(table(["target", "limit", "found", ""], target_rows(case, samples)))
    if arguments.explain:
        print()
        print(table(["stage", "time"], stage_rows(case, out, arguments.rounds)))


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time and memory of folding files.")
    sizes = [1, 45, 50, 250, 500, 3000]
    parser.add_argument("--sizes", type=float, nargs="+", default=sizes, metavar="MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME")
    parser.add_argument("--folder", type=Path, help="where to work [default: the system's]")
    parser.add_argument("--explain", action="store_true", help="say what each stage costs")
    arguments = parser.parse_args(words)
    print(provenance())
    for megabytes in arguments.sizes:
        with work_folder(arguments.folder) as (sources, out):
            report(prepared(sources, megabytes), out, arguments)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
