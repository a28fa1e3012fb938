"""Recipes: tensors of known type and shape whose bytes are made when they are written."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import ClassVar, Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import BnfoldError
from bnfold.files.values import encode
from bnfold.frozen import frozen
from bnfold.reasons import Reason

PRIVATE: Final = "\0bnfold/"
"""Begins every external location that is bnfold's own; no file name can contain a NUL."""

RECIPE_PREFIX: Final = f"{PRIVATE}recipe/"
"""Begins an external location that names a recipe."""


class UnfitNumbers(BnfoldError):  # noqa: N818 - it ends an attempt, not the program
    """The numbers that a fold makes turn out to be none.

    Attributes:
        node: The number of the node that they are for.
        reason: What is wrong with them.
        met: All nodes of which it was found out at once, with what is wrong with their numbers.
    """

    reason: ClassVar[Reason]

    def __init__(self, node: int, message: str) -> None:
        """Say for which node the numbers are, and what is wrong with them."""
        super().__init__(message)
        self.node = node
        self.met: Mapping[int, Reason] = {node: self.reason}


class FoldOverflow(UnfitNumbers):
    """A number that a fold makes is too large for its element type."""

    reason = Reason.OVERFLOW

    def __init__(self, node: int, place: str, dtype: np.dtype[np.generic]) -> None:
        """Say where the number belongs, and which type cannot hold it."""
        super().__init__(node, f"{place}: a folded number is too large for {dtype}")


class FoldUnderflow(UnfitNumbers):
    """A weight that a fold makes has numbers too small for its element type."""

    reason = Reason.UNDERFLOW

    def __init__(self, node: int, place: str, dtype: np.dtype[np.generic]) -> None:
        """Say where the weight is, and which type cannot hold it."""
        super().__init__(node, f"{place}: folded numbers are too small for {dtype}")


class NotFinite(UnfitNumbers):
    """A weight holds what is no number.

    Times a scale it would be the same again, but not together with a shift: ∞ (x + t) is not
    ∞ x + ∞ t where the two have different signs.
    """

    reason = Reason.NOT_FINITE

    def __init__(self, node: int, place: str) -> None:
        """Say which weight it is."""
        super().__init__(node, f"{place} holds NaN or infinity")


class Recipe(Protocol):
    """A tensor to be made while it is written."""

    @property
    def data_type(self) -> int:
        """The element type, an `onnx.TensorProto.DataType`."""

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape."""

    def blocks(self) -> Iterator[memoryview]:
        """Yield the tensor's bytes, little-endian and in C order, in bounded pieces.

        A piece is good until the next one is asked for.
        """


@frozen(eq=False)
class Literal:
    """A tensor whose numbers are in memory: a bias, or merged parameters."""

    values: NDArray[np.generic]

    @property
    def data_type(self) -> int:
        """The element type of the array."""
        return onnx.helper.np_dtype_to_tensor_dtype(self.values.dtype)

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.values.shape

    def blocks(self) -> Iterator[memoryview]:
        """Yield the array as one block."""
        yield encode(self.values)


def reference(name: str, recipe: Recipe, recipes: MutableMapping[str, Recipe]) -> onnx.TensorProto:
    """Enter `recipe` into `recipes` and return the tensor that stands for it in a model.

    Args:
        name: The tensor's name in the model.
        recipe: What the tensor will be.
        recipes: The model's recipes by location; gains one.
    """
    location = f"{RECIPE_PREFIX}{len(recipes)}"
    recipes[location] = recipe
    tensor = onnx.TensorProto(
        name=name,
        data_type=recipe.data_type,
        dims=recipe.dims,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=location)
    return tensor
