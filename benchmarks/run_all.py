"""All benchmarks in one: install the peers, print every table, draw the charts.

    benchmarks/run                 # hours, and 10 GB of disk
    benchmarks/run --quick         # a few minutes: two networks, one size
    benchmarks/run --quick --only peers gain

bnfold, from this checkout, and the tools of requirements.txt are installed into a virtual
environment in `--folder`, which stays there for the next time. Each script's tables go to standard
output and into a file of the folder; `charts.py` draws them as SVG beside these. A script that
fails does not stop the others, and the exit code is then 1.
"""

import argparse
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent

_QUICK_MODELS: Final = tuple(str(ROOT / "models" / f"{each}.onnx") for each in ("mixnet", "repvgg"))

SCRIPTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "peers": ((), _QUICK_MODELS),
    "gain": ((), ("--seconds", "1", *_QUICK_MODELS)),
    "files": ((), ("--sizes", "45", "--rounds", "2")),
    "graphs": ((), ("--nodes", "1000", "--rounds", "1")),
    "quantization": ((), ()),
    "sums": ((), ("--seconds", "1", str(ROOT / "models" / "repvgg.onnx"))),
    "many": ((), ("--rounds", "1", *_QUICK_MODELS)),
    "verify_cost": ((), ("--rounds", "1", *_QUICK_MODELS)),
    "large": ((), ("--megabytes", "60", "--channels", "256")),
    "others": ((), _QUICK_MODELS),
    "toolchains": (
        ("--folder", "{folder}/toolchains"),
        ("--folder", "{folder}/toolchains", "--models", *_QUICK_MODELS, "--", "openvino", "tract"),
    ),
}
"""The words of each script for a full and for a quick run."""

QUICK: Final = ("peers", "gain", "files", "graphs")
"""What a quick run does unless it is told otherwise."""


def environment(folder: Path) -> Path:
    """Return the interpreter of an environment with bnfold, its peers and what draws charts.

    Raises:
        subprocess.CalledProcessError: Something cannot be installed.
    """
    home = folder / "environment"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    wanted = [f"{ROOT}[html,test]", "-r", str(HERE / "requirements.txt")]
    words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*words, *wanted], check=True)
    return python


def measured(python: Path, name: str, words: Sequence[str], folder: Path) -> bool:
    """Run a script, print what it prints, keep it; return whether it went well."""
    print(f"\n## {name}: python benchmarks/{name}.py {' '.join(words)}\n", flush=True)
    target = folder / f"{name}.md"
    with target.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [str(python), str(HERE / f"{name}.py"), *words], stdout=file, check=False
        )
    print(target.read_text(encoding="utf-8"), flush=True)
    if done.returncode:
        print(f"{name}.py ended with exit code {done.returncode}", file=sys.stderr)
    return done.returncode == 0


def main(words: Sequence[str] | None = None) -> int:
    """Install, measure, draw; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Run all benchmarks and draw their charts.")
    parser.add_argument("--quick", action="store_true", help="two networks, one size")
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), metavar="NAME")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "benchmarks")
    arguments = parser.parse_args(words)
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder)
    chosen = arguments.only or (QUICK if arguments.quick else list(SCRIPTS))
    well = True
    for name in chosen:
        its_words = [word.format(folder=folder) for word in SCRIPTS[name][arguments.quick]]
        well &= measured(python, name, its_words, folder)
    tables = [str(folder / f"{name}.md") for name in chosen]
    drawn = subprocess.run(
        [str(python), str(HERE / "charts.py"), *tables, "--into", str(folder)], check=False
    )
    return int(not well or drawn.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
