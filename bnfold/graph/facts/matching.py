"""Matching the formulas of composites with what a node makes.

A product is matched by multiplying out: the Muls, Divs, Pows, Sqrts and Reciprocals that make a
tensor give a number and factors with exponents. Where a factor could be multiplied out further or
stand for itself, both are tried. A sum is matched in the same way. Casts between floating-point
types and Identities are looked through.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.facts.tensors import Tensors, is_near
from bnfold.graph.index.view import NONE, Edge, Node
from bnfold.reasons import Refusal
from bnfold.rules.expressions import (
    Call,
    Either,
    Expression,
    Hole,
    Number,
    Parameter,
    Product,
    Sum,
)

_STEPS = 2000
"""Steps that it may take to match a formula with a tensor."""


@frozen(eq=False)
class _Part:
    """A tensor, and where it is read."""

    tensor: int
    edge: Edge = (NONE, 0)


@frozen(eq=False)
class Match:
    """How a formula fits, as far as it has been looked at.

    Attributes:
        nodes: The nodes that compute it.
        holes: The tensor that stands in each hole.
        parameters: Where each parameter is read.
    """

    nodes: frozenset[int] = frozenset()
    holes: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, Edge] = field(default_factory=dict)

    def through(self, node: int) -> "Match":
        """Return this with one more node."""
        return Match(self.nodes | {node}, self.holes, self.parameters)


_Leaves = tuple[tuple[_Part, float], ...]
"""Factors with their exponents, or terms with their signs."""


class _OutOfStepsError(Exception):
    """The search took more steps than any real composite needs."""


class Matcher:
    """Matches formulas with what one node makes."""

    def __init__(self, graph: Graph, output: int, tensors: Tensors) -> None:
        self._graph = graph
        self._view = graph.view
        self._tensors = tensors
        self._output = output
        self._steps = 0
        self._ways: dict[type, Callable[[Any, _Part, Match], Iterator[Match]]] = {
            Either: self._match_either,
            Hole: self._match_hole,
            Parameter: self._match_parameter,
            Number: self._match_number,
            Call: self._match_call,
            Product: self._match_product,
            Sum: self._match_sum,
        }

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > _STEPS:
            raise _OutOfStepsError

    def matches(self, formula: Expression) -> Iterator[Match]:
        """Yield the ways in which a formula fits the node's first output."""
        made = self._view.nodes[self._output].outputs
        try:
            yield from self._match(formula, _Part(made[0]), Match())
        except (_OutOfStepsError, Refusal):
            return

    def is_closed(self, match: Match) -> bool:
        """Whether it is all in one scope, and nobody else reads what is computed inside."""
        scopes = {self._view.nodes[node].scope for node in match.nodes}
        if self._output not in match.nodes or len(scopes) > 1:
            return False
        for node in match.nodes - {self._output}:
            for tensor in self._view.nodes[node].outputs:
                if tensor != NONE and not self._is_read_by(tensor, match.nodes):
                    return False
        return True

    def _is_read_by(self, tensor: int, nodes: frozenset[int]) -> bool:
        readers = (reader for reader, _ in self._view.readers(tensor))
        strangers = (r for r in readers if r not in nodes and not self._graph.makes_constants(r))
        return not self._view.tensors[tensor].outputs and next(strangers, None) is None

    # -- one expression -----------------------------------------------------------------------

    def _match(self, formula: Expression, part: _Part, match: Match) -> Iterator[Match]:
        self._count_step()
        return self._ways[type(formula)](formula, part, match)

    def _match_either(self, either: Either, part: _Part, match: Match) -> Iterator[Match]:
        for option in either.options:
            yield from self._match(option, part, match)

    def _match_number(self, number: Number, part: _Part, match: Match) -> Iterator[Match]:
        value = self._tensors.number(part.tensor)
        if value is not None and is_near(value, number.value):
            yield match

    def _match_product(self, product: Product, part: _Part, match: Match) -> Iterator[Match]:
        room = sum(max(1, abs(round(power))) for _, power in product.parts)
        for value, factors, seen in self._factors(part, match, room):
            if value and is_near(value, product.number):
                yield from self._assign(product.parts, factors, seen)

    def _match_sum(self, total: Sum, part: _Part, match: Match) -> Iterator[Match]:
        for value, terms, seen in self._terms(part, match, len(total.parts)):
            if is_near(value, total.number):
                yield from self._assign(total.parts, terms, seen)

    def _match_hole(self, hole: Hole, part: _Part, match: Match) -> Iterator[Match]:
        tensor = self._tensors.bare(part.tensor)
        if tensor in self._graph.constants:
            return
        known = match.holes.get(hole.name)
        if known is None:
            holes = {**match.holes, hole.name: tensor}
            yield Match(match.nodes, holes, match.parameters)
        elif known == tensor:
            yield match

    def _match_parameter(self, parameter: Parameter, part: _Part, match: Match) -> Iterator[Match]:
        if part.tensor not in self._graph.constants or self._tensors.size(part.tensor) == 1:
            return
        known = match.parameters.get(parameter.name)
        if known is None:
            parameters = {**match.parameters, parameter.name: part.edge}
            yield Match(match.nodes, match.holes, parameters)
        elif known == part.edge:
            yield match

    def _match_call(self, formula: Call, part: _Part, match: Match) -> Iterator[Match]:
        node = self._tensors.maker(part.tensor)
        if node is None:
            return
        match = match.through(node.number)
        if self._tensors.is_transparent(node):
            yield from self._match_call(formula, _Part(node.inputs[0], (node.number, 0)), match)
            return
        arguments = formula.arguments
        if node.proto.op_type not in formula.op_types or len(node.inputs) < len(arguments):
            return
        if formula.over and not self._tensors.is_spatial(node):
            return
        parts = [_Part(tensor, (node.number, i)) for i, tensor in enumerate(node.inputs)]
        orders = [parts, parts[::-1]] if node.proto.op_type in _SYMMETRIC else [parts]
        for order in orders:
            for found in self._match_each(arguments, order, match):
                if all(self._tensors.tells(node, *each) for each in formula.numbers.items()):
                    yield found

    def _match_each(
        self, formulas: Sequence[Expression], parts: Sequence[_Part], match: Match
    ) -> Iterator[Match]:
        if not formulas:
            yield match
            return
        if parts[0].tensor == NONE:
            return
        for found in self._match(formulas[0], parts[0], match):
            yield from self._match_each(formulas[1:], parts[1:], found)

    def _assign(
        self, wanted: Sequence[tuple[Expression, float]], leaves: _Leaves, match: Match
    ) -> Iterator[Match]:
        """Match each wanted factor or term with a leaf of its own, and leave none over."""
        if len(wanted) != len(leaves):
            return
        if not wanted:
            yield match
            return
        (formula, exponent), rest = wanted[0], wanted[1:]
        for index, (part, own) in enumerate(leaves):
            if own != exponent:
                continue
            for found in self._match(formula, part, match):
                yield from self._assign(rest, leaves[:index] + leaves[index + 1 :], found)

    # -- products and sums --------------------------------------------------------------------

    def _factors(
        self, part: _Part, match: Match, room: int
    ) -> Iterator[tuple[float, _Leaves, Match]]:
        """Yield the ways to multiply a tensor out: a number, factors, and the nodes seen."""
        for leaves, seen in self._spread(part, 1.0, match, _as_product, room):
            value = 1.0
            factors: dict[int, tuple[_Part, float]] = {}
            for leaf, exponent in leaves:
                number = self._tensors.number(leaf.tensor)
                if number is not None:
                    value *= _power(number, exponent)
                    continue
                bare = self._tensors.bare(leaf.tensor)
                earlier = factors[bare][1] if bare in factors else 0.0
                factors[bare] = (leaf, earlier + exponent)
            yield value, tuple(factors.values()), seen

    def _terms(
        self, part: _Part, match: Match, room: int
    ) -> Iterator[tuple[float, _Leaves, Match]]:
        """Yield the ways to take a sum apart: a number, terms, and the nodes seen."""
        for leaves, seen in self._spread(part, 1.0, match, _as_sum, room):
            value = 0.0
            terms = []
            for leaf, sign in leaves:
                number = self._tensors.number(leaf.tensor)
                if number is None:
                    terms.append((leaf, sign))
                else:
                    value += sign * number
            yield value, tuple(terms), seen

    def _spread(
        self, part: _Part, exponent: float, match: Match, rule: "_Rule", room: int
    ) -> Iterator[tuple[_Leaves, Match]]:
        """Yield the ways to take a tensor apart by a rule, the one without any last.

        At most `room` of the parts may be other than numbers.
        """
        self._count_step()
        node = self._tensors.maker(part.tensor)
        inner = None if node is None else self._parts_of(node, exponent, rule)
        if node is not None and inner is not None:
            yield from self._spread_all(inner, match.through(node.number), rule, room)
        if room or self._tensors.number(part.tensor) is not None:
            yield ((part, exponent),), match

    def _parts_of(self, node: Node, exponent: float, rule: "_Rule") -> _Leaves | None:
        if self._tensors.is_transparent(node):
            return ((_Part(node.inputs[0], (node.number, 0)), exponent),)
        second = self._tensors.number(node.inputs[1]) if len(node.inputs) > 1 else None
        exponents = rule(node.proto.op_type, exponent, second)
        if exponents is None or len(node.inputs) < len(exponents):
            return None
        return tuple(
            (_Part(node.inputs[i], (node.number, i)), power) for i, power in enumerate(exponents)
        )

    def _spread_all(
        self, parts: _Leaves, match: Match, rule: "_Rule", room: int
    ) -> Iterator[tuple[_Leaves, Match]]:
        if not parts:
            yield (), match
            return
        (part, exponent), rest = parts[0], parts[1:]
        needed = sum(self._tensors.number(other.tensor) is None for other, _ in rest)
        if room < needed:
            return
        for leaves, seen in self._spread(part, exponent, match, rule, room - needed):
            used = sum(self._tensors.number(leaf.tensor) is None for leaf, _ in leaves)
            for others, all_seen in self._spread_all(rest, seen, rule, room - used):
                yield leaves + others, all_seen


_Rule = Callable[[str, float, float | None], Sequence[float] | None]
"""What the inputs of an operator are to its output: exponents or signs, for that of the output."""

_SYMMETRIC = frozenset({"Min", "Max"})


def _as_product(op_type: str, exponent: float, second: float | None) -> Sequence[float] | None:
    if op_type == "Mul":
        return exponent, exponent
    if op_type == "Div":
        return exponent, -exponent
    if op_type == "Sqrt":
        return (exponent / 2,)
    if op_type == "Reciprocal":
        return (-exponent,)
    if op_type == "Pow" and second is not None:
        return (exponent * second,)
    return None


def _as_sum(op_type: str, sign: float, second: float | None) -> Sequence[float] | None:
    del second
    if op_type == "Add":
        return sign, sign
    if op_type == "Sub":
        return sign, -sign
    return (-sign,) if op_type == "Neg" else None


def _power(number: float, exponent: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(number) ** exponent)
