"""Where a fold happened, in names that both models know."""

from bnfold.frozen import frozen
from bnfold.plain import Plain

ScopePath = tuple[tuple[str, str], ...]
"""How to get from the main graph into a subgraph or a function; see `Region.scope`."""


@frozen
class Region(Plain):
    """Where to cut the original and the folded model to see one fold and nothing else.

    Attributes:
        scope: The path to the graph that holds the region: `()` is the main graph; an entry
            `(first output of the owning node, attribute)` leads into a subgraph, an entry
            `("domain::name", "")` into a local function.
        inputs: Names of the tensors that enter the region; the same values in both models.
        outputs: Names of the tensors that leave it; the same values in both models but for
            rounding.
    """

    scope: ScopePath
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
