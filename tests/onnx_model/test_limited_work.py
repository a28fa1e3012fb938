"""What the reference evaluator is left to do for one proof is bounded."""

import numpy as np
import pytest
from onnx import helper

from bnfold.onnx_model.computing import (
    TooLargeError,
    limited_work,
    require_room_for_outputs,
)

_ROOM = 1 << 30
_SIZES = np.array([1, 1, 64, 64], np.int64)
_RESIZE = helper.make_node("Resize", ["x", "", "", "z"], ["y"])
_LRN = helper.make_node("LRN", ["x"], ["y"], size=3)
_ADD = helper.make_node("Add", ["x", "x"], ["y"])


def _image(size: int) -> np.ndarray:
    return np.zeros((1, 1, size, size))


def test_work_adds_up_in_a_context() -> None:
    with limited_work(3 * 2 * 100):
        for _ in range(3):
            require_room_for_outputs(_LRN, 17, [_image(10)], _ROOM)
        with pytest.raises(TooLargeError, match="200 elements more would take too long"):
            require_room_for_outputs(_LRN, 17, [_image(10)], _ROOM)
    for _ in range(4):
        require_room_for_outputs(_LRN, 17, [_image(10)], _ROOM)


def test_whole_arrays_are_no_work_and_axes_little() -> None:
    with limited_work(300):
        require_room_for_outputs(_ADD, 17, [_image(1000), _image(1000)], _ROOM)
        require_room_for_outputs(_RESIZE, 17, [_image(8), None, None, _SIZES], _ROOM)
        with pytest.raises(TooLargeError, match="take too long"):
            require_room_for_outputs(_RESIZE, 17, [_image(8), None, None, _SIZES], _ROOM)


def test_the_size_of_a_resize_is_known_in_float64_too() -> None:
    """Its scales are float32 by definition, and float64 where a verifier computes."""
    scales = np.array([1, 1, 1e3, 1e3])
    node = helper.make_node("Resize", ["x", "", "s"], ["y"])
    with pytest.raises(TooLargeError, match="it would have 64000000 elements"):
        require_room_for_outputs(node, 18, [_image(8), None, scales], 64_000_000 * 8 - 1)
    require_room_for_outputs(node, 18, [_image(8), None, scales], 64_000_000 * 8)
