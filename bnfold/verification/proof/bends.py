"""Where the functions bend that only one of two models has: a bound, a comparison, a choice.

Beyond the operators that a probe can compute nothing but a run tells two models apart, and a bound
that no number of a run reaches shows nothing: `Max(y, 1e-7)` may as well be left out. So what one
model has more of than the other is told, with the two numbers of which either must once have been
the larger one.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import onnx
from onnx import helper

from bnfold.frozen import frozen
from bnfold.verification.difference import Difference
from bnfold.verification.operators.bending import Point
from bnfold.verification.operators.node import default_domain
from bnfold.verification.operators.table import Kind, row_of
from bnfold.verification.proof.identity import Key, content
from bnfold.verification.proof.matching import Matcher, Numbered
from bnfold.verification.proof.ranges import clamp_of, numbers_of
from bnfold.verification.proof.scopes import Scope, all_read, varying, within
from bnfold.verification.proof.unlike import with_article

_Stated = Mapping[str, Any]
_PASSED = {Kind.LINEAR, Kind.AFFINE, Kind.MOVEMENT, Kind.COMBINATION}
_NEARLY = 1e-6
_TOLD = 8
"""So many are told at most."""


@frozen
class Bend:
    """A place where a node's function bends.

    Attributes:
        kind: What identifies it, whatever the tensors are called.
        node: The node.
        point: Where it bends; None where no run tells what enters.
    """

    kind: Key
    node: onnx.NodeProto
    point: Point | None


@frozen
class Unshown:
    """A bend that one model alone has, as long as no run has shown it.

    Attributes:
        difference: What is to be told.
        of_candidate: It is the candidate's.
        point: Where it bends; None where no run can show it.
    """

    difference: Difference
    of_candidate: bool
    point: Point | None


def only_in_one(matcher: Matcher) -> Iterator[Unshown]:
    """Yield the bends that one model has more of than the other where there is no proof."""
    new = matcher.candidates.get(())
    if new is None or new.twin is None:
        return
    sides = [_of_each_kind(new.twin, new), _of_each_kind(new, new.twin)]
    more = [_more(*sides), _more(*reversed(sides))]
    _without_hard_functions(*more)
    _without_hard_functions(*reversed(more))
    for is_candidate, (found, kinds) in enumerate(zip(sides, more, strict=True)):
        for kind in kinds:
            for bend in found[kind][:_TOLD]:
                yield _unshown(matcher, bend, of_candidate=bool(is_candidate))


def _unshown(matcher: Matcher, bend: Bend, *, of_candidate: bool) -> Unshown:
    name = next(filter(None, bend.node.output))
    point = bend.point
    if of_candidate:
        name = matcher.written.get(name, name)
        if point is not None:
            written = (matcher.written.get(n, n) if isinstance(n, str) else n for n in point)
            point = (str(next(written)), next(written))
    whose, other = ("candidate", "original") if of_candidate else ("original", "candidate")
    what = (
        f"the {whose} has {with_article(bend.node.op_type)} there that the {other} does not have, "
        "and no number in a run shows it"
    )
    told = Difference(name, bend.node.op_type, bend.node.name, what)
    return Unshown(told, of_candidate, point)


def _of_each_kind(mine: Numbered, others: Numbered) -> Mapping[Key, list[Bend]]:
    found = defaultdict[Key, list[Bend]](list)
    for node in _open(mine, others):
        for bend in _bends(node, mine.scope):
            found[bend.kind].append(bend)
    return found


def _more(some: Mapping[Key, Sequence[Bend]], others: Mapping[Key, Sequence[Bend]]) -> Counter[Key]:
    counts = (Counter({k: len(bends) for k, bends in each.items()}) for each in (some, others))
    return next(counts) - next(counts)


def _without_hard_functions(some: Counter[Key], others: Counter[Key]) -> None:
    """Take away hard sigmoids that the other model writes as a Clip of some width."""
    for kind in [kind for kind in some if kind[0] == "hard"]:
        lows = [k for k in others if k[0] == "at least" and isinstance(k[1], float)]
        highs = [k for k in others if k[0] == "at most" and isinstance(k[1], float)]
        for low, high in ((low, high) for low in lows for high in highs):
            width = high[1] - low[1]  # type: ignore[operator]
            if any(math.isclose(width, w, rel_tol=_NEARLY) for w in (1.0, kind[1])):  # type: ignore[arg-type]
                count = min(some[kind] // 2, others[low], others[high])
                some[kind] -= 2 * count
                others[low] -= count
                others[high] -= count
    for counter in (some, others):
        for kind in [kind for kind, count in counter.items() if count <= 0]:
            del counter[kind]


def _open(mine: Numbered, others: Numbered) -> list[onnx.NodeProto]:
    """Return the nodes of a model that lead to an output for which there is no proof.

    They are sought from there back to what both models have.
    """
    scope, known = mine.scope, {*others.numbers.values()}
    of_elements = varying(scope)
    pending = [name for name in scope.outputs if mine.numbers.get(name) not in known]
    seen, nodes = {*pending}, dict[int, onnx.NodeProto]()
    while pending:
        name = pending.pop()
        node, _ = scope.producers.get(name, (None, 0))
        if node is None or name not in of_elements:
            continue
        nodes[scope.places[id(node)]] = node
        for read in all_read(node):
            if read not in seen and mine.numbers.get(read) not in known:
                seen.add(read)
                pending.append(read)
    return [nodes[place] for place in sorted(nodes)]


def _bends(node: onnx.NodeProto, scope: Scope) -> Iterator[Bend]:
    """Yield where a node bends, and what is in the graphs within it, which no run looks into."""
    for kind, point in _points(node, scope):
        if kind[0] in {"at least", "at most"} and kind[1] != 0:  # such are seldom reached
            kind = (*kind, _behind(scope, node))  # noqa: PLW2901
        yield Bend(kind, node, point)
    for inner in within(node):
        for kind, _ in _points(inner, scope):
            yield Bend(kind, node, None)


def _points(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[Key, Point | None]]:
    stated = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name}
    if not default_domain(node):
        yield from _fused(stated)
    elif (clamp := clamp_of(node, scope)) is not None:
        bounds = (("at least", clamp.low), ("at most", clamp.high))
        for side, bound in bounds:
            if bound is not None:
                yield (side, _identified(scope, bound)), (clamp.operand, bound)
    elif (bends := row_of(node).bends) is not None and node.input:
        yield from bends(node, stated, partial(_constant, scope))


def _constant(scope: Scope, name: str) -> object:
    return _identified(scope, name) if scope.is_constant(name) else None


def _behind(scope: Scope, node: onnx.NodeProto) -> str:
    """Return the operator behind which a node stands, but for what a fold may change or pass."""
    while True:
        varying = [name for name in node.input if name in scope.producers]
        varying = [name for name in varying if not scope.is_constant(name)]
        if len(varying) != 1:
            return ""
        node, _ = scope.producers[varying[0]]
        if row_of(node).kind not in _PASSED:
            return str(node.op_type)


def _fused(stated: _Stated) -> Iterator[tuple[Key, None]]:
    """Yield where the activation bends that a runtime's own operator does, too."""
    activation = stated.get("activation")
    numbers = stated.get("activation_params") or ()
    if activation == b"Relu":
        yield ("at least", 0.0), None
    elif activation == b"Clip" and isinstance(numbers, Sequence):
        for side, bound in zip(("at least", "at most"), numbers, strict=False):
            yield (side, float(bound)), None


def _identified(scope: Scope, bound: str | float) -> object:
    """Return what identifies a bound: its number, where it is one."""
    numbers = numbers_of(scope, bound)
    if numbers is None or numbers.dtype.kind not in "fiu":
        return "unknown"
    first = numbers.reshape(-1)[0]
    return float(first) if (numbers == first).all() else content(numbers)
