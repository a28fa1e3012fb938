"""What is to blame where a candidate does not compute the same: an attribute, a constant, a weight.

This is done after something has failed, and only then.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.region import Region
from bnfold.verification.difference import Difference
from bnfold.verification.dtypes import Array, unit_roundoff, wide
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.computing import value_of, weights_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.finding import Finding, Place
from bnfold.verification.proof.matching import same_bits
from bnfold.verification.proof.proportion import Excess
from bnfold.verification.proof.scopes import Scope
from bnfold.verification.proof.unlike import (
    casting,
    entering,
    is_alike,
    unlike_attributes,
    unlike_constants,
    unlike_inputs,
    with_article,
)
from bnfold.verification.verdict import Probe, ProbeVerdict

_NOISE = 1e-9
"""What float64 may be off by, relative to a number, where it is asked what is to blame."""
_ROUNDINGS = 4
"""How many roundings a fold may have; see `bound`."""
_NORMALIZED_BY = (1, 4)
"""The inputs of a batch normalization that multiply: the scale and the variance."""


@frozen
class Failure:
    """A tensor that was not found to be the original's.

    Attributes:
        old: The original's graph.
        new: The candidate's.
        name: The tensor, as it is called while the two models are matched.
        written: What the candidate's file calls it.
        node: What makes it in the candidate.
        index: As which output.
        finding: What a probe that ends there found, or why there is none.
        cones: What that probe looked at, in the original and in the candidate.
    """

    old: Scope
    new: Scope
    name: str
    written: str
    node: onnx.NodeProto
    index: int
    finding: Finding | str = ""
    cones: tuple[Cone, Cone] | None = None

    @property
    def is_shown(self) -> bool:
        """Whether a probe has shown that it differs."""
        return isinstance(self.finding, Finding) and self.finding.comparable

    @property
    def fraction(self) -> float:
        """How many times the rounding bound the difference is."""
        return self.finding.fraction if isinstance(self.finding, Finding) else math.inf

    @property
    def counterpart(self) -> str:
        """The tensor of the original that it was compared with."""
        return self.name if self.cones is None else self.cones[0].output

    @property
    def maker(self) -> onnx.NodeProto | None:
        """What makes that tensor."""
        made = self.old.producers.get(self.counterpart)
        return None if made is None else made[0]

    @property
    def where(self) -> str:
        """The tensor, and the node that makes it."""
        named = f" {self.node.name!r}" if self.node.name else ""
        return f"tensor {self.written!r} ({self.node.op_type}{named})"

    def probe(self) -> Probe:
        """Return the probe that failed."""
        leaves = () if self.cones is None else (*self.cones[0].leaves, *self.cones[1].leaves)
        region = Region(self.new.path, tuple(dict.fromkeys(leaves)), (self.written,))
        note = self.finding.note if isinstance(self.finding, Finding) else self.finding
        return Probe(region, self.fraction, ProbeVerdict.BROKEN, note, found=True)

    @property
    def may_be_lost_digits(self) -> bool:
        """Whether a bias is off by no more than what rounding makes of the largest of its vector.

        Where an exporter has folded normalizations in float32, β − γ E / √(Var + ε) has lost digits
        wherever the two are close, and neither file has the numbers that it was computed of. Then
        what another tool makes of the same network differs by that. It proves nothing.
        """
        place = self.finding.place if isinstance(self.finding, Finding) else None
        if self.cones is None or place is None:
            return False
        old, new = self.cones
        normalized = any(row_of(node).normalizes for node in old.passing)
        added = [name for name, multiplies in _constants(new) if not multiplies]
        blamed = self.difference().weights
        if normalized or len(old.passing) <= len(new.passing) or {*blamed} - {*added}:
            return False
        largest = max((_largest_rounding(new.scope.constant(name)) for name in blamed), default=0.0)
        return abs(place.candidate - place.original) <= _ROUNDINGS * largest

    def upstream(self) -> set[str]:
        """Return the tensors of the candidate that this one is computed from."""
        return _reached(
            self.node.input,
            lambda name: self.new.producers[name][0].input if name in self.new.producers else (),
        )

    def downstream(self) -> set[str]:
        """Return the tensors of the candidate that are computed from this one."""
        return _reached(
            self.node.output,
            lambda name: (n for reader, _ in self.new.readers.get(name, ()) for n in reader.output),
        )

    def difference(self) -> Difference:
        """Return what differs there, as far as it can be found out."""
        theirs = self.node
        finding = self.finding if isinstance(self.finding, Finding) else None
        place = None if finding is None else finding.place
        if finding is not None and finding.excess is not None:
            return self._difference_of_a_weight(finding, finding.excess)
        what = "; ".join(self._unlike_nodes(theirs))
        weights: tuple[str, ...] = ()
        if self.cones is not None and finding is not None and not what:
            old, new = self.cones  # whose output may have another name by now
            weights = _blamed(old, replace(new, output=theirs.output[self.index]), place)
            if not weights:
                what = "; ".join(_unlike_operators(*self.cones))
        if not what and not weights:
            what = self._otherwise(theirs, finding)
        return Difference(
            self.written, theirs.op_type, theirs.name, what, weights,
            None if place is None else place.channel,
            None if place is None else place.original,
            None if place is None else place.candidate,
            None if finding is None or finding.held or not finding.comparable else finding.times,
        )  # fmt: skip

    def _difference_of_a_weight(self, finding: Finding, excess: Excess) -> Difference:
        """Return what differs where only a look at each weight has shown it."""
        weights = (excess.weight,) if excess.weight else ()
        return Difference(
            self.written, self.node.op_type, self.node.name, finding.note, weights, excess.channel,
            fraction=finding.times,
        )  # fmt: skip

    def _unlike_nodes(self, theirs: onnx.NodeProto) -> Iterator[str]:
        """Yield how the nodes differ that make the tensor, and those before them in the region."""
        mine = self.maker
        if mine is not None and is_alike(mine, theirs):
            yield from self._unlike_makers(mine, theirs)
        if self.cones is None:
            return
        for before, after in _pairs(*self.cones):
            if after is not theirs:
                for how in unlike_attributes(self.old, self.new, before, after):
                    yield f"{after.op_type} {after.name!r}: {how}" if after.name else how

    def _unlike_makers(self, mine: onnx.NodeProto, theirs: onnx.NodeProto) -> Iterator[str]:
        yield from unlike_attributes(self.old, self.new, mine, theirs)
        before, after = entering(self.old, mine), entering(self.new, theirs)
        if before == after:
            yield from unlike_constants(self.old, self.new, mine, theirs)
        elif sorted(before) == sorted(after):
            yield unlike_inputs(mine, theirs, self.old, self.new)

    def _otherwise(self, theirs: onnx.NodeProto, finding: Finding | None) -> str:
        """Return what can be said where no difference was pinned down."""
        if finding is not None:
            return "" if finding.place is not None else finding.note
        mine = self.maker
        if mine is None:
            return ""
        if not is_alike(mine, theirs):
            return f"the original has {with_article(mine.op_type)}{casting(self.old, mine)} there"
        return unlike_inputs(mine, theirs, self.old, self.new)


def _largest_rounding(values: Array) -> float:
    return unit_roundoff(values.dtype) * float(np.abs(wide(values)).max(initial=0.0))


def _reached(names: Iterable[str], further: Callable[[str], Iterable[str]]) -> set[str]:
    """Return some tensors, and all that is reached from them step by step."""
    pending = list(names)
    reached = set(pending)
    while pending:
        fresh = [name for name in further(pending.pop()) if name not in reached]
        reached.update(fresh)
        pending += fresh
    return reached


def _pairs(old: Cone, new: Cone) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Yield the nodes that correspond: of operators that both regions have equally often."""
    for op_type in dict.fromkeys(node.op_type for node in new.passing):
        before, after = (
            [node for node in cone.passing if node.op_type == op_type] for cone in (old, new)
        )
        if len(before) == len(after):
            yield from zip(before, after, strict=True)


