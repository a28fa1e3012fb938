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
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        entering = [depth[name] for name in node.input if name in depth]
        if entering:
            depth |= dict.fromkeys(node.output, count(node, entering))
            deepest = max(deepest, *(depth[name] for name in node.output))
    return deepest


def brings_numbers_in(cone: Cone) -> bool:
    """Tell whether an operator brings in a number of its own, as the value of a Pad."""
    return any(row_of(cone.scope.nodes[index]).brings_in for index in cone.nodes)


def casts(cone: Cone) -> Counter[int]:
    """Count the Casts of what varies, by their target; one to a tensor's type counts as 0.

    In float64 a Cast between floating dtypes does nothing, so a probe cannot see it round.
    """
    varying = set(cone.leaves)
    counted: Counter[int] = Counter()
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        if varying.intersection(node.input):
            varying.update(node.output)
            if row_of(node).casts:
                counted[next((a.i for a in node.attribute if a.name == "to"), 0)] += 1
    return counted


def is_straight(cone: Cone) -> bool:
    """Tell whether all is linear but for shifts: what is right for half of all numbers is right."""
    return _consists_of(cone, lambda row: row.is_linear or row.is_affine)


def is_alike_for_all_shapes(cone: Cone) -> bool:
    """Tell whether the same is computed whatever the shape of what enters, and for each sample."""
    nodes = [cone.scope.nodes[index] for index in cone.nodes]
    attributes = [attribute for node in nodes for attribute in node.attribute]
    fitted = any(a.name == "output_shape" or a.s.startswith(b"SAME") for a in attributes)
    return not fitted and _consists_of(cone, lambda row: row.is_linear or row.is_elementwise)


def _consists_of(cone: Cone, belongs: Callable[[Row], bool]) -> bool:
    return all(belongs(row_of(cone.scope.nodes[index])) for index in cone.nodes)


def check_provable(cone: Cone) -> None:
    """Refuse a cone with an operator of whose magnitude nothing is known; nothing is computed.

    Raises:
        UnsupportedError: There is one.
    """
    varying = set(cone.leaves)
    for index in cone.nodes:
        node = cone.scope.nodes[index]
        row = row_of(node)
        if not row.sees_shape_only and varying.intersection(node.input):
            if row.magnitude is None:
                raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
            varying.update(node.output)
