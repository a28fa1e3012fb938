"""Converts a model with onnx2torch and runs it with PyTorch, one operator after the other."""

import torch
from onnx2torch import convert
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    module = convert(str(job.model)).eval()
    inputs = [*map(torch.from_numpy, job.feeds.values())]

    def infer() -> Array:
        made = module(*inputs)
        first: Array = (made[0] if isinstance(made, tuple | list) else made).numpy()
        return first

    with torch.no_grad():
        return job.measured(infer)


main(run)
