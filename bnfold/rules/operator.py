"""An operator as a value: all that a rule may know of a node, without graph or file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.limits import AXIS
from bnfold.reasons import Reason, Refusal

Dim = int | str | None
"""A dimension: a number, a symbol that stands for the same number everywhere, or unknown."""

Shape = tuple[Dim, ...]

FLOATS = frozenset(
    {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
    }
)
"""The element types that bnfold folds."""

Attribute = int | float | bytes | Sequence[int] | Sequence[float] | None


@frozen(eq=False)
class Value:
    """A tensor as a rule sees it.

    Attributes:
        name: Its name, for messages.
        shape: What is known of its shape; None where not even the rank is.
        elem_type: An `onnx.TensorProto.DataType`, 0 where unknown.
        constant: Reads its numbers, where they are known before any input is.
        used: Whether any node reads it, or it is an output.
        ends_as: Tells the element types that its numbers are cast to, if nothing happens to them
            before but affines and what chooses or moves numbers; else none.
    """

    name: str
    shape: Shape | None = None
    elem_type: int = 0
    constant: Callable[[], NDArray[np.generic]] | None = None
    used: bool = True
    ends_as: Callable[[], frozenset[int]] = frozenset

    @property
    def is_constant(self) -> bool:
        """Whether the numbers are known."""
        return self.constant is not None

    @property
    def rank(self) -> int:
        """The rank.

        Raises:
            Refusal: It is unknown.
        """
        return len(self.dims)

    @property
    def dims(self) -> Shape:
        """The shape, of known rank.

        Raises:
            Refusal: Not even the rank is known.
        """
        if self.shape is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, "rank", self.name)
        return self.shape

    def size(self, axis: int) -> int:
        """Return the number of elements along `axis`.

        Raises:
            Refusal: It is unknown, or larger than any layer's.
        """
        size = self.dims[axis]
        if not isinstance(size, int) or size < 0:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"axis {axis}", self.name)
        if size > AXIS:
            raise Refusal(Reason.TOO_LARGE, f"axis {axis} has {size} elements", self.name)
        return size

    def numbers(self) -> NDArray[np.generic]:
        """Return the numbers of a constant.

        Raises:
            Refusal: It is no constant.
        """
        if self.constant is None:
            raise Refusal(Reason.PARAMETERS_NOT_CONSTANT, at=self.name)
        return self.constant()

    def parameters(self) -> NDArray[np.generic]:
        """Return the numbers of a constant that is to become an affine.

        Raises:
            Refusal: It is no constant, or no affine is as large.
        """
        numbers = self.numbers()
        if numbers.size > AXIS:
            raise Refusal(Reason.TOO_LARGE, f"{numbers.size} values", self.name)
        return numbers


@frozen(eq=False)
class Operator:
    """A node as a rule sees it.

    Attributes:
        op_type: The operator, of ONNX's default domain.
        opset: The version of the default domain in its scope.
        inputs: Its inputs; None for an optional one that was left out.
        outputs: Its outputs, in order.
        attributes: What the node states, by name.
    """

    op_type: str
    opset: int
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def input(self, index: int) -> Value | None:
        """Return an input, or None where it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Value:
        """Return an input that the operator cannot do without.

        Raises:
            Refusal: It was left out.
        """
        value = self.input(index)
        if value is None:
            raise Refusal(Reason.BAD_PARAMETERS, f"input {index} is missing")
        return value

    @property
    def output(self) -> Value:
        """The first output."""
        value = self.outputs[0] if self.outputs else None
        if value is None:
            raise Refusal(Reason.BAD_PARAMETERS, "it has no output")
        return value

    @property
    def extra_outputs_used(self) -> bool:
        """Whether anyone reads an output beyond the first."""
        return any(value is not None and value.used for value in self.outputs[1:])

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.attributes.get(name)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """Return a float attribute: the float32 that the model holds, widened."""
        value = self.attributes.get(name)
        return float(np.float32(value)) if isinstance(value, float | int) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of integers, or None where the node states none."""
        value = self.attributes.get(name)
        if value is None or isinstance(value, bytes | int | float):
            return None
        return tuple(int(v) for v in value)

    @property
    def pads(self) -> tuple[int, ...] | None:
        """The pads that a window states, () for none; None where sizes decide them.

        That is so with an `auto_pad` of `SAME_UPPER` or `SAME_LOWER`.
        """
        auto_pad = self.text("auto_pad", "NOTSET")
        if auto_pad.startswith("SAME"):
            return None
        return () if auto_pad == "VALID" else self.integers("pads") or ()

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        value = self.attributes.get(name)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else default

    def constant_integers(self, index: int) -> tuple[int, ...] | None:
        """Return a constant input as a list of integers; None where it is left out.

        Raises:
            Refusal: It is there and not constant.
        """
        value = self.input(index)
        return (
            None
            if value is None
            else tuple(int(v) for v in np.asarray(value.numbers()).reshape(-1))
        )
