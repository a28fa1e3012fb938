"""Nodes that ask the same operator about the same tensors for something else.

An operator of which no magnitude is known is beyond a probe, and inputs that are made up may never
show what such a node states: the bound that nothing exceeds, the branch that is not taken. So where
the candidate has the original's node with other attributes or constants, outputs that agree do not
outweigh that.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper

from bnfold.frozen import frozen
from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.difference import Difference
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import Row, row_named, row_of
from bnfold.verification.proof.cone import cut
from bnfold.verification.proof.identity import says_nothing, version_of
from bnfold.verification.proof.matching import Matcher, Numbered
from bnfold.verification.proof.scopes import Scope
from bnfold.verification.proof.unlike import (
    is_alike,
    schema_of,
    unlike_arrays,
    unlike_attributes,
    with_article,
)

_ALL = 1 << 30
"""The most nodes of a cone: any number."""
_BROADCASTING = 7
"""From this version on shapes are broadcast as in NumPy."""
_SHOWN_BY_SHAPES = {"keepdims"}
"""Attributes of which nothing depends but the shape of the output, so that a run shows them."""
_Read = tuple[int, ...]


def stated_otherwise(matcher: Matcher) -> Iterator[Difference]:
    """Yield the candidate's nodes that are the original's but for what they state.

    And those of the original that decide by what enters what is computed, an If, and that the
    candidate does not have.
    """
    for new in matcher.candidates.values():
        if new.twin is not None:
            yield from _otherwise(matcher, new, new.twin)
            yield from _choices_gone(new, new.twin)


def _otherwise(matcher: Matcher, new: Numbered, old: Numbered) -> Iterator[Difference]:
    left = defaultdict[_Read, list[onnx.NodeProto]](list)
    for node in _unmatched(old, {*new.numbers.values()}):
        left[_read(matcher, old, node)].append(node)
    for node in _unmatched(new, {*old.numbers.values()}):
        read = _read(matcher, new, node)
        there = left.get(read, ()) if read else ()
        found = (_how(_Asked(matcher, old, mine), _Asked(matcher, new, node)) for mine in there)
        how = next(filter(None, found), "")
        if how:
            name = next(filter(None, node.output))
            yield Difference(matcher.written.get(name, name), node.op_type, node.name, how)


def _unmatched(numbered: Numbered, others: set[int]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of which the other model has no output."""
    for node in numbered.scope.nodes:
        made = [numbered.numbers.get(name) for name in node.output if name]
        if made and not any(number in others for number in made):
            yield node


def _read(matcher: Matcher, numbered: Numbered, node: onnx.NodeProto) -> _Read:
    """Return the numbers of what a node reads that varies; nothing where one has none.

    Two tensors may be compared in either order.
    """
    scope = numbered.scope
    read = [matcher.of(numbered, n) for n in node.input if n and not scope.is_constant(n)]
    known = [number for number in read if number is not None]
    if len(known) < len(read):
        return ()
    return tuple(sorted(known) if row_of(node).turned else known)


@frozen
class _Asked:
    """A node, and where it stands."""

    matcher: Matcher
    numbered: Numbered
    node: onnx.NodeProto

    @property
    def scope(self) -> Scope:
        return self.numbered.scope

    @property
    def row(self) -> Row:
        return row_of(self.node)

    @property
    def operands(self) -> list[int | None]:
        """The numbers of the inputs; None for a constant."""
        names = (n if n and not self.scope.is_constant(n) else "" for n in self.node.input)
        return [self.matcher.of(self.numbered, name) if name else None for name in names]

    def settled(self, other: "_Asked") -> tuple[onnx.NodeProto, int | None]:
        """Return the node with its attributes in one of the ways to write them, and its version.

        Defaults are left out of attributes that the other node's version does not have.
        """
        plain = onnx.NodeProto()
        plain.CopyFrom(self.node)
        plain.attribute.extend(self._constants_as_attributes(plain))
        attributes, opset = self.matcher.settled(self.numbered, plain)
        del plain.attribute[:]
        schema = schema_of(other.scope, other.node)
        plain.attribute.extend(
            attribute for attribute in attributes
            if attribute.name not in _SHOWN_BY_SHAPES and not (
                schema is not None and attribute.name not in schema.attributes
                and says_nothing(attribute, plain.op_type, plain.domain, opset)
            )
        )  # fmt: skip
        return plain, opset

    def _constants_as_attributes(self, node: onnx.NodeProto) -> Iterator[onnx.AttributeProto]:
        """Yield what was an attribute in older versions; it is no input of the node any more."""
        schema = schema_of(self.scope, node)
        formal = () if schema is None else schema.inputs
        for index, parameter in zip(range(len(node.input)), formal, strict=False):
            name = parameter.name.lower()
            is_one = name in {"axis", "axes"} or (name, node.op_type) == ("k", "TopK")
            value = _constant(self.scope, node.input[index]) if is_one else None
            if value is not None and value.size:
                node.input[index] = ""
                stated = value.tolist() if name == "axes" else int(value.reshape(-1)[0])
                yield helper.make_attribute(name, stated)


