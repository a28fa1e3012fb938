"""What a matcher asks of tensors: who makes one, and which number one is."""

from contextlib import suppress
from math import prod

import numpy as np

from bnfold.files.walk import OWN_DOMAINS
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE, Node, View
from bnfold.reasons import Refusal
from bnfold.rules.operator import FLOATS

_NEAR = 1 / 256
"""How far a number may be from what the formula says: half precision rounds by 1/2048, bfloat16 by
1/512, and people write 0.7071."""

_SPATIAL = 2
_AXES_INPUT_OPSET = 18


class Tensors:
    """The tensors of a model, without those that nodes in composites make.

    Attributes:
        owned: The nodes that are in a composite.
    """

    def __init__(self, graph: Graph) -> None:
        self.owned: set[int] = set()
        self._graph = graph
        self._view: View = graph.view
        self._numbers: dict[int, float | None] = {NONE: None}

    def maker(self, tensor: int) -> Node | None:
        """Return the node that makes a tensor, if it may belong to the composite."""
        if tensor == NONE or tensor in self._graph.constants:
            return None
        node = self._view.producer(tensor)
        if node is None or node.number in self.owned:
            return None
        return node if node.proto.domain in OWN_DOMAINS else None

    def bare(self, tensor: int) -> int:
        """Return the tensor that is cast, where one is."""
        maker = self.maker(tensor)
        while maker is not None and self.is_transparent(maker):
            tensor = maker.inputs[0]
            maker = self.maker(tensor)
        return tensor

    def size(self, tensor: int) -> int | None:
        """Return the number of elements, where it is known."""
        shape = self._graph.shapes.shapes.get(tensor)
        sizes = [size for size in shape or () if isinstance(size, int)]
        return prod(sizes) if shape is not None and len(sizes) == len(shape) else None

    def number(self, tensor: int) -> float | None:
        """Return the value of a constant that is one number."""
        if tensor not in self._numbers:
            self._numbers[tensor] = None
            if tensor in self._graph.constants and self.size(tensor) == 1:
                with suppress(Refusal, TypeError, ValueError):  # it is not computed, or a text
                    value = self._graph.constants.value(tensor).reshape(-1)
                    self._numbers[tensor] = float(value.astype(np.float64)[0])
        return self._numbers[tensor]

    def tells(self, node: Node, place: tuple[str, int], value: float) -> bool:
        """Whether a node has this value as an attribute, or as a constant input."""
        name, index = place
        if len(node.inputs) > index:
            number = self.number(node.inputs[index])
            return number is not None and is_near(number, value)
        stated = self._graph.operator(node.number).attributes.get(name)
        return isinstance(stated, int | float) and is_near(float(stated), value)

    def is_spatial(self, node: Node) -> bool:
        """Whether a reduction is over all axes behind the channels."""
        operator = self._graph.operator(node.number)
        if node.proto.op_type.startswith("Global"):
            return True
        stated = operator.opset < _AXES_INPUT_OPSET
        try:
            axes = operator.integers("axes") if stated else operator.constant_integers(1)
            rank = operator.required(0).rank
        except Refusal:  # they are unknown
            return False
        return rank > _SPATIAL + 1 and {a % rank for a in axes or ()} == set(range(_SPATIAL, rank))

    def is_transparent(self, node: Node) -> bool:
        """Whether a node only rounds what it reads, or does nothing."""
        if node.proto.op_type == "Identity":
            return True
        if node.proto.op_type != "Cast":
            return False
        operator = self._graph.operator(node.number)
        return operator.required(0).elem_type in FLOATS and operator.integer("to", 0) in FLOATS


def is_near(number: float, wanted: float | None) -> bool:
    """Whether a number is what a formula says, but for rounding; None is any."""
    return wanted is None or abs(number - wanted) <= _NEAR * abs(wanted)
