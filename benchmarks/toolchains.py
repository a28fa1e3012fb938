"""What other toolchains make of models as exported and folded.

    python benchmarks/toolchains.py --list
    python benchmarks/toolchains.py --folder ~/toolchains openvino opencv
    python benchmarks/toolchains.py --folder ~/toolchains --models models/unet.onnx
    python benchmarks/toolchains.py --results found.json mnn
    python benchmarks/toolchains.py --seconds 2

With `--results` what is found is added to a file, and the tables tell all that is in it, and at
which commits of bnfold it was found. `--seconds` adds a table of how long a run of each variant
takes.

Each toolchain is installed from the package index into an environment of its own in the folder, as
their dependencies contradict each other, and is used again from there. Each model runs in a process
of its own, as converters crash: the original, the folded model, and the folded one with its
constants as initializers (`--lift-constants`). Its first output is compared with what ONNX Runtime
computes of the original without any optimization; the figure is the largest difference, relative to
the largest number of that output.
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measure import HERE, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VARIANTS: Final = ("original", "folded", "lifted")
_RIGHT: Final = {"float16": 1e-2}
_RIGHT_ELSE: Final = 1e-3
"""A difference above is none of rounding, whatever the kernels of a runtime are."""
_PATIENCE: Final = 180  # seconds


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Something that loads or converts ONNX models, and runs them.

    Attributes:
        title: What people call it.
        runner: The file in runners/ that runs a model with it.
        packages: What is installed, from PyPI or npm.
        told: The packages whose versions are told.
        npm: Whether they are npm's.
        interpreter: The Python that its current version needs; empty for the one that runs this.
    """

    title: str
    runner: str
    packages: tuple[str, ...]
    told: tuple[str, ...]
    npm: bool = False
    interpreter: str = ""


TOOLCHAINS: Final = {
    "openvino": Toolchain("OpenVINO", "openvino_cpu", ("openvino",), ("openvino",)),
    "opencv": Toolchain(
        "OpenCV", "opencv_dnn", ("opencv-python-headless",), ("opencv-python-headless",)
    ),
    "opencv4": Toolchain(
        "OpenCV 4", "opencv_dnn", ("opencv-python-headless<5",), ("opencv-python-headless",)
    ),
    "mnn": Toolchain("MNN", "mnn_session", ("MNN",), ("MNN",)),
    "ncnn": Toolchain("ncnn through pnnx", "ncnn_pnnx", ("ncnn", "pnnx"), ("ncnn", "pnnx")),
    "tract": Toolchain("tract", "tract_onnx", ("tract",), ("tract",)),
    "onnx2torch": Toolchain(
        "onnx2torch",
        "onnx2torch_eager",
        ("onnx2torch", "torch"),
        ("onnx2torch", "torch"),
    ),
    "web": Toolchain(
        "onnxruntime-web", "ort_web", ("onnxruntime-web",), ("onnxruntime-web",), npm=True
    ),
    "litert": Toolchain(
        "LiteRT through onnx2tf",
        "litert_onnx2tf",
        ("onnx2tf", "ai-edge-litert"),
        ("onnx2tf", "ai-edge-litert"),
        interpreter="python3.12",
    ),
    "tvm": Toolchain("TVM", "tvm_relax", ("apache-tvm", "onnx"), ("apache-tvm",)),
    "iree": Toolchain(
        "IREE",
        "iree_cpu",
        ("iree-base-compiler[onnx]", "iree-base-runtime"),
        ("iree-base-compiler",),
    ),
    "emx": Toolchain("C by emx-onnx-cgen", "emx_c", ("emx-onnx-cgen",), ("emx-onnx-cgen",)),
}


