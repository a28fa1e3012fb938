"""Which shape an operator demands of an input, as far as its parameters and attributes tell."""

from collections.abc import Callable, Sequence

from bnfold.verification.operators.node import Attributes

Shape = tuple[int | None, ...]
"""Sizes; None for one that is not known."""
Shapes = Sequence[tuple[int, ...] | None]
"""The shapes of the constant inputs, in their order; None for one that is left out or varies."""
Demand = Callable[[int, Shapes, Attributes, int | None], Shape | None]
"""Returns the shape of the input at an index, from the shapes of the constant inputs, the
attributes and the rank of that input, where it is known; None where not even the rank is known."""

_MATRIX = 2  # axes


def parameter(shapes: Shapes, index: int) -> tuple[int, ...] | None:
    """Return the shape of a parameter; None where it is left out, varies, or is empty."""
    shape = shapes[index] if index < len(shapes) else None
    return None if shape == (0,) else shape


def of_conv(index: int, shapes: Shapes, attributes: Attributes, _: int | None) -> Shape | None:
    """X is of the rank of the weight (Cout, Cin/g, k…), with Cin channels."""
    weight = parameter(shapes, 1)
    if index or weight is None or len(weight) < _MATRIX:
        return None
    channels = weight[1] * int(attributes.get("group") or 1)
    return (None, channels, *(None,) * (len(weight) - 2))


def of_conv_transpose(index: int, shapes: Shapes, _: Attributes, __: int | None) -> Shape | None:
    """X is of the rank of the weight (Cin, Cout/g, k…), with Cin channels."""
    weight = parameter(shapes, 1)
    if index or weight is None or len(weight) < _MATRIX:
        return None
    return (None, weight[0], *(None,) * (len(weight) - 2))


def of_gemm(index: int, shapes: Shapes, attributes: Attributes, _: int | None) -> Shape | None:
    """A and B are matrices: the sum runs over the columns of A and the rows of B."""
    if index > 1:
        return None
    other = parameter(shapes, 1 - index)
    if other is None or len(other) != _MATRIX:
        return (None, None)
    summed = [int(not attributes.get("transA")), int(bool(attributes.get("transB")))]
    size = other[summed[1 - index]]
    return (None, size) if summed[index] else (size, None)


def of_product(index: int, shapes: Shapes, _: Attributes, rank: int | None) -> Shape | None:
    """The sum runs over the last axis of A and the last but one of B, behind any stack."""
    other = parameter(shapes, 1 - index)
    if not other or rank is None or rank < 1 + index:
        return None
    summed = other[-1] if index else other[-2:][0]
    return (*(None,) * (rank - 1 - index), summed, *(None,) * index)


def of_normalization(index: int, shapes: Shapes, _: Attributes, rank: int | None) -> Shape | None:
    """X (N, C, …) has a channel for each element of the parameters."""
    known = (shape for shape in shapes[1:5] if shape and len(shape) == 1)
    channels = next(known, None)
    if index or channels is None or rank is None or rank < _MATRIX:
        return None
    return (None, channels[0], *(None,) * (rank - 2))


def of_window(index: int, _: Shapes, attributes: Attributes, __: int | None) -> Shape | None:
    """X has an axis for each of the window's, and two more."""
    kernel = attributes.get("kernel_shape")
    return None if index or not kernel else (None,) * (2 + len(kernel))


def of_permutation(index: int, _: Shapes, attributes: Attributes, __: int | None) -> Shape | None:
    """The data has as many axes as are permuted."""
    axes = attributes.get("perm")
    return None if index or not axes else (None,) * len(axes)
