# ruff: noqa: INP001
"""Coverage-guided fuzzing of bnfold, with atheris (https://github.com/google/atheris).

    pip install atheris
    python fuzz/fuzz.py read corpus/ -max_total_time=600
    python fuzz/fuzz.py fold corpus/ -max_total_time=600

`read` opens, reads and saves what it is given, `fold` folds it. No input may do anything but
succeed or be refused in one line. The corpus folder begins with the test models; every option
after it is libFuzzer's.
"""

import logging
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "files")]

with atheris.instrument_imports(include=["bnfold"]):
    from handmade import everywhere
    from hostile import fold_it, read_and_write
    from mutations import mutate

LARGEST_SEED = 1 << 16
BY_STRUCTURE = 0.8


def sow(corpus: Path) -> None:
    """Put the test models into the corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "everywhere.onnx").write_bytes(everywhere().SerializeToString())
    for model in (HERE.parent / "models").glob("*.onnx"):
        if model.stat().st_size < LARGEST_SEED:
            (corpus / model.name).write_bytes(model.read_bytes())


def structured(data: bytes, limit: int, seed: int) -> bytes:
    """Mutate by structure mostly, and as libFuzzer does it sometimes."""
    random = Random(seed)  # noqa: S311 - to be repeatable is the point
    made = mutate(data, random) if random.random() < BY_STRUCTURE else atheris.Mutate(data, limit)
    return made[:limit]


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    logging.disable(logging.CRITICAL)
    what, corpus = sys.argv[1], Path(sys.argv[2])
    folder = Path(tempfile.mkdtemp(prefix="bnfold-fuzz-"))
    targets = {"read": partial(read_and_write, folder=folder), "fold": fold_it}
    sow(corpus)
    options = [f"-max_len={4 * LARGEST_SEED}", "-timeout=30", "-rss_limit_mb=4096"]
    atheris.Setup(
        [sys.argv[0], str(corpus), *options, *sys.argv[3:]],
        targets[what],
        custom_mutator=structured,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