class Unavailable(Exception):  # noqa: N818 - a fact, not a failure
    """A toolchain cannot be installed here; the text says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a toolchain is installed."""

    toolchain: Toolchain
    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter that runs the runner."""
        own = self.folder / "bin" / "python"
        return own if own.exists() else Path(sys.executable)

    def variables(self) -> dict[str, str]:
        """Return the variables under which the runner runs.

        Some converters install packages by themselves, with the first pip that they find: it is
        that of this environment, and may download nothing.
        """
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "TOOLCHAIN": str(self.folder), "PIP_NO_INDEX": "1"}
        return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | own

    def install(self) -> None:
        """Install the toolchain, unless it is there.

        Raises:
            Unavailable: That fails.
        """
        if self.versions():
            return
        packages = self.toolchain.packages
        if self.toolchain.npm:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._install(["npm", "install", "--prefix", str(self.folder), *packages])
        else:
            interpreter = self.toolchain.interpreter or sys.executable
            self._install([interpreter, "-m", "venv", str(self.folder)])
            self._install([str(self.python), "-m", "pip", "install", "-q", "numpy", *packages])

    def _install(self, command: Sequence[str]) -> None:
        if shutil.which(command[0]) is None:
            raise Unavailable(f"{command[0]} is not installed")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = next(reversed((done.stderr or done.stdout).strip().splitlines()), "")
            raise Unavailable(last)

    def versions(self) -> str:
        """Return the packages with their versions; empty where they are not installed."""
        told = [(name, self._version(name)) for name in self.toolchain.told]
        return ", ".join(f"{n} {v}" for n, v in told) if all(v for _, v in told) else ""

    def _version(self, name: str) -> str:
        if self.toolchain.npm:
            found = self.folder / "node_modules" / name / "package.json"
            return str(json.loads(found.read_text())["version"]) if found.exists() else ""
        if self.python == Path(sys.executable):
            return ""
        ask = f"from importlib.metadata import version; print(version({name!r}))"
        done = subprocess.run([self.python, "-c", ask], capture_output=True, text=True, check=False)
        return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in its variants, with inputs and what ONNX Runtime computes of them.

    Attributes:
        name: What it is called.
        variants: The files.
        inputs: The inputs, as .npz.
        output: The name of the first output.
        right: What that is.
    """

    name: str
    variants: dict[str, Path]
    inputs: Path
    output: str
    right: "NDArray[np.generic]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a toolchain made of one file.

    Attributes:
        difference: How far its output is off; None where there is none.
        failure: Why there is none.
        allowed: What rounding may do.
        took: The median of what a run takes, in seconds; None where no time was taken.
    """

    difference: float | None = None
    failure: str = ""
    allowed: float = _RIGHT_ELSE
    took: float | None = None

    def to_list(self) -> list[Any]:
        """Return the values, for JSON."""
        return [self.difference, self.failure, self.allowed, self.took]

    @property
    def right(self) -> bool:
        """Whether it computes what ONNX Runtime does."""
        return self.difference is not None and self.difference <= self.allowed

    def __str__(self) -> str:
        if self.difference is None:
            return "crash" if "crash" in self.failure else "–"
        return f"{self.difference:.0e}" if self.right else f"**{self.difference:.2g}**"


def prepare(path: Path, folder: Path) -> Subject:
    """Fold a model, make inputs, run the original."""
    import numpy as np
    import onnxruntime

    folder.mkdir()
    variants = {name: folder / f"{name}.onnx" for name in VARIANTS}
    shutil.copy(path, variants["original"])
    for name, options in (("folded", []), ("lifted", ["--lift-constants"])):
        words = [path, "-o", variants[name], "-q", "--no-verify", *options]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        command = [sys.executable, "-m", "bnfold", *map(str, words)]
        subprocess.run(command, check=True, env=environment)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    dice = np.random.default_rng(0)
    half = {"tensor(float16)": np.float16}
    feeds = {
        given.name: dice.random(
            [size if isinstance(size, int) else 1 for size in given.shape], np.float32
        ).astype(half.get(given.type, np.float32))
        for given in session.get_inputs()
    }
    np.savez(folder / "inputs.npz", **feeds)  # type: ignore[arg-type]
    output = session.get_outputs()[0].name
    (right,) = session.run([output], feeds)
    return Subject(path.stem, variants, folder / "inputs.npz", output, right)


def run_all(environment: Environment, subject: Subject, seconds: float = 0) -> list[Outcome]:
    """Let a toolchain run a model in all variants, those that are the same file once.

    Args:
        environment: Where the toolchain is.
        subject: The model.
        seconds: How long each variant is run for its time.
    """
    found: dict[bytes, Outcome] = {}
    contents = [subject.variants[variant].read_bytes() for variant in VARIANTS]
    for variant, content in zip(VARIANTS, contents, strict=True):
        if content not in found:
            found[content] = run(environment, subject, variant, seconds)
    return [found[content] for content in contents]


def run(environment: Environment, subject: Subject, variant: str, seconds: float) -> Outcome:
    """Let a toolchain run one variant of a model."""
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(shutil.copy(subject.variants[variant], folder / "net.onnx"))
        runner = HERE / "runners" / f"{environment.toolchain.runner}.py"
        result = folder / "result.npy"
        command = [
            environment.python, runner, model, subject.inputs, subject.output, result, seconds
        ]  # fmt: skip
        try:
            done = subprocess.run(
                [str(word) for word in command],
                cwd=folder, env=environment.variables(), timeout=_PATIENCE + seconds, check=False,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Outcome(failure=f"not done after {_PATIENCE} s")
        if done.returncode or not result.exists():
            return Outcome(failure=_failure(done))
        time = result.with_suffix(".txt")
        took = float(time.read_text()) if time.exists() else None
        return replace(_compared(np.load(result), subject.right), took=took)


def _failure(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"crash: signal {-done.returncode}"
    return next(reversed(done.stderr.strip().splitlines()), "no word")


def _compared(made: "NDArray[Any]", right: "NDArray[Any]") -> Outcome:
    """Compare an output with the right one, also where its channels come last."""
    import numpy as np

    if made.shape != right.shape and made.ndim == right.ndim:
        moved = np.moveaxis(made, -1, 1)
        made = moved if moved.shape == right.shape else made
    if made.size != right.size:
        return Outcome(failure=f"its output is {made.shape}, not {right.shape}")
    wide = right.astype(np.float64)
    difference = np.abs(made.reshape(right.shape).astype(np.float64) - wide).max()
    allowed = _RIGHT.get(str(right.dtype), _RIGHT_ELSE)
    return Outcome(float(difference / np.abs(wide).max()), allowed=allowed)


Found = dict[str, dict[str, list[Outcome]]]
"""The outcomes by toolchain and model, in the order of the variants."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was found so far, in a file or only in memory."""

    path: Path | None
    found: Found
    versions: dict[str, str]
    commits: dict[str, list[str]]

    @classmethod
    def of(cls, path: Path | None) -> "Results":
        """Read what a file holds, if there is one."""
        told = json.loads(path.read_text()) if path is not None and path.exists() else {}
        found = {
            name: {m: [Outcome(*each) for each in all_] for m, all_ in one["models"].items()}
            for name, one in told.items()
        }
        versions = {name: one["versions"] for name, one in told.items()}
        return cls(path, found, versions, {name: one["commits"] for name, one in told.items()})

    def add(self, name: str, model: str, outcomes: list[Outcome], versions: str) -> None:
        """Take up what a toolchain made of a model."""
        self.found.setdefault(name, {})[model] = outcomes
        self.versions[name] = versions
        commits = self.commits.setdefault(name, [])
        if (commit := _commit()) not in commits:
            commits.append(commit)
        if self.path is not None:
            told = {
                toolchain: {
                    "versions": self.versions[toolchain],
                    "commits": self.commits[toolchain],
                    "models": {m: [o.to_list() for o in each] for m, each in models.items()},
                }
                for toolchain, models in self.found.items()
            }
            self.path.write_text(json.dumps(told, indent=1))


