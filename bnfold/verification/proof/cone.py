"""A cone: what a tensor is computed from, back to where it is cut out of a graph."""

from collections.abc import Callable

from bnfold.frozen import frozen
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
