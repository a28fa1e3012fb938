"""The batch normalizations of a model, and whether their statistics can be taken from data."""

from collections.abc import Sequence

import numpy as np

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE
from bnfold.rules.affine_nodes import is_per_element, training_mode

_INPUTS = 5


@frozen
class Normalization:
    """A batch normalization of a model.

    Attributes:
        node: Its number in the view.
        module: Identifies its parameters. Nodes of one module have one estimate, made from all of
            its uses, as in PyTorch.
        training: Whether it is in training mode.
        obstacle: Why its statistics cannot be had from data, or its mode not be changed; may be
            empty.
    """

    node: int
    module: tuple[int, ...]
    training: bool
    obstacle: str = ""


def find(graph: Graph) -> tuple[Normalization, ...]:
    """Return every batch normalization of a model, in the order of the data."""
    view = graph.view
    numbers = (node.number for node in view.nodes if graph.is_normalization(node.number))
    return tuple(_normalization(graph, number) for number in numbers)


def _normalization(graph: Graph, number: int) -> Normalization:
    operator = graph.operator(number)
    return Normalization(
        number, _module(graph, number), bool(training_mode(operator)), _obstacle(graph, number)
    )


def _module(graph: Graph, number: int) -> tuple[int, ...]:
    """Return the tensors of its parameters: a module that is used twice reads the same four.

    But exporters also let different modules read one tensor where the numbers are equal, and those
    of all new modules are. So a normalization with γ = 1 and β = 0 is a module by itself.
    """
    parameters = graph.view.nodes[number].inputs[1:_INPUTS]
    operator = graph.operator(number)
    gamma, beta = operator.input(1), operator.input(2)
    if gamma is None or beta is None or not (gamma.is_constant and beta.is_constant):
        return (number,)
    is_new = np.all(gamma.numbers() == 1) and not np.any(beta.numbers())
    return (number,) if is_new else parameters


def _obstacle(graph: Graph, number: int) -> str:
    node, operator = graph.view.nodes[number], graph.operator(number)
    if len(node.inputs) < _INPUTS or NONE in node.inputs[:_INPUTS]:
        return "an input is missing"
    if is_per_element(operator):
        return "its statistics are per element, not per channel (spatial=0)"
    if operator.extra_outputs_used:
        return "its extra outputs are in use"
    return ""


def in_training(normalizations: Sequence[Normalization]) -> tuple[Normalization, ...]:
    """Return those that are in training mode."""
    return tuple(each for each in normalizations if each.training)
