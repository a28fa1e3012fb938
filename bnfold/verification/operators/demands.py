"""Which shape an operator demands of an input, as far as its parameters and attributes tell."""

from collections.abc import Callable

from bnfold.verification.operators.node import Attributes, Inputs, optional

Shape = tuple[int | None, ...]
"""Sizes; None for one that is not known."""
Demand = Callable[[int, Inputs, Attributes], Shape | None]
"""Returns the shape of the input at an index, from the constant inputs and the attributes; None
where not even the rank is told."""


def of_conv(index: int, parameters: Inputs, attributes: Attributes) -> Shape | None:
    """X is of the rank of the weight (Cout, Cin/g, k…), with Cin channels."""
    W = optional(parameters, 1)
    if index or W is None or W.ndim < 2:  # noqa: PLR2004 - outputs and inputs
        return None
    channels = W.shape[1] * int(attributes.get("group") or 1)
    return (None, channels, *(None,) * (W.ndim - 2))


def of_conv_transpose(index: int, parameters: Inputs, _: Attributes) -> Shape | None:
    """X is of the rank of the weight (Cin, Cout/g, k…), with Cin channels."""
    W = optional(parameters, 1)
    if index or W is None or W.ndim < 2:  # noqa: PLR2004 - inputs and outputs
        return None
    return (None, W.shape[0], *(None,) * (W.ndim - 2))


def of_gemm(index: int, parameters: Inputs, attributes: Attributes) -> Shape | None:
    """A and B are matrices: the sum runs over the columns of A and the rows of B."""
    if index > 1:
        return None
    other = optional(parameters, 1 - index)
    if other is None or other.ndim != 2:  # noqa: PLR2004 - a matrix
        return (None, None)
    summed = [int(not attributes.get("transA")), int(bool(attributes.get("transB")))]
    size = other.shape[summed[1 - index]]
    return (None, size) if summed[index] else (size, None)


def of_window(index: int, _: Inputs, attributes: Attributes) -> Shape | None:
    """X has an axis for each of the window's, and two more."""
    kernel = attributes.get("kernel_shape")
    return None if index or not kernel else (None,) * (2 + len(kernel))


def of_permutation(index: int, _: Inputs, attributes: Attributes) -> Shape | None:
    """The data has as many axes as are permuted."""
    axes = attributes.get("perm")
    return None if index or not axes else (None,) * len(axes)
