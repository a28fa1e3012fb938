"""The proof from the two files alone: folds are probed, all else must be identical."""

import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from bnfold.files.opened import OpenedModel, open_model
from bnfold.frozen import frozen
from bnfold.region import Region
from bnfold.verification.proof.cut import LINEAR, Cone, cut, is_straight, linear_depth
from bnfold.verification.proof.evaluate import EvaluationError, default_domain
from bnfold.verification.proof.known import inlined_alike, joined, known_shapes, taps
from bnfold.verification.proof.matching import Key, Matcher, Numbered, equal_constants
from bnfold.verification.proof.narrowed import narrowed_inputs
from bnfold.verification.proof.probe import Finding, probe
from bnfold.verification.proof.samples import Shape
from bnfold.verification.proof.scopes import Scope, all_names, function_name, graph_scope
from bnfold.verification.verdict import Probe, ProbeVerdict, Structure

_FOUND_NODES = 40
"""A region that nobody named is sought no further than this."""
_FAILED_SEARCHES = 24
"""After so many, and twice those that succeeded, the two files are taken to be unlike."""
_PLACES = 4
"""Tensors of the original that one of the candidate is tried as, besides its namesake."""
_SUSPECTS = 8
"""Tensors that may be to blame together."""
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Abs", "Exp", "Softmax", "Sqrt"})
"""Operators that make nothing below zero: what reads that need not bear anything else."""
_ORDER = {ProbeVerdict.HELD: 0, ProbeVerdict.UNCHECKED: 1, ProbeVerdict.BROKEN: 2}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the files say.

    Attributes:
        structure: Whether the proof is complete.
        probes: The probes of the regions that were named, and of those that were found.
        first_difference: The first tensor that is not the original's, with its layer.
        contradiction: Why the candidate is certainly wrong although nobody named a region.
        taps: Tensors by which both models can be compared layer by layer.
        unsure: Tensors whose shapes, were they known, might let a failed probe hold.
    """

    structure: Structure
    probes: tuple[Probe, ...]
    first_difference: str | None = None
    contradiction: str | None = None
    taps: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()


@np.errstate(all="ignore")  # what is not finite is told by what it is compared with
def prove(
    original: Path,
    candidate: Path,
    regions: Sequence[Region],
    *,
    seed: int,
    shapes: Mapping[str, Shape] | None = None,
) -> Proof:
    """Try to prove that `candidate` computes what `original` does.

    Args:
        original: The original's file.
        candidate: The candidate's file.
        regions: Where they are said to differ.
        seed: Seed of the probes' inputs.
        shapes: Shapes of tensors that were seen when the original ran.

    Raises:
        ModelError: One of the files is not an ONNX model.
    """
    from threadpoolctl import threadpool_limits

    # The products are small; threads that spin between them take the cores from ONNX Runtime.
    limits = threadpool_limits(limits=1, user_api="blas")
    with limits, open_model(original) as first, open_model(candidate) as second:
        first = inlined_alike(first, second)  # noqa: PLW2901 - the same files behind it
        return _Prover(first, second, regions, seed, shapes or {}).prove()


@frozen
class _Sought:
    """What a region that nobody named has shown.

    Attributes:
        finding: What a probe found, or why there was none.
        leaves: Where the region begins, in either model.
        alike: It begins at the same tensors in both.
    """

    finding: Finding | str
    leaves: tuple[str, ...]
    alike: bool

    @property
    def held(self) -> bool:
        return isinstance(self.finding, Finding) and self.finding.held


class _Prover:
    def __init__(
        self,
        first: OpenedModel,
        second: OpenedModel,
        regions: Sequence[Region],
        seed: int,
        shapes: Mapping[str, Shape],
    ) -> None:
        self.first, self.second, self.regions, self.seed = first, second, regions, seed
        self.by_output = {(r.scope, name): r for r in regions for name in r.outputs}
        self.findings: dict[tuple[Region, str], Finding | str] = {}
        self.found: list[Probe] = []
        self.suspects: list[str] = []
        self.assumed: set[str] = set()
        self.zeros: set[str] = set()
        self.differing: list[str] = []
        self.failed_searches = 0
        # Shapes only choose the inputs of probes, so the candidate may add what it knows.
        self.shapes, self.integers = known_shapes(first.proto)
        self.shapes = joined(self.shapes, known_shapes(second.proto)[0])
        self.shapes |= shapes
        self.narrowed = narrowed_inputs(first.proto, second.proto)
        self.taps = taps(first.proto.graph, second.proto.graph)
        self.taken: set[str] | None = None
        if not regions:  # tensors may be renamed
            copy = onnx.ModelProto()
            copy.CopyFrom(second.proto)
            self.second = replace(second, proto=copy)
            self.taken = all_names(copy)
        self.unsure: dict[str, None] = {}
        self.matcher: Matcher
        self.numbered: tuple[Numbered, Numbered]

    def prove(self) -> Proof:
        """Match the models; where that fails, find out whether one tensor is to blame."""
        structure = self._match()
        probes = (*(self._named_probe(region, structure) for region in self.regions), *self.found)
        difference = self.differing[0] if self.differing else None
        contradiction = None
        if not structure.proved and not self.regions and self.suspects:
            difference, contradiction = self._blame(difference)
        return Proof(
            structure, probes, None if structure.proved else difference, contradiction,
            self.taps, self._unsure() if not structure.proved else (),
        )  # fmt: skip

    def _unsure(self) -> tuple[str, ...]:
        """Return the tensors that probes made shapes up for, and those that others may need."""
        if not self.unsure:
            return ()
        free = (name for name, shape in self.shapes.items() if None in shape)
        return tuple(dict.fromkeys((*self.unsure, *free)))

    def _blame(self, difference: str | None) -> tuple[str | None, str | None]:
        """Return the first tensor that is to blame, and why, where a few explain everything."""
        blamed: list[str] = []
        while self.suspects and len(blamed) < _SUSPECTS:
            blamed.append(self.suspects[0])
            self.assumed = set(blamed)
            if self._match().proved:
                first, more = blamed[0], len(blamed) - 1
                differ = f"and {more} more differ" if more else "differs"
                return first, f"{first} {differ} by more than rounding, and all else is identical"
        return difference, None

    def _match(self) -> Structure:
        self.suspects = []
        self.differing, self.found, self.failed_searches = [], [], 0
        originals = {function_name(f): f for f in self.first.proto.functions}
        candidates = {function_name(f): f for f in self.second.proto.functions}
        self.matcher = Matcher(originals, candidates, self._explain, self.taken)
        old_scope, new_scope = (
            graph_scope(self.first, self.first.proto.graph),
            graph_scope(self.second, self.second.proto.graph),
        )
        old = self.matcher.number(old_scope, None, _inputs(self.first.proto, old_scope.inputs))
        new = self.matcher.number(new_scope, old, _inputs(self.second.proto, new_scope.inputs))
        self.numbered = old, new
        unproved = tuple(
            name for name in old_scope.outputs
            if name not in new_scope.outputs or not self.matcher.same(new, name)
        )  # fmt: skip
        reason = self._reason(old, new, unproved)
        return Structure(
            proved=not reason, reason=reason, identical=self.matcher.identical, unproved=unproved,
            narrowed=self.narrowed,
        )  # fmt: skip

    def _reason(self, old: Numbered, new: Numbered, unproved: Sequence[str]) -> str:
        if old.scope.outputs != new.scope.outputs:
            return "the graph outputs are not the same"
        if old.scope.inputs != new.scope.inputs:
            return "the graph inputs are not the same"
        if not unproved:
            return ""
        if self.differing:
            return f"{self.differing[0]} is not computed as in the original"
        return f"output {unproved[0]!r} is not computed as in the original"

    def _named_probe(self, region: Region, structure: Structure) -> Probe:
        """Return the worst of what was found at a region's outputs.

        Where all else is proved, an output that is not in both models is one that nobody needs.
        """
        outputs = [name for name in region.outputs if (region, name) in self.findings]
        if not (structure.proved and outputs):
            outputs = list(region.outputs)
        probes = [
            _as_probe(region, self.findings.get((region, name), f"{name} is not in both models"))
            for name in outputs
        ]
        return max(
            probes,
            key=lambda p: (_ORDER[p.verdict], p.fraction),
            default=Probe(region, 0.0, ProbeVerdict.UNCHECKED, "it has no outputs"),
        )

    def _explain(self, new: Numbered, old: Numbered, name: str) -> str | None:
        """Return the original's tensor that the candidate's equals but for rounding."""
        explained: str | None = name
        region = self.by_output.get((new.scope.path, name))
        if region is not None:
            explained = name if self._explain_named(new, old, region, name) else None
        elif name not in self.assumed and not equal_constants(new.scope, old.scope, name):
            explained = self._explain_found(new, old, name)
        if explained is None and name in old.scope.producers and self._is_first(new, old, name):
            self.differing.append(_layer(old, name))
        return explained

    def _explain_named(self, new: Numbered, old: Numbered, region: Region, name: str) -> bool:
        stops = set(region.inputs) - self.integers
        cones = [cut(n.scope, name, stops.__contains__, 1 << 30) for n in (old, new)]
        assert cones[0] is not None  # noqa: S101  # there is no limit
        assert cones[1] is not None  # noqa: S101
        finding = self._probe(cones[0], cones[1], tight=True)
        self.findings[region, name] = finding
        if isinstance(finding, str) or not finding.held:
            return False
        return all(self.matcher.same(new, leaf) for cone in cones if cone for leaf in cone.leaves)

    def _explain_found(self, new: Numbered, old: Numbered, name: str) -> str | None:
        """Seek a region around `name` that nobody named; return what the tensor is called there."""
        if self._is_settled(new, old, name):
            return None
        failed: _Sought | None = None
        for called, through in self._readings(new, old, name):
            sought = self._sought(new, old, name, called, through)
            if sought is not None and sought.held:
                return self._held(new, sought, name, called)
            failed = failed or (sought if called == name else None)
        if failed is None:
            return None
        self.failed_searches += 1
        # A part that cannot be computed, is of another shape or reads something else tells that
        # names are misleading, or that not all is possible that a probe lets in.
        finding = failed.finding
        if failed.alike and isinstance(finding, Finding) and math.isfinite(finding.fraction):
            self.suspects.append(name)
        return None

    def _is_settled(self, new: Numbered, old: Numbered, name: str) -> bool:
        """Tell whether there is nothing to seek around a tensor."""
        # Where the folds are named everything else must be the same, not merely close; only a
        # shape may be read from another tensor of that shape.
        patience = _FAILED_SEARCHES + 2 * len(self.found)
        if self.failed_searches >= patience or (self.regions and name not in self.integers):
            return True
        # A constant of other numbers is another one.
        return new.scope.is_constant(name) and (
            name not in old.scope.producers or old.scope.is_constant(name)
        )

    def _readings(
        self, new: Numbered, old: Numbered, name: str
    ) -> Iterator[tuple[str, Collection[str]]]:
        """Yield which tensor of the original this may be, and what to look through to find out."""
        places = [*itertools.islice(self._places(new, old, name), _PLACES)]
        if name not in old.scope.producers:
            yield from ((place, ()) for place in places)
            return
        # What is read where this one is read is the likeliest, whatever it is called.
        before = places[: places.index(name)] if name in places else []
        yield from ((place, ()) for place in [*before, name])
        region = cut(old.scope, name, self._stops(new), _FOUND_NODES)
        zeros = [leaf for leaf in region.leaves if self._is_zero(old, leaf)] if region else []
        if zeros:
            # A tensor that is zero bears its name with or without what follows it.
            yield name, zeros
        yield from ((place, ()) for place in places if place not in (*before, name))

    def _is_zero(self, old: Numbered, name: str) -> bool:
        """Tell whether a tensor is known to be zero whatever enters: of dead weights, say."""
        if name in self.zeros:
            return True
        node, _ = old.scope.producers.get(name, (None, 0))
        if node is None or node.op_type not in LINEAR or any(node.input[2:]):
            return False
        weights = [n for n in node.input if old.scope.is_constant(n)]
        with contextlib.suppress(EvaluationError):
            return any(not old.scope.constant(weight).any() for weight in weights)
        return False

    def _held(self, new: Numbered, sought: "_Sought", name: str, called: str) -> str:
        """Note a region in which a probe has held; return what its output is called from now on."""
        assert isinstance(sought.finding, Finding)  # noqa: S101 - it has held
        if called != name:
            self.matcher.rename(new, name, called)
        region = Region(new.scope.path, sought.leaves, (called,))
        fraction = sought.finding.fraction
        self.found.append(Probe(region, fraction, ProbeVerdict.HELD, found=True))
        if sought.finding.zero:
            self.zeros.add(called)
        return called

    def _places(self, new: Numbered, old: Numbered, name: str) -> Iterator[str]:
        """Yield tensors of the original that may be what this one is, though called otherwise.

        They are what the original makes on the way to the next tensor that both models have, and
        nothing in the candidate is called so. What an operator of the same type reads comes first;
        the tensor of this very name is among them.
        """
        if self.taken is None or not new.scope.may_be_renamed(name):
            return
        following = _following(new.scope, name, old.scope)
        if following is None:
            return
        way = cut(old.scope, following, self._stops(new), _FOUND_NODES)
        if way is None:
            return
        types = {reader.op_type for reader, _ in new.scope.readers.get(name, ())}
        nodes = [old.scope.nodes[index] for index in reversed(way.nodes)]
        nodes.sort(key=lambda node: node.op_type not in types)  # a stable order
        inside = {made for node in nodes for made in node.output} - {following}
        read = dict.fromkeys(read for node in nodes for read in node.input if read in inside)
        yield from (place for place in read if place == name or place not in self.taken)

    def _stops(self, new: Numbered, through: Collection[str] = ()) -> Callable[[str], bool]:
        """Return what tells of a tensor whether it is the same in both models."""

        def stops(tensor: str) -> bool:
            passed = tensor in self.integers or tensor in through
            return not passed and self.matcher.same(new, tensor)

        return stops

    def _sought(
        self,
        new: Numbered,
        old: Numbered,
        name: str,
        called: str,
        through: Collection[str],
    ) -> "_Sought | None":
        """Probe the region that ends at `name`, in the original at what is `called` so.

        It begins at the tensors that are the same in both, but for those that it goes `through`.
        None where there is no such region, or more in it than a probe is for.
        """
        before, after = self._cones(new, old, name, called, through)
        if before is None or after is None or linear_depth(before) > 1 or linear_depth(after) > 1:
            return None
        leaves = tuple(dict.fromkeys((*before.leaves, *after.leaves)))
        if not all(self.matcher.same(new, leaf) for leaf in leaves):
            return None
        sought = _Sought(
            self._probe(before, after), leaves, set(before.leaves) == set(after.leaves)
        )
        bound = frozenset(n for n in leaves if self._is_never_negative(old, n))
        straight = is_straight(before) and is_straight(after)
        if bound and not straight and isinstance(sought.finding, Finding) and not sought.held:
            finding = self._probe(before, after, never_negative=bound)
            sought = replace(sought, finding=finding)
        return sought

    def _cones(
        self,
        new: Numbered,
        old: Numbered,
        name: str,
        called: str,
        through: Collection[str] = (),
    ) -> tuple[Cone | None, Cone | None]:
        """Return what a tensor is computed from in both models, back to what is the same."""
        stops = self._stops(new, through)
        return (
            cut(old.scope, called, stops, _FOUND_NODES),
            cut(new.scope, name, stops, _FOUND_NODES),
        )

    def _is_never_negative(self, old: Numbered, name: str) -> bool:
        made = old.scope.producers.get(name)
        return made is not None and default_domain(made[0]) and made[0].op_type in _NEVER_NEGATIVE

    def _probe(
        self,
        before: Cone,
        after: Cone,
        *,
        tight: bool = False,
        never_negative: frozenset[str] = frozenset(),
    ) -> Finding | str:
        try:
            finding: Finding | str = probe(
                before, after, self.shapes, self.seed, tight=tight, never_negative=never_negative
            )
        except EvaluationError as error:
            finding = str(error)
        if isinstance(finding, str) or not finding.held:
            leaves = (*before.leaves, *after.leaves)
            self.unsure |= dict.fromkeys(n for n in leaves if None in self.shapes.get(n, (None,)))
        return finding

    def _is_first(self, new: Numbered, old: Numbered, name: str) -> bool:
        """Tell whether all that a differing tensor is computed from is the original's."""
        node, _ = new.scope.producers[name]
        data = [n for n in node.input if n and not new.scope.is_constant(n)]
        return all(self.matcher.of(old, n) is not None and self.matcher.same(new, n) for n in data)