@functools.cache
def _commit() -> str:
    """Return the commit of bnfold that this is, `-dirty` with changes; "unknown" outside of git."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def report(found: Found, versions: dict[str, str]) -> Iterator[str]:
    """Yield what was found, as Markdown: a table of counts, and one of figures.

    Args:
        found: The outcomes.
        versions: What is installed, by toolchain.
    """
    rows = []
    for name, models in found.items():
        row = [TOOLCHAINS[name].title]
        for place in range(len(VARIANTS)):
            outcomes = [models[model][place] for model in models]
            loads = sum(o.difference is not None for o in outcomes)
            row.append(f"{loads} ({sum(o.right for o in outcomes)})")
        rows.append([*row, str(len(models)), versions[name]])
    yield table(
        ["toolchain", "original", "folded", "folded, constants lifted", "of", "versions"], rows
    )
    yield ""
    names = list(dict.fromkeys(model for models in found.values() for model in models))
    told = [
        [model, *(" → ".join(map(str, models.get(model, ()))) for models in found.values())]
        for model in names
    ]
    head = ["model", *(TOOLCHAINS[name].title for name in found)]
    yield table(head, told)
    timed = [
        [model, *(_times(models.get(model, ())) for models in found.values())] for model in names
    ]
    if any(any(row[1:]) for row in timed):
        yield "\nTime of a run in ms:\n"
        yield table(head, timed)


def _times(outcomes: Sequence[Outcome]) -> str:
    """Return how long runs take, in ms; nothing where no variant's time was taken."""
    if all(outcome.took is None for outcome in outcomes):
        return ""
    return " → ".join("–" if o.took is None else f"{1000 * o.took:.3g}" for o in outcomes)


