"""Numbers that are computed in float64 while they are written, and rounded once."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.recipe import FoldOverflow
from bnfold.files.values import encode
from bnfold.frozen import frozen


@frozen(eq=False)
class Rounded:
    """What `make` computes, in another type.

    Attributes:
        make: Yields the numbers in C order, a few at a time; it may be called more than once, and
            by several threads.
        dtype: The type that they are rounded to.
        dims: The shape of them all.
        place: What they are for; an overflow names it.
        node: The number of the node that reads them, for the same.
    """

    make: Callable[[], Iterator[NDArray[np.float64]]]
    dtype: np.dtype[np.generic]
    dims: tuple[int, ...]
    place: str
    node: int

    @property
    def data_type(self) -> int:
        """The element type."""
        return onnx.helper.np_dtype_to_tensor_dtype(self.dtype)

    def blocks(self) -> Iterator[memoryview]:
        """Yield the rounded bytes.

        Raises:
            FoldOverflow: A number is finite and is not any more once it is rounded.
        """
        for exact in self.make():
            with np.errstate(over="ignore", invalid="ignore"):
                block = exact.astype(self.dtype)
            if (np.isfinite(exact) & ~np.isfinite(block)).any():
                raise FoldOverflow(self.node, self.place, self.dtype)
            yield encode(block)
