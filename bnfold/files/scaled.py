"""A weight times a factor, made while it is written.

The product is computed in float64 and rounded once to the weight's own type. It is made block by
block: a block is a run of indices along one axis, at fixed indices of the axes before it, and so
a stretch of the source's bytes. The factor is cut along with it.
"""

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import FoldOverflow, NotFinite
from bnfold.files.references import is_external
from bnfold.files.stores import MemoryStore, Store
from bnfold.files.values import encode
from bnfold.frozen import frozen

ELEMENTS: Final = 1 << 16
"""Elements in a block: half a megabyte of float64, which a processor's cache holds."""


@frozen(eq=False)
class Scaled:
    """`factor × source`, computed in float64 and rounded once to the source's dtype.

    Attributes:
        opened: The model whose tensor the source is.
        source: A tensor of floating point numbers.
        factor: Broadcasts to the source's shape.
        numbers: The source's numbers, where no file has them because they were computed.
        node: The node that reads the product; an overflow names it.
    """

    opened: OpenedModel
    source: onnx.TensorProto
    factor: NDArray[np.float64]
    numbers: NDArray[np.generic] | None = None
    node: int = -1

    @property
    def data_type(self) -> int:
        """The source's element type."""
        return self.source.data_type

    @property
    def dims(self) -> tuple[int, ...]:
        """The source's shape."""
        return tuple(self.source.dims)

    def blocks(self) -> Iterator[memoryview]:
        """Yield the product's bytes.

        Raises:
            FoldOverflow: A product is not finite although the source's element is.
            NotFinite: An element of the source is not.
            ModelError: The source cannot be read.
        """
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.data_type)
        store, offset = self._store()
        rank = len(self.dims)
        factor = np.asarray(self.factor, np.float64).reshape(
            (1,) * (rank - self.factor.ndim) + self.factor.shape
        )
        # Two buffers for all blocks: to fetch fresh memory takes longer than to multiply.
        narrow = np.empty(min(prod(self.dims), ELEMENTS), dtype)
        wide = np.empty(narrow.size, np.float64)
        for index in _blocks(self.dims):
            shape = tuple(part.stop - part.start for part in index) + self.dims[len(index) :]
            block = narrow[: prod(shape)]
            store.read_into(offset, block.view(np.uint8).data)
            kept = tuple(
                slice(None) if size == 1 else part
                for size, part in zip(factor.shape, index, strict=False)
            )
            laid, exact = block.reshape(shape), wide[: block.size].reshape(shape)
            with np.errstate(over="ignore", invalid="ignore"):
                np.copyto(exact, laid)
                np.multiply(exact, factor[kept], out=exact)
                np.copyto(laid, exact, casting="same_kind")
            if not np.isfinite(block).all():
                source = np.frombuffer(store.read(offset, block.nbytes), dtype)
                self._require_fitting(source, block)
            offset += block.nbytes
            yield encode(block)

    def _store(self) -> tuple[Store, int]:
        if self.numbers is not None:
            return MemoryStore(encode(self.numbers)), 0
        if not is_external(self.source):
            return MemoryStore(bytes(encode(self.opened.read(self.source)))), 0
        found = self.opened.slice_of(self.source)
        return found.store.pinned(), found.offset

    def _require_fitting(self, source: NDArray[np.generic], made: NDArray[np.generic]) -> None:
        if not np.isfinite(source).all():
            raise NotFinite(self.node, f"tensor {self.source.name!r}")
        if not np.isfinite(made).all():
            raise FoldOverflow(self.node, f"tensor {self.source.name!r}", source.dtype)


def _blocks(dims: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the blocks of a tensor in C order, as slices of its leading axes."""
    if not dims:
        yield ()
        return
    if not prod(dims):
        return
    axis = next(k for k in range(len(dims)) if prod(dims[k + 1 :]) <= ELEMENTS)
    step = max(1, ELEMENTS // prod(dims[axis + 1 :]))
    for outer in product(*map(range, dims[:axis])):
        at = tuple(slice(i, i + 1) for i in outer)
        for start in range(0, dims[axis], step):
            yield (*at, slice(start, min(start + step, dims[axis])))
