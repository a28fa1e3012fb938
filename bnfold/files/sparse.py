"""Sparse tensors, which a file states by their nonzero numbers and where they are."""

from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import ModelError
from bnfold.files.opened import OpenedModel
from bnfold.files.values import require_rank
from bnfold.limits import COMPUTED, COMPUTED_GROWTH


def dense(sparse: onnx.SparseTensorProto, model: OpenedModel) -> NDArray[np.generic]:
    """Return a sparse tensor as an ordinary array.

    Raises:
        ModelError: Its indices or dimensions cannot be, or it has too many elements for its file.
    """
    values, indices = model.read(sparse.values), model.read(sparse.indices)
    where = f"{model.path}: " if model.path is not None else ""
    what = f"{where}the sparse tensor {sparse.values.name!r}"
    require_rank(len(sparse.dims), what)
    if min(sparse.dims, default=0) < 0:
        raise ModelError(f"{what} has a negative dimension")
    size = prod(sparse.dims)
    if size * values.itemsize > max(COMPUTED, COMPUTED_GROWTH * model.size):
        raise ModelError(f"{what} has {size} elements, too many for what its file holds")
    array = np.zeros(tuple(sparse.dims), values.dtype)
    try:
        if indices.ndim == 1:
            array.reshape(-1)[indices] = values
        else:
            array[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"{what} has indices that do not fit") from error
    return array
