"""Makes C of a model with emx-onnx-cgen, and runs what the compiler of the system makes of it."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import onnx
from running import Array, Job, convert, main

_PARAMETER = re.compile(r"(\w+) (\w+)\[restrict (\d+)\]((?:\[\d+\])*)")
_DTYPES = {"float": np.float32, "_Float16": np.float16}


def run(job: Job) -> Array:
    """Return the first output."""
    source, library = job.model.with_suffix(".c"), job.model.with_suffix(".so")
    words = ("--model-name", "net", "--large-weight-threshold", "0", *_sizes(job))
    convert(job, "emx-onnx-cgen", "compile", job.model, source, *words)
    options = ("-O2", "-march=native", "-w", "-shared", "-fPIC", "-lm")
    compiler = shutil.which("cc") or "cc"
    subprocess.run([compiler, str(source), "-o", str(library), *options], check=True)
    inputs = [np.ascontiguousarray(array) for array in job.feeds.values()]
    outputs = [_empty(*each) for each in _parameters(source.read_text())[len(inputs) :]]
    compute = ctypes.CDLL(str(library.absolute())).net
    places = [ctypes.c_void_p(array.ctypes.data) for array in (*inputs, *outputs)]

    def infer() -> Array:
        compute(*places)
        return outputs[0]

    return job.measured(infer)


def _sizes(job: Job) -> list[str]:
    """Return the words that give each free size of an input."""
    inputs = onnx.load_model_from_string(job.model.read_bytes()).graph.input
    return [
        f"--input-dim={given.name}:{axis}={job.feeds[given.name].shape[axis]}"
        for given in inputs
        if given.name in job.feeds
        for axis, size in enumerate(given.type.tensor_type.shape.dim)
        if not size.HasField("dim_value")
    ]


def _parameters(code: str) -> list[tuple[str, list[int]]]:
    """Return the type and the sizes of each parameter of the network's function."""
    (parameters,) = re.findall(r"^void net\((.*)\) \{$", code, re.MULTILINE)
    return [
        (kind, [int(first), *map(int, re.findall(r"\d+", others))])
        for kind, _, first, others in _PARAMETER.findall(parameters)
    ]


def _empty(kind: str, sizes: list[int]) -> Array:
    return np.full(sizes, np.nan, _DTYPES[kind])


main(run)
