"""The proof from the two files alone: folds are probed, all else must be identical."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from bnfold.errors import ModelError
from bnfold.files.opened import OpenedModel, open_model
from bnfold.frozen import frozen
from bnfold.limits import VERIFIED
from bnfold.onnx_model.computing import limited_work
from bnfold.onnx_model.inference import infer
from bnfold.region import Region, ScopePath
from bnfold.verification.difference import Difference
from bnfold.verification.operators.demands import Shape
from bnfold.verification.options import VerifyOptions
from bnfold.verification.proof.bends import Unshown, only_in_one
from bnfold.verification.proof.cells import with_products
from bnfold.verification.proof.cone import Cone, cut
from bnfold.verification.proof.evaluations import is_another_evaluation
from bnfold.verification.proof.facts import linear_depth
from bnfold.verification.proof.finding import Finding
from bnfold.verification.proof.identity import Key
from bnfold.verification.proof.interface import (
    has_free_lengths,
    narrowed_inputs,
    redefined,
    unlike_interface,
    with_inputs_of,
)
from bnfold.verification.proof.known import (
    Known,
    inlined_alike,
    known_shapes,
    taps,
)
from bnfold.verification.proof.matching import Matcher, Numbered, equal_constants
from bnfold.verification.proof.original import Original
from bnfold.verification.proof.otherwise import stated_otherwise
from bnfold.verification.proof.pinpoint import Failure
from bnfold.verification.proof.prober import Prober
from bnfold.verification.proof.scopes import (
    Scope,
    all_names,
    function_name,
    graph_scope,
    varying,
)
from bnfold.verification.proof.seek import Seeker
from bnfold.verification.verdict import Probe, ProbeVerdict, Structure

_NO_OPTIONS = VerifyOptions()
_NO_LIMIT = 1 << 30
"""The most nodes of a cone: none, since a region that was named is compared as a whole."""
_HASHED = 1 << 22
"""Bytes at the beginning, in the middle and at the end of a file that go into the seed."""
_DEEPEST = 4
"""The most linear operators in series in a named region; over more the bound is too wide."""
_LOOKS = 4
"""How often a region is cut anew in both models, until it begins at the same tensors."""
_SUSPECTS = 8
"""The most tensors that are assumed to be wrong together."""
_ORDER = {ProbeVerdict.HELD: 0, ProbeVerdict.UNCHECKED: 1, ProbeVerdict.BROKEN: 2}


@frozen
class Proof:
    """What a comparison of the two files found, without a runtime.

    Attributes:
        structure: Whether the proof is complete.
        probes: The probes of the regions that were named, and of those that were found.
        first_difference: The first tensor that differs from the original's, with its layer.
        contradiction: Why the candidate is certainly wrong; only where no region was named.
        taps: Names of tensors at which both models can be compared layer by layer.
        unsure: Names of tensors whose shapes, if they were known, might let a failed probe hold.
        interface: How inputs or outputs differ, in a sentence; empty if they do not.
        broken: Why a probe failed whose inputs are the same in both models, or what a node states
            otherwise that no probe looks into; empty if there is no such thing.
        differences: Where the two models are known to differ, the first first.
        unshown: Bounds and choices that one model alone has, which a run must have shown.
        free: Whether the inputs may have several shapes.
        seen_shapes_only: Whether it was found with the shapes that tensors had when the original
            ran; of others it says nothing then.
    """

    structure: Structure
    probes: tuple[Probe, ...]
    first_difference: str | None = None
    contradiction: str | None = None
    taps: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    interface: str = ""
    broken: str = ""
    free: bool = False
    seen_shapes_only: bool = False
    differences: tuple[Difference, ...] = ()
    unshown: tuple[Unshown, ...] = ()


@np.errstate(all="ignore")  # comparisons deal with what is not finite
def prove(
    original: Path | Original,
    candidate: Path,
    regions: Sequence[Region],
    *,
    seed: int,
    shapes: Mapping[str, Shape] | None = None,
    options: VerifyOptions = _NO_OPTIONS,
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Try to prove that `candidate` computes what `original` does.

    Args:
        original: The original's file, or what is open of it.
        candidate: The candidate's file.
        regions: Where they are said to differ; empty to find that out.
        seed: Seed of the probes' inputs.
        shapes: Shapes that tensors of the original had when it ran, by name.
        options: Which differences are accepted.
        step: Called with a text that says how far the proof is.

    Raises:
        ModelError: One of the files is not an ONNX model, or the original not a valid one.
    """
    from threadpoolctl import threadpool_limits

    # The products are small; threads that spin between them take the cores from ONNX Runtime.
    with threadpool_limits(limits=1, user_api="blas"), ExitStack() as stack:
        if isinstance(original, Path):
            original = stack.enter_context(Original(original))
        second = stack.enter_context(open_model(candidate))
        first = inlined_alike(original.model, second)
        narrowed = narrowed_inputs(first.proto, second.proto)
        # What the candidate says of shapes that the original leaves open is no fact.
        widened = narrowed and options.allow_narrowed
        fed = with_inputs_of(first.proto, second.proto) if widened else first.proto
        original.look_ahead()
        with limited_work(VERIFIED):
            own = seed_of(first, second, seed)
        inferred = original.inferred()
        if fed is not original.model.proto:
            inferred = infer(fed)
        free = has_free_lengths(fed.graph)
        known = Known(*known_shapes(inferred), free, shapes or {}, narrowed)
        try:
            return _Prover(first, second, regions, own, known, options, step).prove()
        except RecursionError as error:
            raise ModelError(f"{original.path}: its functions call one another too deep") from error


