"""Cutting a piece out of a graph and computing it."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators.evaluate import run_node, track
from bnfold.verification.operators.magnitude import Tracked, exact
from bnfold.verification.operators.node import EvaluationError, Opsets, UnsupportedError
from bnfold.verification.operators.table import Row, row_of
from bnfold.verification.proof.scopes import Scope


@frozen
class Cone:
    """What a tensor is computed from, back to where it was cut.

    Attributes:
        scope: The graph.
        output: The tensor.
        nodes: Indices of the nodes in `scope.nodes`, in order of computation.
        leaves: The tensors that enter: neither constant nor computed inside.
    """

    scope: Scope
    output: str
    nodes: tuple[int, ...]
    leaves: tuple[str, ...]

    @property
    def weights(self) -> list[str]:
        """Names of the constants that the nodes read, each once."""
        scope = self.scope
        names = dict.fromkeys(n for i in self.nodes for n in scope.nodes[i].input if n)
        return [name for name in names if scope.is_constant(name)]


def cut(scope: Scope, output: str, stops: Callable[[str], bool], limit: int) -> Cone | None:
    """Walk up from `output` to tensors at which `stops`; None if that takes too many nodes."""
    nodes: set[int] = set()
    leaves: dict[str, None] = {}
    pending, seen = [output], {output}
    while pending:
        name = pending.pop()
        if scope.is_constant(name):
            continue
        if name not in scope.producers or (name != output and stops(name)):
            leaves[name] = None
            continue
        node, _ = scope.producers[name]
        nodes.add(scope.places[id(node)])
        if len(nodes) > limit:
            return None
        fresh = [n for n in node.input if n and n not in seen]
        seen.update(fresh)
        pending += fresh
    return Cone(scope, output, tuple(sorted(nodes)), tuple(leaves))


@frozen
class Weights:
    """The constants of a cone, in float64.

    Attributes:
        values: The constants by name.
        dtypes: Their dtypes in the file.
    """

    values: dict[str, Array]
    dtypes: tuple[np.dtype[np.generic], ...]

    def tracked(self) -> dict[str, Tracked]:
        """Return the constants with their magnitudes."""
        return {name: exact(array) for name, array in self.values.items()}


def weights_of(cone: Cone) -> Weights:
    """Read the constants of a cone.

    Raises:
        EvaluationError: One of them cannot be computed.
    """
    values: dict[str, Array] = {}
    dtypes: dict[np.dtype[np.generic], None] = {}
    for name in cone.weights:
        values[name], dtype = cone.scope.wide_constant(name)
        if is_float(np.empty(0, dtype)):
            dtypes[dtype] = None
    return Weights(values, tuple(dtypes))


def lifted(weights: Weights, originals: Weights, tiny: float) -> dict[str, Tracked] | None:
    """Return the constants with the magnitudes that underflow gives them; None if it gives none.

    A number below the smallest normal one of its dtype has an absolute error instead of a
    relative one: u·tiny. So its magnitude is `tiny`. Not rounded are constants that the original
    has just so, and zeros that it has in the same place.
    """
    sizes: dict[str, Tracked] = {}
    for name, array in weights.values.items():
        old = originals.values.get(name)
        if old is None or old.shape != array.shape:
            old = np.broadcast_to(np.nan, array.shape)
        if _is_wide(array) and any(
            _underflown(block, before, tiny).any()
            for block, before in zip(_blocks(array), _blocks(old), strict=True)
        ) and not identical(array, old):  # fmt: skip
            size = np.where(_underflown(array, old, tiny), tiny, np.abs(array))
            sizes[name] = Tracked(array, size, constant=True)
    return weights.tracked() | sizes if sizes else None


def _underflown(array: Array, original: Array, tiny: float) -> Array:
    return np.asarray((np.abs(array) < tiny) & ((array != 0) | (original != 0)))


_BLOCK = 1 << 16
"""Elements that stay in a processor's cache while they are looked at."""


def _is_wide(array: Array) -> bool:
    return array.dtype.kind == "f"


def _blocks(array: Array) -> Iterator[Array]:
    flat = array.reshape(-1)
    return (flat[at : at + _BLOCK] for at in range(0, flat.size, _BLOCK))


def identical(one: Array, other: Array) -> bool:
    """Tell whether two constants are the same; quick where they are not."""
    if one.shape != other.shape:
        return False
    return all(map(np.array_equal, _blocks(one), _blocks(other)))


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


def value_of(cone: Cone, weights: Weights, leaves: Mapping[str, Array]) -> Array:
    """Compute a cone's output for given leaves in float64.

    Raises:
        EvaluationError: A node cannot be computed.
    """
    return _computed(cone, weights.values | dict(leaves), run_node)


def tracked_of(
    cone: Cone, constants: Mapping[str, Tracked], leaves: Mapping[str, Array]
) -> Tracked:
    """Compute a cone's output and its magnitude for given leaves, all in float64.

    Raises:
        EvaluationError: A node cannot be computed.
    """
    varying = {name: Tracked(value, np.abs(value)) for name, value in leaves.items()}
    return _computed(cone, {**constants, **varying}, track)


_T = TypeVar("_T")


def _computed(
    cone: Cone,
    tensors: dict[str, _T],
    step: Callable[[onnx.NodeProto, Opsets, Sequence[_T | None]], list[_T]],
) -> _T:
    scope = cone.scope
    for index in cone.nodes:
        node = scope.nodes[index]
        missing = [n for n in node.input if n and n not in tensors]
        if missing:
            raise EvaluationError(f"{missing[0]} is read before it is computed")
        inputs = [tensors[n] if n else None for n in node.input]
        outputs = [name for name in node.output if name]
        tensors |= dict(zip(outputs, step(node, scope.opsets, inputs), strict=False))
    if cone.output not in tensors:
        raise EvaluationError(f"{cone.output} was not computed")
    return tensors[cone.output]
