"""The order of a tensor's axes, as Transposes change it."""

from collections.abc import Callable, Mapping

import numpy as np

from bnfold.frozen import frozen
from bnfold.rules.affine import Affine
from bnfold.rules.operator import Operator, Shape
from bnfold.rules.reshaping import permutation


@frozen
class Order:
    """Which axis of what is read each axis of the result is.

    Attributes:
        axes: These axes; none where all stay in place, however many there are.
    """

    axes: tuple[int, ...] = ()

    @classmethod
    def of(cls, axes: tuple[int, ...]) -> "Order":
        """Return the order that a permutation of axes is."""
        return cls() if axes == tuple(range(len(axes))) else cls(axes)

    def then(self, outer: "Order") -> "Order":
        """Return outer ∘ self: first this, then the other."""
        if not (self.axes and outer.axes):
            return self if self.axes else outer
        return Order.of(tuple(self.axes[axis] for axis in outer.axes))

    def of_shape(self, shape: Shape) -> Shape:
        """Return the shape of the result; nothing where that of what is read is not known."""
        return tuple(shape[axis] for axis in self.axes) if self.axes and shape else shape

    def down(self, affine: Affine) -> Affine:
        """Return as what an affine of what is read appears in the result."""
        return affine.moved(lambda values: values.transpose(self.axes)) if self.axes else affine

    def up(self, affine: Affine) -> Affine:
        """Return the affine of what is read that appears as this one in the result."""
        if not self.axes:
            return affine
        back = np.argsort(self.axes)
        return affine.moved(lambda values: values.transpose(back))


def transposed(op: Operator) -> Order:
    """Transpose: the order that it states, or all axes the other way round."""
    stated = op.integers("perm")
    return Order.of(stated or permutation(op, op.required(0).rank))


ORDER: Mapping[str, Callable[[Operator], Order]] = {"Transpose": transposed}
"""What does nothing but lay a tensor's axes out in another order."""

TURNED = "the axes change their order"
"""What is said of linear maps between different Transposes."""