def _how(mine: _Asked, theirs: _Asked) -> str:
    """Say what a node states otherwise; nothing where it does not, or where a probe can tell."""
    if mine.row.turned and theirs.row.turned:
        return _ordered_otherwise(mine, theirs)
    if not is_alike(mine.node, theirs.node):
        other = mine.row.decides and theirs.row.decides
        return f"the original has {with_article(mine.node.op_type)} there" if other else ""
    is_told = theirs.row.magnitude is not None and not theirs.row.casts
    if is_told or row_named(theirs.node.op_type).is_linear:
        return ""
    (first, before), (second, after) = mine.settled(theirs), theirs.settled(mine)
    said = [
        *unlike_attributes(mine.scope, theirs.scope, first, second),
        *_unlike_constants(mine.scope, theirs.scope, first.input, second.input),
    ]
    if _has_changed(theirs.node, before, after):
        said.append(f"it is of version {after} instead of {before}")
    return "; ".join(said)


def _ordered_otherwise(mine: _Asked, theirs: _Asked) -> str:
    """Say how two of >, <, ≥ and ≤ differ where both are asked about the same two tensors.

    a > b is b < a, and not a ≤ b.
    """
    turned = mine.operands != theirs.operands
    second = theirs.node.input[::-1] if turned else theirs.node.input
    said = [*_unlike_constants(mine.scope, theirs.scope, mine.node.input, second)]
    if (mine.row.equal_as_less == theirs.row.equal_as_less) is turned:
        said.append(f"the original has {with_article(mine.node.op_type)} there")
    return "; ".join(said)


def _has_changed(node: onnx.NodeProto, before: int | None, after: int | None) -> bool:
    """Tell whether an operator computes something else in one of two versions."""
    if before is None or after is None:
        return before != after
    versions = [version_of(node.op_type, node.domain, opset) for opset in (before, after)]
    if not all(isinstance(version, int) for version in versions):
        return versions[0] != versions[1]
    first, last = sorted((before, after))
    changes = (_BROADCASTING, *row_named(node.op_type).changed_in)
    return versions[0] != versions[1] and any(first < change <= last for change in changes)


def _unlike_constants(
    old: Scope, new: Scope, mine: Sequence[str], theirs: Sequence[str]
) -> Iterator[str]:
    """Yield the constants that have other numbers; zeros may as well be left out."""
    for first, second in itertools.zip_longest(mine, theirs, fillvalue=""):
        one, other = _constant(old, first), _constant(new, second)
        if one is not None and other is not None and not _same_numbers(one, other):
            yield f"{second or first!r} {unlike_arrays(one, other) or 'is another one'}"


def _constant(scope: Scope, name: str) -> Array | None:
    """Return a constant, nothing where it is left out; None where it varies or is unknown."""
    if not name:
        return np.empty(0)
    try:
        return scope.constant(name) if scope.is_constant(name) else None
    except (EvaluationError, TooLargeError):
        return None


def _same_numbers(one: Array, other: Array) -> bool:
    if not (one.size and other.size):
        return not (one.any() or other.any())
    if one.size == other.size:
        return np.array_equal(one.reshape(-1), other.reshape(-1))
    return bool((one == one.reshape(-1)[0]).all() and (other == one.reshape(-1)[0]).all())


def _choices_gone(new: Numbered, old: Numbered) -> Iterator[Difference]:
    """Yield each If that decides by what enters, and that the candidate has not as it is."""
    for node in _unmatched(old, {*new.numbers.values()}):
        if node.op_type == "If" and _is_decided_by_elements(old.scope, node.input[0]):
            what = "what enters decides which branch it takes, and it is not the same in both"
            yield Difference(next(filter(None, node.output)), "If", node.name, what)


def _is_decided_by_elements(scope: Scope, condition: str) -> bool:
    if scope.is_constant(condition):
        return False
    cone = cut(scope, condition, lambda _: False, _ALL)
    return cone is None or bool(cone.passed) or not cone.nodes
