"""Nodes that ask the same operator about the same tensors for something else.

An operator of which no magnitude is known is beyond a probe, and inputs that are made up may never
show what such a node states: the bound that nothing exceeds, the branch that is not taken. So where
the candidate has the original's node with other attributes or constants, outputs that agree do not
outweigh that.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx

from bnfold.onnx_model.computing import TooLargeError
from bnfold.verification.difference import Difference
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import row_named, row_of
from bnfold.verification.proof.cone import cut
from bnfold.verification.proof.identity import version_of
from bnfold.verification.proof.matching import Matcher, Numbered
from bnfold.verification.proof.scopes import Scope
from bnfold.verification.proof.unlike import (
    is_alike,
    unlike_arrays,
    unlike_attributes,
    with_article,
)

_ALL = 1 << 30
"""The most nodes of a cone: any number."""
_Read = tuple[int | None, ...]


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
        found = (_how(old.scope, new.scope, mine, node) for mine in left.get(read, ()) if read)
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
    """Return the numbers of what a node reads that varies; nothing where one has none."""
    scope = numbered.scope
    read = [matcher.of(numbered, n) for n in node.input if n and not scope.is_constant(n)]
    return () if None in read else tuple(read)


def _how(old: Scope, new: Scope, mine: onnx.NodeProto, theirs: onnx.NodeProto) -> str:
    """Say what a node states otherwise; nothing where it does not, or where a probe can tell."""
    before, after = row_of(mine), row_of(theirs)
    if not is_alike(mine, theirs):
        other = before.decides and after.decides
        return f"the original has {with_article(mine.op_type)} there" if other else ""
    if (after.magnitude is not None and not after.casts) or row_named(theirs.op_type).is_linear:
        return ""
    said = [*unlike_attributes(old, new, mine, theirs), *_unlike_constants(old, new, mine, theirs)]
    versions = [
        version_of(node.op_type, node.domain, scope.opsets.get(node.domain))
        for node, scope in ((mine, old), (theirs, new))
    ]
    if versions[0] != versions[1]:
        said.append(f"it is of version {versions[1]} instead of {versions[0]}")
    return "; ".join(said)


def _unlike_constants(
    old: Scope, new: Scope, mine: onnx.NodeProto, theirs: onnx.NodeProto
) -> Iterator[str]:
    """Yield the constants that have other numbers; zeros may as well be left out."""
    for first, second in itertools.zip_longest(mine.input, theirs.input, fillvalue=""):
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
    return np.array_equal(one.reshape(-1), other.reshape(-1))


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
