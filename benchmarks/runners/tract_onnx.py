"""Runs a model with tract; free sizes stay free, as further declarations name them."""

import tract
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    loaded = tract.onnx().load(str(job.model))
    names = [loaded.input_name(number) for number in range(loaded.input_count())]
    runnable = loaded.into_model().into_runnable()
    inputs = [job.feeds[name] for name in names]

    def infer() -> Array:
        made: Array = runnable.run(inputs)[0].to_numpy()
        return made

    return job.measured(infer)


main(run)
