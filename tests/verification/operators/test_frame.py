"""How a kernel lies, compared with what ONNX's specification says of pads."""

from typing import Any

import pytest

from bnfold.verification.operators.frame import Frame, met_by


@pytest.mark.parametrize(
    ("attributes", "size", "pads", "places"),
    [
        ({}, 5, (0, 0), 4),
        ({"pads": [1, 2]}, 5, (1, 2), 7),
        ({"pads": [1, 2], "auto_pad": b"VALID"}, 5, (0, 0), 4),
        ({"auto_pad": b"SAME_UPPER"}, 5, (0, 1), 5),
        ({"auto_pad": b"SAME_LOWER"}, 5, (1, 0), 5),
        ({"auto_pad": b"SAME_UPPER", "dilations": [2]}, 5, (1, 1), 5),
        ({"auto_pad": b"SAME_UPPER", "strides": [2]}, 5, (0, 1), 3),
        ({"auto_pad": b"SAME_UPPER", "strides": [3]}, 5, (0, 0), 2),
    ],
)
def test_a_kernel_of_two_taps(
    attributes: dict[str, Any], size: int, pads: tuple[int, int], places: int
) -> None:
    frame = Frame.of([2], attributes)
    found = frame.pads([size])
    assert found == ([pads[0]], [pads[1]])
    assert frame.places([size], found) == [places]


def test_a_tap_meets_an_element_at_each_place() -> None:
    (met,) = met_by([1], [2], [3], [4])
    assert list(range(20)[met]) == [2, 5, 8, 11]


def test_numbers_for_other_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Frame.of([2, 2], {"dilations": [1]})
