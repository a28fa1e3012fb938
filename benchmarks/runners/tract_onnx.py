"""Runs a model with tract."""

import tract
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    loaded = tract.onnx().load(str(job.model))
    names = [loaded.input_name(number) for number in range(loaded.input_count())]
    for number, name in enumerate(names):
        shape = ",".join(map(str, job.feeds[name].shape))
        loaded.set_input_fact(number, f"{shape},f32")
    runnable = loaded.into_model().into_runnable()
    made: Array = runnable.run([job.feeds[name] for name in names])[0].to_numpy()
    return made


main(run)
