"""Runs a model with OpenVINO's CPU plugin, in float32."""

import openvino
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(job.model), "CPU", exact)
    return job.measured(lambda: compiled(job.feeds)[compiled.outputs[0]])


main(run)