def main() -> None:
    """Parse the command line, run all, print the tables."""
    parser = argparse.ArgumentParser(prog="toolchains.py", description=__doc__.splitlines()[0])
    parser.add_argument("toolchains", nargs="*", metavar="TOOLCHAIN", help="by default, all")
    parser.add_argument("--list", action="store_true", help="list the toolchains")
    parser.add_argument("--folder", type=Path, help="where they are installed, and stay")
    parser.add_argument("--models", type=Path, nargs="+", help="by default, all of models/")
    parser.add_argument("--results", type=Path, help="a file that results are added to")
    parser.add_argument("--seconds", type=float, default=0, help="take the time of runs so long")
    parser.add_argument("--failures", action="store_true", help="say why models do not load")
    options = parser.parse_args()
    if options.list:
        for name, toolchain in TOOLCHAINS.items():
            print(f"{name}: {toolchain.title}, from {', '.join(toolchain.packages)}")
        return
    unknown = set(options.toolchains) - set(TOOLCHAINS)
    if unknown:
        parser.error(f"no such toolchain: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        _measure(options, Path(scratch))


def _measure(options: argparse.Namespace, scratch: Path) -> None:
    environments = {}
    home = scratch / "environments" if options.folder is None else options.folder.resolve()
    for name in options.toolchains or TOOLCHAINS:
        environment = Environment(TOOLCHAINS[name], home / name)
        try:
            environment.install()
        except Unavailable as reason:
            print(f"{name}: not run, for it cannot be installed here: {reason}")
            continue
        environments[name] = environment
    models = options.models or sorted((HERE.parent / "models").glob("*.onnx"))
    subjects = [prepare(path, scratch / f"{n}") for n, path in enumerate(models)]
    results = Results.of(options.results)
    for name, environment in environments.items():
        versions = environment.versions()
        for subject in subjects:
            outcomes = run_all(environment, subject, options.seconds)
            results.add(name, subject.name, outcomes, versions)
            _say(name, subject.name, outcomes, failures=options.failures)
    commits = dict.fromkeys(commit for each in results.commits.values() for commit in each)
    print(f"{datetime.now(UTC):%Y-%m-%d}, bnfold at {', '.join(commits)}\n")
    print("\n".join(report(results.found, results.versions)))


def _say(name: str, model: str, outcomes: Sequence[Outcome], *, failures: bool) -> None:
    """Tell progress on standard error."""
    print(f"{name}: {model}: {' → '.join(map(str, outcomes))}", file=sys.stderr)
    for variant, outcome in zip(VARIANTS, outcomes, strict=True):
        if failures and outcome.failure:
            reason = re.sub(r"\s+", " ", outcome.failure)[:200]
            print(f"    {variant}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
