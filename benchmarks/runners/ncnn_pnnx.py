"""Converts a model with pnnx and runs it with ncnn, which knows no batch axis and takes float32."""

import ncnn
import numpy as np
from running import Array, Job, convert, main


def run(job: Job) -> Array:
    """Return the first output."""
    shapes = ",".join(
        f"{list(array.shape)}f{array.itemsize * 8}".replace(" ", "") for array in job.feeds.values()
    )
    convert(job, "pnnx", job.model, f"inputshape={shapes}", "fp16=0")
    parameters = next(iter(job.model.parent.glob("*.ncnn.param")), None)
    if parameters is None:
        raise RuntimeError("pnnx makes no file")
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(parameters)) or net.load_model(str(parameters.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not load what pnnx makes")

    def infer() -> Array:
        extractor = net.create_extractor()
        for number, array in enumerate(job.feeds.values()):
            single = np.ascontiguousarray(array[0], np.float32)
            extractor.input(f"in{number}", ncnn.Mat(single).clone())
        failure, made = extractor.extract("out0")
        if failure:
            raise RuntimeError(f"ncnn ends with {failure}")
        return np.array(made)[np.newaxis]

    return job.measured(infer)


main(run)
