"""A cone: what a tensor is computed from, back to where it is cut out of a graph."""

from collections.abc import Callable, Iterable, Sequence

import onnx

from bnfold.frozen import frozen
from bnfold.verification.operators.table import Row, row_of
from bnfold.verification.proof.scopes import Scope

_Step = tuple[int, onnx.NodeProto, Row]
"""A node's index, the node, and what is known of its operator."""


@frozen
class Cone:
    """The part of a graph that a tensor is computed from, back to the tensors where it is cut.

    Attributes:
        scope: The graph that it is a part of.
        output: Name of the tensor that it computes.
        nodes: Indices of the nodes in `scope.nodes`, in order of computation.
        leaves: Names of the tensors that enter: neither constant nor computed inside.
        passed: The nodes through which elements of the leaves reach the output.
        of_shapes: The nodes that compute with constants and shapes of tensors alone. A node in
            neither set reads elements of the leaves, but only its result's shape matters.
        passing: The nodes of `passed`, in order.
        rows: What is known of the operator of each of these.
    """

    scope: Scope
    output: str
    nodes: tuple[int, ...]
    leaves: tuple[str, ...]
    passed: frozenset[int]
    of_shapes: frozenset[int]
    passing: tuple[onnx.NodeProto, ...]
    rows: tuple[Row, ...]

    @property
    def weights(self) -> list[str]:
        """Names of the constants that the nodes read, each once."""
        scope = self.scope
        names = dict.fromkeys(n for i in self.nodes for n in scope.nodes[i].input if n)
        return [name for name in names if scope.is_constant(name)]


def cut(scope: Scope, output: str, stops: Callable[[str], bool], limit: int) -> Cone | None:
    """Return the cone of `output`, cut at tensors for which `stops` is true.

    None if it would have more than `limit` nodes.
    """
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
    steps = [(index, scope.nodes[index], row_of(scope.nodes[index])) for index in sorted(nodes)]
    of_shapes = _of_shapes(steps, set(leaves))
    return _cone(scope, output, steps, leaves, _passed(steps, output) - of_shapes, of_shapes)


def joined(cones: Sequence[Cone]) -> Cone | None:
    """Return several cones of one graph as one, whose output is that of the last.

    None where they do not fit together: one begins at what another computes, or elements of what a
    node makes reach the output of one, and only its shape that of another.
    """
    nodes = frozenset[int]().union(*(cone.nodes for cone in cones))
    passed = frozenset[int]().union(*(cone.passed for cone in cones))
    of_shapes = frozenset[int]().union(*(cone.of_shapes for cone in cones))
    scope, leaves = cones[-1].scope, dict.fromkeys(leaf for cone in cones for leaf in cone.leaves)
    made = {name for index in nodes for name in scope.nodes[index].output}
    if not made.isdisjoint(leaves) or not all(
        passed.intersection(cone.nodes) == cone.passed
        and of_shapes.intersection(cone.nodes) == cone.of_shapes
        for cone in cones
    ):
        return None
    steps = [(index, scope.nodes[index], row_of(scope.nodes[index])) for index in sorted(nodes)]
    return _cone(scope, cones[-1].output, steps, leaves, passed, of_shapes)


def _cone(
    scope: Scope, output: str, steps: Sequence[_Step], leaves: Iterable[str],
    passed: frozenset[int], of_shapes: frozenset[int],
) -> Cone:  # fmt: skip
    return Cone(
        scope, output, tuple(index for index, _, _ in steps), tuple(leaves), passed, of_shapes,
        tuple(node for index, node, _ in steps if index in passed),
        tuple(row for index, _, row in steps if index in passed),
    )  # fmt: skip


def _of_shapes(steps: Sequence[_Step], varying: set[str]) -> frozenset[int]:
    """Return the nodes that depend on no element of the leaves, only on the shapes of tensors."""
    of_shapes: set[int] = set()
    for index, node, row in steps:
        if varying.isdisjoint(row.elements_of(node)):
            of_shapes.add(index)
        else:
            varying.update(node.output)
    return frozenset(of_shapes)


def _passed(steps: Sequence[_Step], output: str) -> frozenset[int]:
    """Return the nodes of whose results elements, not only the shape, reach the output."""
    wanted, passed = {output}, set[int]()
    for index, node, row in reversed(steps):
        if not wanted.isdisjoint(node.output):
            passed.add(index)
            wanted.update(row.elements_of(node))
    return frozenset(passed)
