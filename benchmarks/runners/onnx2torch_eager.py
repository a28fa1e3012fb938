"""Converts a model with onnx2torch and runs it with PyTorch, one operator after the other."""

import torch
from onnx2torch import convert
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    module = convert(str(job.model)).eval()
    with torch.no_grad():
        made = module(*map(torch.from_numpy, job.feeds.values()))
    first: Array = (made[0] if isinstance(made, tuple | list) else made).numpy()
    return first


main(run)
