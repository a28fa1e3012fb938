# ruff: noqa: INP001
"""Coverage-guided fuzzing of bnfold, with atheris (https://github.com/google/atheris).

    pip install '.[fuzz]'
    python fuzz/fuzz.py read corpus/ -max_total_time=600
    python fuzz/fuzz.py fold corpus/ -max_total_time=600

`read` opens, reads and saves what it is given, `fold` folds it. No input may do anything but
succeed or be refused in one line; a warning is a finding, too. The corpus folder begins with the
test models; a file in its place, as a finding is one, is run alone. Every option after it is
libFuzzer's. The exit status is not 0 if something is found,
and what caused it is written to the current folder (-artifact_prefix=DIR/ for another).
"""

import logging
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from random import Random

import atheris

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(HERE.parent), str(TESTS / "files"), str(TESTS / "graph")]

with atheris.instrument_imports(include=["bnfold"]):
    import hungry
    from handmade import everywhere
    from hostile import fold_it, read_and_write
    from mutations import mutate

    from bnfold.processes.fork import own_process

LARGEST_SEED = 1 << 16
MANY_NODES = 20
BY_STRUCTURE = 0.8
SECONDS = 30
"""What one input may take. Ten times what the slowest takes on a machine that does nothing else."""
MEGABYTES = 2560
"""What the process may take, with Python, onnx and libFuzzer's own tables."""


def sow(corpus: Path) -> None:
    """Put the test models into the corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = {"everywhere": everywhere().SerializeToString()}
    seeds |= {
        name: model.SerializeToString()
        for name, model in hungry.models().items()
        if len(model.graph.node) < MANY_NODES  # the others take seconds each
    }
    seeds |= {path.stem: path.read_bytes() for path in (HERE.parent / "models").glob("*.onnx")}
    for name, data in seeds.items():
        if len(data) < LARGEST_SEED:
            (corpus / f"{name}.onnx").write_bytes(data)


def structured(data: bytes, limit: int, seed: int) -> bytes:
    """Mutate by structure mostly, and as libFuzzer does it sometimes."""
    random = Random(seed)  # noqa: S311 - to be repeatable is the point
    made = mutate(data, random) if random.random() < BY_STRUCTURE else atheris.Mutate(data, limit)
    return made[:limit]


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    own_process()
    what, corpus = sys.argv[1], Path(sys.argv[2])
    folder = Path(tempfile.mkdtemp(prefix="bnfold-fuzz-"))
    targets = {"read": partial(read_and_write, folder=folder), "fold": fold_it}
    if not corpus.is_file():
        sow(corpus)
    options = [
        f"-max_len={4 * LARGEST_SEED}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], str(corpus), *options, *sys.argv[3:]],
        targets[what],
        custom_mutator=structured,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