class _Prover:
    def __init__(
        self,
        first: OpenedModel,
        second: OpenedModel,
        regions: Sequence[Region],
        seed: int,
        known: Known,
        options: VerifyOptions,
        step: Callable[[str], None],
    ) -> None:
        self.step = step
        self.first, self.second, self.regions = first, second, regions
        self.by_output = {(r.scope, name): r for r in regions for name in r.outputs}
        self.together: dict[str, tuple[Cone, Cone, Finding]] = {}
        self.findings: dict[tuple[ScopePath, str], Finding | str] = {}
        self.probed: set[int] = set()
        self.assumed: dict[str, str] = {}
        self.written: dict[str, str] = {}
        self.failures: dict[str, Failure] = {}
        self.cones: dict[tuple[ScopePath, str], tuple[Cone, Cone]] = {}
        self.known = known
        self.prober = Prober(known.shapes, seed, free=known.free, seen=known.seen)
        self.interface = unlike_interface(
            first.proto.graph, second.proto.graph, by_name=options.match_outputs_by_name
        ) or redefined(first.proto, second.proto)
        self.taps = taps(first.proto.graph, second.proto.graph)
        self.in_use: set[str] | None = None
        if not regions:  # tensors may be renamed
            copy = onnx.ModelProto()
            copy.CopyFrom(second.proto)
            self.second = replace(second, proto=copy)
            self.in_use = all_names(copy)
        self.integers: Collection[str] = ()
        self.seeker = Seeker(self.prober, self.in_use)
        self.matcher: Matcher

    def prove(self) -> Proof:
        """Match the models; where that fails, find out whether a few wrong tensors explain it."""
        structure = self._match()
        named = tuple(self._named_probe(region, structure) for region in self.regions)
        proof = Proof(
            structure, (*named, *self.seeker.found), taps=self.taps, unsure=self._asked(structure),
            interface=self.interface, free=self.prober.free, seen_shapes_only=bool(self.known.seen),
        )  # fmt: skip
        broken = self.seeker.broken
        if structure.proved and not broken and not self.prober.narrowed:
            return proof
        failures = {**self.prober.narrowed, **self.failures, **broken}
        blamed = {} if structure.proved or self.regions else self._blame()
        held = (*named, *self.seeker.found) if blamed else proof.probes
        told = tuple(self._differences(blamed or failures, held))
        accused = {failure.written for failure in broken.values()}
        unshown: tuple[Unshown, ...] = ()
        if not structure.proved and not self.regions:
            unshown = tuple(only_in_one(self.matcher))
            otherwise = tuple(stated_otherwise(self.matcher))
            accused |= {difference.tensor for difference in otherwise}
            told += tuple(d for d in otherwise if d.tensor not in {each.tensor for each in told})
        return replace(
            proof,
            structure=_with_reason(structure, failures, told),
            probes=(*held, *(failure.probe() for failure in (blamed or broken).values())),
            first_difference=None if structure.proved else _first(blamed or failures),
            contradiction=_contradiction(told) if _accuse(blamed.values()) else None,
            broken=next((str(d) for d in told if d.tensor in accused), ""),
            differences=told,
            unshown=unshown,
        )

    def _differences(
        self, failures: Mapping[str, Failure], probes: Sequence[Probe]
    ) -> Iterator[Difference]:
        """Yield what differs, and which folds around it hold; first what a probe has shown."""
        shown = sorted(failures.values(), key=lambda failure: not failure.is_shown)
        held = [probe.region for probe in probes if probe.verdict is ProbeVerdict.HELD]
        for failure in shown[:_SUSPECTS]:
            before, behind = (
                tuple(name for region in held if region.scope == failure.new.path
                      for name in region.outputs if name in reached)
                for reached in (failure.upstream(), failure.downstream())
            )  # fmt: skip
            yield replace(failure.difference(), before=before, behind=behind)

    def _asked(self, structure: Structure) -> tuple[str, ...]:
        """Return the tensors whose shapes would help: with them more might be proved."""
        return () if structure.proved and not self.prober.narrowed else self.prober.asked()

    def _blame(self) -> dict[str, Failure]:
        """Return the tensors that are to blame, where a few explain everything."""
        blamed: dict[str, Failure] = {}
        while self.seeker.suspects and len(blamed) < _SUSPECTS:
            name = self.seeker.suspects[0]
            blamed[name] = self.seeker.broken[name]
            self.assumed = {n: failure.counterpart for n, failure in blamed.items()}
            if self._match().proved:
                return blamed
        return {}

    def _match(self) -> Structure:
        self.failures = {}
        originals = {function_name(f): f for f in self.first.proto.functions}
        candidates = {function_name(f): f for f in self.second.proto.functions}
        self.matcher = Matcher(
            originals, candidates, self._explain, self.in_use, self.known.shapes, self.written
        )
        old_scope, new_scope = (
            with_products(graph_scope(self.first, self.first.proto.graph)),
            with_products(graph_scope(self.second, self.second.proto.graph)),
        )
        if self.known.whole:
            old_scope.types |= self.known.whole
            self.integers = self.known.whole.keys() - varying(old_scope)
        self.seeker.begin(self.matcher, self.integers)
        old = self.matcher.number(old_scope, None, _inputs(self.first.proto, old_scope.inputs))
        new = self.matcher.number(new_scope, old, _inputs(self.second.proto, new_scope.inputs))
        self.seeker.accuse_multiplied()
        present = set(new_scope.outputs)
        unproved = tuple(
            name for name in old_scope.outputs
            if name not in present or not self.matcher.same(new, name)
        )  # fmt: skip
        reason = self._reason(unproved)
        return Structure(
            proved=not reason, reason=reason, identical=self.matcher.identical, unproved=unproved,
            narrowed=(*self.known.narrowed, *self._narrowed_within()),
        )  # fmt: skip

    def _narrowed_within(self) -> Iterator[str]:
        """Yield a sentence for each region that is right for some shapes only."""
        for failure in self.prober.narrowed.values():
            if isinstance(failure.finding, Finding):
                yield f"{failure.where} is right for {failure.finding.only}"

    def _reason(self, unproved: Sequence[str]) -> str:
        if self.interface:
            return self.interface
        if not unproved:
            return ""
        if self.failures:
            return f"{_first(self.failures)} is not computed as in the original"
        return f"output {unproved[0]!r} is not computed as in the original"

    def _named_probe(self, region: Region, structure: Structure) -> Probe:
        """Return the worst of what was found at a region's outputs.

        An output that is computed as in the original needs no probe. Where all else is proved, one
        that only one model has does not matter, since no graph output depends on it.
        """
        outputs = [name for name in region.outputs if (region.scope, name) in self.findings]
        if not (structure.proved and outputs):
            outputs += [name for name in region.outputs if not self._is_settled(region, name)]
        found = ((name, self.findings.get((region.scope, name))) for name in outputs)
        probes = [_as_probe(region, f or f"{name} is not in both models") for name, f in found]
        return max(
            probes,
            key=lambda p: (_ORDER[p.verdict], p.fraction),
            default=Probe(region, 0.0, ProbeVerdict.UNCHECKED, "it has no outputs"),
        )

    def _is_settled(self, region: Region, name: str) -> bool:
        """Tell whether a region's output has a finding, or is proved equal without one."""
        scope = self.matcher.candidates.get(region.scope)
        same = scope is not None and self.matcher.same(scope, name)
        return same or (region.scope, name) in self.findings

    def _explain(self, new: Numbered, name: str) -> str | None:
        """Return the original's tensor that the candidate's equals but for rounding."""
        explained: str | None = name
        end = self._end(new.scope, name)
        region = self.by_output.get((new.scope.path, end))
        if region is not None:
            explained = name if self._explain_named(new, region, name, end) else None
        elif name in self.assumed:
            explained = self.assumed[name]
        elif not (
            equal_constants(new.scope, new.original.scope, name)
            or (
                self.in_use is not None
                and is_another_evaluation(new.original.scope, new.scope, name)
            )
        ):
            explained = self.seeker.seek(new, name)
        if explained is None and name in new.original.scope.producers and self._is_first(new, name):
            self._note(new, name)
        return explained

    def _note(self, new: Numbered, name: str) -> None:
        """Note that a tensor differs though all that it is computed from is the original's."""
        place = new.scope.path, name
        if place in self.seeker.scaled:  # what reads it takes that back, or it is accused
            return
        node, index = new.scope.producers[name]
        self.failures[name] = Failure(
            new.original.scope, new.scope, name, self.written.get(name, name), node, index,
            self.findings.get(place, ""), self.cones.get(place),
        )  # fmt: skip

    def _end(self, scope: Scope, name: str) -> str:
        """Return the output of a region at which a tensor stands: of a cell, for its product."""
        if name not in scope.products.values():
            return name
        cells = (node for node in scope.nodes if scope.products.get(id(node)) == name)
        made = (output for cell in cells for output in cell.output)
        return next((each for each in made if (scope.path, each) in self.by_output), name)

    def _explain_named(self, new: Numbered, region: Region, name: str, end: str) -> bool:
        if region.outputs[1:] and id(region) not in self.probed:
            self._probe_together(new, region)
        for old_cone, new_cone in self._named_cones(new, region, name):
            self.step(f"proving in float64: {len(self.probed)} of {len(self.regions)} regions")
            finding = self._named_finding(old_cone, new_cone)
            self.findings[region.scope, end] = finding
            self.cones[region.scope, end] = old_cone, new_cone
            self.probed.add(id(region))
            if isinstance(finding, Finding) and finding.held:
                leaves = (*old_cone.leaves, *new_cone.leaves)
                return all(self.matcher.same(new, leaf) for leaf in leaves)
        return False

    def _named_cones(self, new: Numbered, region: Region, name: str) -> Iterator[tuple[Cone, Cone]]:
        """Yield pairs of cones to compare: cut at the nearest equal tensors, then at the inputs.

        What was probed together with other outputs comes first.
        The nearest are cut anew until both cones of a pair have the same leaves: if one began at a
        tensor and the other at what that tensor is computed from, they could not be compared.
        """
        if name in self.together:
            yield self.together[name][:2]
        entering = set(region.inputs).difference(self.integers)
        through: set[str] = set()

        def nearest(tensor: str) -> bool:
            known = tensor not in self.integers and self.matcher.same(new, tensor)
            return tensor in entering or (known and tensor not in through)

        tried: tuple[Cone, Cone] | None = None
        for _ in range(_LOOKS):
            old_cone, new_cone = _both(new, name, nearest)
            unlike = ({*old_cone.leaves} ^ {*new_cone.leaves}) - entering - through
            if not unlike:
                yield (tried := (old_cone, new_cone))
                break
            through |= unlike
        farthest = _both(new, name, entering.__contains__)
        if farthest != tried:
            yield farthest

    def _named_finding(self, old: Cone, new: Cone) -> Finding | str:
        known = self.together.get(new.output)
        if known is not None and known[:2] == (old, new):
            return known[2]
        deepest = max(linear_depth(old), linear_depth(new))
        if deepest > _DEEPEST:
            return f"{deepest} linear operators in a row: over so many a bound says too little"
        return self.prober.probe(old, new, tight=True)

    def _probe_together(self, new: Numbered, region: Region) -> None:
        """Probe the outputs of a region of which not too many operators stand in a row, at once."""
        entering = set(region.inputs).difference(self.integers)
        names = [
            name
            for name in region.outputs
            if name in new.scope.producers and name in new.original.scope.producers
        ]
        names.sort(key=lambda name: new.scope.places[id(new.scope.producers[name][0])])
        cones = (_both(new, name, entering.__contains__) for name in names)
        flat = {pair[1].output: pair for pair in cones if max(map(linear_depth, pair)) <= _DEEPEST}
        found = self.prober.probe_together([*flat.values()])
        self.together |= {name: (*flat[name], finding) for name, finding in found.items()}

    def _is_first(self, new: Numbered, name: str) -> bool:
        """Tell whether a differing tensor is computed from equal tensors alone."""
        node, _ = new.scope.producers.get(name, (None, 0))
        if node is None:  # it has another name by now
            return False
        data = [n for n in node.input if n and not new.scope.is_constant(n)]
        return all(self.matcher.same(new, n) for n in data)


