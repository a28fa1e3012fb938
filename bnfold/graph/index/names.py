"""Fresh names for tensors."""

from collections.abc import Iterable

import onnx

from bnfold.graph.index.outline import Container
from bnfold.graph.index.view import View


class Names:
    """The tensor names that a model uses, in all its scopes.

    Attributes:
        wishes: The fresh names, and what they should have been but for a number that they got.
    """

    def __init__(self, view: View) -> None:
        self.wishes: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._used = {tensor.name for tensor in view.tensors}
        for scope in view.scopes:
            self._used.update(listed(scope.proto))

    def fresh(self, wish: str) -> str:
        """Return the wish, or the wish with a number, such that nothing has this name yet."""
        name, count = wish, self._counts.get(wish, 1)
        while name in self._used:
            count += 1
            name = f"{wish}_{count}"
        self._counts[wish] = count
        self._used.add(name)
        self.wishes[name] = wish
        return name


def listed(container: Container) -> Iterable[str]:
    """Return the names that a graph lists although no node may read or make them."""
    if isinstance(container, onnx.GraphProto):
        yield from (value.name for value in container.input)
        yield from (stored.name for stored in container.initializer)
        yield from (sparse.values.name for sparse in container.sparse_initializer)
