"""A cone: what a tensor is computed from, back to where it is cut out of a graph."""

from collections.abc import Callable, Sequence

import onnx

from bnfold.frozen import frozen
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.scopes import Scope


@frozen
class Cone:
    """What a tensor is computed from, back to where it was cut.

    Attributes:
        scope: The graph.
        output: The tensor.
        nodes: Indices of the nodes in `scope.nodes`, in order of computation.
        leaves: The tensors that enter: neither constant nor computed inside.
        passed: Those of the nodes through which elements of what enters reach the output.
        told: Those that compute with nothing but constants and the shapes of tensors. What is in
            neither is computed for its shape alone.
    """

    scope: Scope
    output: str
    nodes: tuple[int, ...]
    leaves: tuple[str, ...]
    passed: frozenset[int]
    told: frozenset[int]

    @property
    def passing(self) -> list[onnx.NodeProto]:
        """The nodes through which elements of what enters reach the output, in order."""
        return [self.scope.nodes[index] for index in self.nodes if index in self.passed]

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
    ordered = sorted(nodes)
    told = _told(scope, ordered, set(leaves))
    passed = _passed(scope, ordered, output) - told
    return Cone(scope, output, tuple(ordered), tuple(leaves), passed, told)


def _told(scope: Scope, ordered: Sequence[int], varying: set[str]) -> frozenset[int]:
    """Return the nodes that see no element of what enters, only how large tensors are."""
    told: set[int] = set()
    for index in ordered:
        node = scope.nodes[index]
        if row_of(node).sees_shape_only or varying.isdisjoint(node.input):
            told.add(index)
        else:
            varying.update(node.output)
    return frozenset(told)


def _passed(scope: Scope, ordered: Sequence[int], output: str) -> frozenset[int]:
    """Return the nodes of which more than the shape of what they make reaches the output."""
    wanted, passed = {output}, set[int]()
    for index in reversed(ordered):
        node = scope.nodes[index]
        if not wanted.isdisjoint(node.output):
            passed.add(index)
            wanted.update(() if row_of(node).sees_shape_only else node.input)
    return frozenset(passed)
