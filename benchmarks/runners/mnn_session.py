"""Converts a model with mnnconvert and runs it with MNN."""

import MNN
import numpy as np
from running import Array, Job, convert, main


def run(job: Job) -> Array:
    """Return the first output."""
    made = job.model.with_suffix(".mnn")
    convert(
        job,
        "mnnconvert", "-f", "ONNX", "--modelFile", job.model, "--MNNModel", made,
        "--bizCode", "none",
    )  # fmt: skip
    if not made.exists():
        raise RuntimeError("mnnconvert makes no file")
    net = MNN.Interpreter(str(made))
    session = net.createSession({"precision": "high", "backend": "CPU"})
    for name, array in job.feeds.items():
        place = net.getSessionInput(session, name)
        net.resizeTensor(place, array.shape)
    net.resizeSession(session)

    def infer() -> Array:
        for name, array in job.feeds.items():
            place = net.getSessionInput(session, name)
            place.copyFrom(_tensor(array.shape, np.ascontiguousarray(array, np.float32)))
        net.runSession(session)
        output = net.getSessionOutput(session, job.output)
        result = _tensor(output.getShape(), np.zeros(output.getShape(), np.float32))
        output.copyToHostTensor(result)
        return np.array(result.getNumpyData()).reshape(output.getShape())

    return job.measured(infer)


def _tensor(shape: tuple[int, ...], array: Array) -> "MNN.Tensor":
    return MNN.Tensor(shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)


main(run)