def _unlike_operators(old: Cone, new: Cone) -> Iterator[str]:
    """Yield which operators one of two regions has, and the other does not have."""
    mine, theirs = ([cone.scope.nodes[index] for index in cone.nodes] for cone in (old, new))
    before, after = (Counter(node.op_type for node in nodes) for nodes in (mine, theirs))
    gone, added = before - after, after - before
    if len(gone) == len(added) == 1:
        yield f"{next(iter(added))} instead of {next(iter(gone))}"
        return
    for op_type in gone:
        names = [repr(n.name) for n in mine if n.op_type == op_type and n.name]
        named = f" {names[0]}" if before[op_type] == 1 and names else ""
        yield f"the original's {op_type}{named} is missing"
    for op_type in added:
        yield f"the original does not have the {op_type}"


def _blamed(old: Cone, new: Cone, place: Place | None) -> tuple[str, ...]:
    """Return the constants of a candidate's region that its difference comes from.

    What differs though nothing enters comes from what is added; what differs with what enters, from
    what is multiplied.
    """
    known = [old.scope.constant(name) for name in old.weights]
    changed = {
        name: multiplies
        for name, multiplies in _constants(new)
        if not any(same_bits(new.scope.constant(name), array) for array in known)
    }
    blamed = {True, False} if place is None else _kinds(old, new, place)
    return tuple(n for n, multiplies in changed.items() if multiplies in blamed) or tuple(changed)


def _constants(cone: Cone) -> Iterator[tuple[str, bool]]:
    """Yield the constants of numbers that a region reads, and whether each multiplies."""
    for node in cone.passing:
        row = row_of(node)
        for index, name in enumerate(node.input):
            if not name or not cone.scope.is_constant(name):
                continue
            if row.normalizes:
                yield name, index in _NORMALIZED_BY
            else:
                yield name, index < 2 if row.weight is not None else not row.adds  # noqa: PLR2004


def _kinds(old: Cone, new: Cone, place: Place) -> set[bool]:
    """Return whether what multiplies is to blame (True), what is added (False), or both."""
    try:
        one, other = (float(value_of(cone, weights_of(cone), place.nothing)[place.index])
                      for cone in (old, new))  # fmt: skip
    except (EvaluationError, LookupError):  # tensors may have other names by now
        return {True, False}
    still, whole = other - one, place.candidate - place.original
    noise = _NOISE * max(map(abs, (one, other, place.original, place.candidate)))
    added, multiplied = abs(still), abs(whole - still)
    if not np.isfinite(added + multiplied):
        return {True, False}
    least = max(noise, _MINOR * max(added, multiplied))
    return {kind for kind, size in ((True, multiplied), (False, added)) if size > least}


_MINOR = 0.01
"""A part of a difference that is so small beside the other is rounding."""
