"""The numbers that an operator states itself, and what becomes of them under a channel affine.

A Pad fills with one number, and a Clip has two bounds. An affine that passes such a node changes
these, too:

    pad(A(x), A(v)) = A(pad(x, v))        clip(A(x), A(l), A(h)) = A(clip(x, l, h))

where a negative scale lets the bounds change places. Each is one number for all channels, so it
must be one afterwards. A bound that is infinite is one under every affine.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine
from bnfold.rules.operator import FLOATS, Operator

Numbers = tuple[float, ...]


@frozen
class Stated:
    """The numbers that a node of an operator states.

    Attributes:
        names: The attributes that hold them before opset `INPUTS_SINCE`.
        inputs: The indices of the inputs that hold them from then on.
        defaults: What they are where they are left out.
        change: Returns what an affine makes of them; refuses where they would not be one number
            each.
        reason: Why an affine does not pass whose change cannot be stated.
        are_bounds: What no number of the data's type exceeds is as good as infinite for them, and
            so is written what is infinite.
    """

    names: tuple[str, ...]
    inputs: tuple[int, ...]
    defaults: Numbers
    change: Callable[[Numbers, Affine], Numbers]
    reason: Reason
    are_bounds: bool = False

    def numbers(self, op: Operator) -> Numbers:
        """Return what a node states.

        Raises:
            Refusal: A number is not constant, or makes no sense.
        """
        places = zip(self.names, self.inputs, self.defaults, strict=True)
        found = tuple(_number(op, *place) for place in places)
        if self.are_bounds:
            largest = self.largest(op)
            found = tuple(math.copysign(math.inf, n) if abs(n) >= largest else n for n in found)
        if any(map(math.isnan, found)) or list(found) != sorted(found):
            raise Refusal(Reason.BAD_PARAMETERS, " and ".join(map(str, found)))
        return found

    def written(self, op: Operator, number: float) -> float:
        """Return what is to be written for a number."""
        infinite = self.are_bounds and math.isinf(number)
        return math.copysign(self.largest(op), number) if infinite else number

    def largest(self, op: Operator) -> float:
        """Return the largest number that a node can state."""
        elem_type = op.required(0).elem_type
        if op.opset < INPUTS_SINCE or elem_type not in FLOATS:
            elem_type = onnx.TensorProto.FLOAT
        if elem_type == onnx.TensorProto.BFLOAT16:  # numpy does not know it
            return float.fromhex("0x1.fep127")
        return float(np.finfo(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).max)


INPUTS_SINCE = 11
"""From here on such numbers are inputs; before, they are attributes and so float32."""


def _number(op: Operator, name: str, index: int, default: float) -> float:
    if op.opset < INPUTS_SINCE:
        return op.number(name, default)
    value = op.input(index)
    if value is None:
        return default
    return float(np.asarray(value.numbers(), dtype=np.float64).reshape(-1)[0])


def _one(values: F64, reason: Reason) -> float:
    """Return the one number that all values are.

    Raises:
        Refusal: They are not one.
    """
    if not np.allclose(values, values.flat[0], rtol=1e-12, atol=0):
        raise Refusal(reason)
    return float(values.flat[0])


def _filled(numbers: Numbers, affine: Affine) -> Numbers:
    (value,) = numbers
    return (_one(affine.apply(np.asarray(value)), Reason.PAD_VALUE),)


def _bounds(numbers: Numbers, affine: Affine) -> Numbers:
    with np.errstate(invalid="ignore"):  # zero times infinity is refused
        ends = [affine.apply(np.asarray(bound)) for bound in numbers]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return _one(low, Reason.CLIP_BOUND), _one(high, Reason.CLIP_BOUND)


STATED: Mapping[str, Stated] = {
    "Pad": Stated(("value",), (2,), (0.0,), _filled, Reason.PAD_VALUE),
    "Clip": Stated(
        ("min", "max"), (1, 2), (-math.inf, math.inf), _bounds, Reason.CLIP_BOUND, are_bounds=True
    ),
}
