"""What a proof needs to know of a cone before anything is computed."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import onnx

from bnfold.verification.operators.node import UnsupportedError
from bnfold.verification.operators.table import Row, row_of
from bnfold.verification.proof.cone import Cone


def linear_depth(cone: Cone) -> int:
    """Return the largest number of linear operators in series.

    The magnitude grows with every one of them, so a bound over many says little.
    """
    return _in_series(cone, lambda node, entering: max(entering) + row_of(node).is_linear)


def roundings_in_series(cone: Cone, changed: Collection[str]) -> int:
    """Return how many changed constants a value meets at most on its way; at least 1.

    Every one of them was rounded, and the errors add up. The weight and the bias of one operator
    count once: each adds its share to a different part of the magnitude. In a product of two
    tensors the errors of both come together.
    """

    def met(node: onnx.NodeProto, entering: Sequence[int]) -> int:
        here = sum(entering) if row_of(node).multiplies else max(entering, default=0)
        return here + any(name in changed for name in node.input)

    return max(1, _in_series(cone, met))


def normalizations_in_series(cone: Cone) -> int:
    """Return how many batch normalizations a value meets at most on its way."""
    return _in_series(cone, lambda node, entering: max(entering) + row_of(node).normalizes)


def _in_series(cone: Cone, count: Callable[[onnx.NodeProto, Sequence[int]], int]) -> int:
    """Return the largest count of any tensor that varies, from those that enter its node."""
    depth: dict[str, int] = dict.fromkeys(cone.leaves, 0)
    deepest = 0
    for node in cone.passing:
        entering = [depth[name] for name in node.input if name in depth]
        if entering:
            depth |= dict.fromkeys(node.output, count(node, entering))
            deepest = max(deepest, *(depth[name] for name in node.output))
    return deepest


def brings_numbers_in(cone: Cone) -> bool:
    """Tell whether an operator brings in a number of its own, as the value of a Pad."""
    return any(row_of(node).brings_in for node in cone.passing)


def casts(cone: Cone) -> Counter[int]:
    """Count the Casts of what varies, by their target; one to a tensor's type counts as 0.

    In float64 a Cast between floating dtypes does nothing, so a probe cannot see it round.
    """
    return Counter(
        next((a.i for a in node.attribute if a.name == "to"), 0)
        for node in cone.passing
        if row_of(node).casts
    )


def is_straight(cone: Cone) -> bool:
    """Tell whether a cone computes an affine function.

    Two affine functions that agree where no input is negative agree everywhere.
    """
    return _consists_of(cone, lambda row: row.is_linear or row.is_affine)


def is_alike_for_all_shapes(cone: Cone) -> bool:
    """Tell whether the same is computed whatever the shape of what enters, and for each sample."""
    attributes = [attribute for node in cone.passing for attribute in node.attribute]
    fitted = any(a.name == "output_shape" or a.s.startswith(b"SAME") for a in attributes)
    return not fitted and _consists_of(cone, lambda row: row.is_linear or row.is_elementwise)


def _consists_of(cone: Cone, belongs: Callable[[Row], bool]) -> bool:
    return len(cone.passed) == len(cone.nodes) and all(
        belongs(row_of(node)) for node in cone.passing
    )


def check_provable(cone: Cone) -> None:
    """Refuse a cone with an operator of whose magnitude nothing is known; nothing is computed.

    Raises:
        UnsupportedError: There is one.
    """
    for node in cone.passing:
        if row_of(node).magnitude is None:
            raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
