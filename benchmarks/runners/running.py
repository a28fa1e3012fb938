"""What every runner does: read inputs, run a model, write its first output.

    python RUNNER MODEL INPUTS.npz OUTPUT_NAME RESULT.npy [SECONDS]

A runner knows one toolchain and numpy. It runs in the toolchain's own environment, in a process of
its own, and may write what it likes into the folder that the model is in. Where it is given some
seconds it runs the model so long, and the median of what a run takes goes into RESULT.txt.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        model: The model, alone in a folder.
        feeds: The inputs by name, in the model's order.
        output: The name of the model's first output.
        seconds: How long to run it for its time.
        took: What runs took, in seconds.
    """

    model: Path
    feeds: dict[str, Array]
    output: str
    seconds: float = 0.0
    took: list[float] = field(default_factory=list)

    def measured(self, infer: Callable[[], Array]) -> Array:
        """Return what a run returns, and take the time of further ones."""
        made = infer()
        until = perf_counter() + self.seconds
        while (began := perf_counter()) < until:
            infer()
            self.took.append(perf_counter() - began)
        return made


def main(run: Callable[[Job], Any]) -> None:
    """Run the model that the command line names."""
    model, inputs, output, result, *seconds = sys.argv[1:]
    with np.load(inputs) as given:
        feeds = {name: given[name] for name in given.files}
    try:
        job = Job(Path(model), feeds, output, float(seconds[0]) if seconds else 0.0)
        made = run(job)
    except Exception as error:  # noqa: BLE001 - whatever a toolchain raises is its answer
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    np.save(result, np.asarray(made))
    if job.took:
        Path(result).with_suffix(".txt").write_text(str(statistics.median(job.took)))


def convert(job: Job, *words: str | Path) -> None:
    """Run a converter of this environment in the model's folder.

    Raises:
        RuntimeError: It fails.
    """
    program, *arguments = map(str, words)
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=job.model.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode < 0:
        raise RuntimeError(f"{program} crashes: signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError(f"{program} fails: {(done.stderr or done.stdout).strip()[-200:]}")