def _following(scope: Scope, name: str, other: Scope) -> str | None:
    """Return the nearest tensor computed from this one that another graph has, too."""
    pending, seen = [name], {name}
    while pending and len(seen) < _FOUND_NODES:
        tensor = pending.pop(0)
        for reader, _ in scope.readers.get(tensor, ()):
            for made in reader.output:
                if made in other.producers:
                    return str(made)
                if made and made not in seen:
                    seen.add(made)
                    pending.append(made)
    return None


def _as_probe(region: Region, finding: Finding | str) -> Probe:
    if isinstance(finding, str):
        return Probe(region, 0.0, ProbeVerdict.UNCHECKED, finding)
    verdict = ProbeVerdict.HELD if finding.held else ProbeVerdict.BROKEN
    note = "" if finding.held else finding.note
    return Probe(region, finding.fraction, verdict, note)


def _layer(old: Numbered, name: str) -> str:
    node, _ = old.scope.producers[name]
    what = f"{node.op_type} {node.name!r}" if node.name else node.op_type
    return f"tensor {name!r} ({what})"


def _inputs(model: onnx.ModelProto, names: Sequence[str]) -> list[Key]:
    types = {value.name: value.type for value in model.graph.input}
    return [("input", name, types[name].tensor_type.elem_type) for name in names]
