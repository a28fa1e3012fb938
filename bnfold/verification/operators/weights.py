"""Weights of linear operators, brought into one layout: (groups, outputs, inputs, taps)."""

import math
from collections.abc import Callable

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import Attributes


@frozen
class Weight:
    """A linear operator's weight.

    Attributes:
        spelling: One name for operators that can be written as one another: Gemm and MatMul.
        laid_out: Returns a weight as (groups, outputs, inputs, taps), given what the node states
            and which of its inputs the weight is; None where it is not of that form.
    """

    spelling: str
    laid_out: Callable[[Array, Attributes, int], Array | None]


def _matrix(weight: Array, attributes: Attributes, index: int) -> Array | None:
    """The matrices of a product, (…, inputs, outputs), or the other way round."""
    if weight.ndim < 2:  # noqa: PLR2004 - the rank of a matrix
        return None
    transposed = attributes.get("transB") if index else not attributes.get("transA")
    matrices = weight.reshape(-1, *weight.shape[-2:], 1)
    return matrices if transposed else matrices.swapaxes(1, 2)


def _kernel(weight: Array, attributes: Attributes, index: int) -> Array | None:
    """A convolution's kernel, (outputs, inputs / groups, k…)."""
    del index
    groups = attributes.get("group", 1)
    if weight.ndim < 2 or groups < 1 or weight.shape[0] % groups:  # noqa: PLR2004 - its channels
        return None
    taps = math.prod(weight.shape[2:])
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], taps)


def _transposed_kernel(weight: Array, attributes: Attributes, index: int) -> Array | None:
    """A transposed convolution's kernel, (inputs, outputs / groups, k…)."""
    kernel = _kernel(weight, attributes, index)
    return None if kernel is None else kernel.swapaxes(1, 2)


PRODUCT = "product"
MATRIX = Weight(PRODUCT, _matrix)
KERNEL = Weight("Conv", _kernel)
TRANSPOSED_KERNEL = Weight("ConvTranspose", _transposed_kernel)
