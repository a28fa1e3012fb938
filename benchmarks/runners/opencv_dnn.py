"""Runs a model with OpenCV's DNN module."""

import cv2
from running import Array, Job, main


def run(job: Job) -> Array:
    """Return the first output."""
    net = cv2.dnn.readNetFromONNX(str(job.model))

    def infer() -> Array:
        for name, array in job.feeds.items():
            net.setInput(array, name)
        made: Array = net.forward()
        return made

    return job.measured(infer)


main(run)
