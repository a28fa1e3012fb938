"""Converts a model with onnx2tf and runs it with LiteRT, channels last.

Some versions of onnx2tf write over the model that they are given: this one is a copy.
"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from running import Array, Job, convert, main

_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""Of models of images onnx2tf downloads this, unless it is there."""


def run(job: Job) -> Array:
    """Return the first output."""
    images = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(job.model.parent / _IMAGES, images)
    convert(job, "onnx2tf", "-i", job.model, "-o", job.model.parent, "-b", "1", "-n")
    lite = next(iter(job.model.parent.glob("*_float32.tflite")), None)
    if lite is None:
        raise RuntimeError("onnx2tf makes no file")
    interpreter = Interpreter(str(lite))
    interpreter.allocate_tensors()
    for place, array in zip(interpreter.get_input_details(), job.feeds.values(), strict=True):
        shaped = tuple(place["shape"]) == array.shape
        placed = array if shaped else np.moveaxis(array, 1, -1)
        interpreter.set_tensor(place["index"], placed.astype(place["dtype"]))
    made = interpreter.get_output_details()[0]["index"]

    def infer() -> Array:
        interpreter.invoke()
        return np.array(interpreter.get_tensor(made))

    return job.measured(infer)


main(run)