def seed_of(first: OpenedModel, second: OpenedModel, seed: int) -> int:
    """Return a seed made of the contents of both files and `seed`.

    So no candidate can be made to agree on just the inputs of the probes. Of large files only
    stretches are read: reading a whole file would take longer than the proof.
    """
    digest = hashlib.sha256(str(seed).encode())  # processors have instructions for it
    for model in (first, second):
        digest.update(model.proto.SerializeToString(deterministic=True))
        for store in model.stores:
            length = min(store.size, _HASHED)
            for start in sorted({0, (store.size - length) // 2, store.size - length}):
                digest.update(store.read(start, length))
    return int.from_bytes(digest.digest()[:7], "big")


def _both(new: Numbered, name: str, stops: Callable[[str], bool]) -> tuple[Cone, Cone]:
    """Return the cones of a tensor in the original and the candidate, cut where `stops` is true."""
    old_cone, new_cone = (cut(n.scope, name, stops, _NO_LIMIT) for n in (new.original, new))
    assert old_cone is not None  # noqa: S101  # there is no limit
    assert new_cone is not None  # noqa: S101
    return old_cone, new_cone


def _as_probe(region: Region, finding: Finding | str) -> Probe:
    if isinstance(finding, str):
        return Probe(region, 0.0, ProbeVerdict.UNCHECKED, finding)
    verdict = ProbeVerdict.HELD if finding.held else ProbeVerdict.BROKEN
    note = "" if finding.held else finding.note
    return Probe(region, finding.fraction, verdict, note)


def _first(failures: Mapping[str, Failure]) -> str | None:
    """Name the first tensor that differs."""
    return next((failure.where for failure in failures.values()), None)


def _with_reason(
    structure: Structure, failures: Mapping[str, Failure], told: Sequence[Difference]
) -> Structure:
    """Add to why there is no proof what is known of the first tensor that differs."""
    first = next(iter(failures.values())).written if failures else None
    how = next((each.how for each in told if each.tensor == first), "")
    if structure.proved or not how or not structure.reason.startswith(str(_first(failures))):
        return structure
    return replace(structure, reason=f"{structure.reason}: {how}")


def _accuse(blamed: Collection[Failure]) -> bool:
    """Tell whether any of what is to blame is certainly wrong."""
    return not all(failure.may_be_lost_digits for failure in blamed)


def _contradiction(told: Sequence[Difference]) -> str:
    """Say that a few tensors explain everything."""
    more = len(told) - 1
    differ = f"and {more} more differ" if more else "differs"
    first = f"tensor {told[0].where} {differ} by more than rounding"
    return f"{first}, and all else is identical: {told[0].how}"


def _inputs(model: onnx.ModelProto, names: Sequence[str]) -> list[Key]:
    types = {value.name: value.type for value in model.graph.input}
    return [("input", name, types[name].tensor_type.elem_type) for name in names]
