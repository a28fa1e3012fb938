"""Seeking the original's tensor that one of the candidate's is, where nobody named a region.

A region is sought that ends at the tensor and begins at tensors which are known to be the same. The
tensor is tried as its namesake, or as one that stands in its place; a probe decides.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from bnfold.frozen import frozen
from bnfold.region import Region, ScopePath
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.cone import Cone, cut
from bnfold.verification.proof.facts import is_straight, linear_depth
from bnfold.verification.proof.finding import Finding
from bnfold.verification.proof.matching import Matcher, Numbered
from bnfold.verification.proof.pinpoint import Failure
from bnfold.verification.proof.places import (
    computed_from,
    is_later,
    is_rescaled,
    next_in_both,
    reader_types,
)
from bnfold.verification.proof.prober import Prober
from bnfold.verification.proof.scaling import NOTHING_MULTIPLIED, Factors, Multiplied
from bnfold.verification.verdict import Probe, ProbeVerdict

_FOUND_NODES = 40
"""A region that nobody named is sought no further than this."""
_FAILED_SEARCHES = 24
"""After so many, and twice those that succeeded, the two files are taken to be unlike."""
_PLACES = 4
"""Tensors of the original that one of the candidate is tried as, besides its namesake."""


@frozen
class _Sought:
    """What a region that nobody named has shown.

    Attributes:
        finding: What a probe found, or why there was none.
        leaves: Where the region begins, in either model.
        alike: It begins at the same tensors in both.
        cones: The region in both.
    """

    finding: Finding | str
    leaves: tuple[str, ...]
    alike: bool
    cones: tuple[Cone, Cone]

    @property
    def held(self) -> bool:
        return isinstance(self.finding, Finding) and self.finding.held


class Seeker:
    """See the module.

    Attributes:
        found: The probes that held.
        suspects: Tensors whose probes say that they are wrong.
        broken: The tensors whose probes failed although what enters is the same in both models.
        scaled: Tensors of the candidate that are the original's times factors.
        unscaled: What a probe finds of these where no factors are passed to it.
        following: Tensors that differ, being computed from these.
        sought: Those that are broken or multiplied, in the order of computation.
    """

    def __init__(self, prober: Prober, in_use: Collection[str] | None) -> None:
        """Let a prober decide.

        `in_use` are the names of the candidate's tensors, or None where regions were named: then
        nothing but a shape is sought.
        """
        self.prober, self.in_use = prober, in_use
        self.integers: Collection[str] = ()
        self.zeros: set[str] = set()
        self.matcher: Matcher
        self.found: list[Probe]
        self.suspects: list[str]
        self.broken: dict[str, Failure]
        self.scaled: dict[tuple[ScopePath, str], Factors]
        self.unscaled: dict[tuple[ScopePath, str], Failure]
        self.following: set[tuple[ScopePath, str]]
        self.sought: list[str]

    def begin(self, matcher: Matcher, integers: Collection[str]) -> None:
        """Begin anew, for another numbering of the two models; shapes are among `integers`."""
        self.matcher, self.integers = matcher, integers
        self.found, self.suspects, self.failed_searches = [], [], 0
        self.broken, self.scaled, self.unscaled, self.sought = {}, {}, {}, []
        self.following = set()

    def seek(self, new: Numbered, name: str) -> str | None:
        """Seek a region around `name`; return what the tensor is called in the original.

        None where no region is found in which a probe holds.
        """
        if self._is_settled(new, name):
            return None
        failed: dict[str, _Sought] = {}
        for called, through in self._readings(new, name):
            sought = self._sought(new, name, called, through)
            if sought is not None and not (sought.held or sought.alike):
                sought = self._farther(new, name, called, sought) or sought
            if sought is not None and sought.held:
                return self._held(new, sought, name, called)
            if sought is not None:
                failed.setdefault(called, sought)
        if self._is_scaled(new, name, failed) or name not in failed:
            return None
        self.failed_searches += 1
        # A part that cannot be computed, is of another shape or reads something else tells that
        # names are misleading, or that not all is possible that a probe lets in.
        finding = failed[name].finding
        if self._follows_multiplied(new, name):
            self.following.add((new.scope.path, name))
        elif failed[name].alike and isinstance(finding, Finding) and finding.comparable:
            self.broken[name] = self._nearest(new, name, failed.values())
            self.sought.append(name)
            if math.isfinite(finding.fraction):
                self.suspects.append(name)
        return None

    def _is_scaled(self, new: Numbered, name: str, failed: "Mapping[str, _Sought]") -> bool:
        """Tell whether a tensor is one of the original's times factors for its channels."""
        alike = {
            called: sought.finding.along
            for called, sought in failed.items()
            if sought.alike and isinstance(sought.finding, Finding)
        }
        # With a shift, it might be any of those that are computed in turn.
        for shifted, (called, axes) in itertools.product((False, True), alike.items()):
            for axis in axes:
                way = Multiplied(along=axis, shifted=shifted)
                scaled = self._sought(new, name, called, (), way)
                if scaled is None or not scaled.held:
                    continue
                assert isinstance(scaled.finding, Finding)  # noqa: S101 - it has held
                factors = scaled.finding.factors
                assert factors is not None  # noqa: S101 - they were asked for
                nearest = self._nearest(new, name, failed.values())
                # Nothing begins at a tensor that is shifted, so it needs no name of the original's.
                kept = name if factors.shifts.any() else called
                is_one = np.allclose(factors.values, factors.values[0])
                if kept != name and is_one and is_rescaled(new.scope, name):
                    return False  # the next one has the factor taken back, and is the tensor itself
                if kept != name and not self.matcher.rename(new, name, kept):
                    continue
                place = new.scope.path, kept
                self.scaled[place] = factors
                self.unscaled[place] = replace(nearest, name=kept)
                self.sought.append(kept)
                return True
        return False

    def _nearest(self, new: Numbered, name: str, failed: "Iterable[_Sought]") -> Failure:
        """Return the failure that says most: there the tensor is most like what it may be."""
        node, index = new.scope.producers[name]
        written = self.matcher.written.get(name, name)
        told = (
            Failure(
                new.original.scope, new.scope, name, written, node, index, each.finding, each.cones
            )
            for each in failed
            if each.alike and isinstance(each.finding, Finding) and each.finding.comparable
        )
        return min(told, key=lambda failure: failure.fraction)

    def accuse_multiplied(self) -> None:
        """Suspect the tensors that are the original's times factors which something lets through.

        Whatever reads one must come to a tensor that is the original's, or to its times factors
        that are taken back in turn.
        """
        taken_back: dict[ScopePath, set[str]] = {path: set() for path, _ in self.scaled}
        for path, name in reversed(self.scaled):
            home = self.matcher.candidates.get(path)
            if home is not None and self._is_taken_back(home, name, taken_back[path]):
                taken_back[path].add(name)
            else:
                self.broken[name] = self.unscaled[path, name]
                self.suspects.append(name)
        found = {name: place for place, name in enumerate(self.sought)}
        multiples = {name for _, name in self.scaled}
        wrong = {*self.suspects} - multiples
        # A multiple that leads to nothing that is wrong may be right itself, and only seem not to
        # be taken back because it ends where something else is wrong.
        last = {n for n in {*self.suspects} & multiples if not self.broken[n].downstream() & wrong}
        self.suspects.sort(key=lambda name: (name in last, found.get(name, 0)))

    def _follows_multiplied(self, new: Numbered, name: str) -> bool:
        """Tell whether a tensor is what becomes of a multiplied one, so that this one is to blame.

        A Reshape may put its channels where no factors are looked for.
        """
        node, _ = new.scope.producers[name]
        read = {(new.scope.path, n) for n in node.input}
        return not row_of(node).is_linear and bool(read & (self.scaled.keys() | self.following))

    def _is_taken_back(self, new: Numbered, name: str, taken_back: Collection[str]) -> bool:
        """Tell whether all that is computed from a multiplied tensor becomes the original's.

        What is no tensor of the original stands on the way, as long as it is not known to be wrong.
        """
        pending, seen, reached = [name], {name}, False
        while pending:
            reading = pending.pop()
            if reading in new.scope.outputs:
                return False
            for made in (n for node, _ in new.scope.readers.get(reading, ()) for n in node.output):
                if self.matcher.same(new, made) or made in taken_back:
                    reached = True
                elif made in self.broken or (new.scope.path, made) in self.scaled:
                    return False
                elif made and made not in seen:
                    seen.add(made)
                    pending.append(made)
        return reached

    def _is_settled(self, new: Numbered, name: str) -> bool:
        """Tell whether there is nothing to seek around a tensor."""
        # Where the folds are named everything else must be the same, not merely close; only a
        # shape may be read from another tensor of that shape.
        patience = _FAILED_SEARCHES + 2 * len(self.found)
        if self.failed_searches >= patience or (self.in_use is None and name not in self.integers):
            return True
        # A constant of other numbers is another one.
        return new.scope.is_constant(name) and (
            name not in new.original.scope.producers or new.original.scope.is_constant(name)
        )

    def _readings(self, new: Numbered, name: str) -> Iterator[tuple[str, Collection[str]]]:
        """Yield which tensor of the original this may be, and what to look through to find out."""
        places = [*itertools.islice(self._places(new, name), _PLACES)]
        if name not in new.original.scope.producers:
            yield from ((place, ()) for place in places)
            return
        # What is read where this one is read is the likeliest, whatever it is called.
        before = places[: places.index(name)] if name in places else []
        yield from ((place, ()) for place in [*before, name])
        region = cut(new.original.scope, name, self._stops(new), _FOUND_NODES)
        zeros = (
            [leaf for leaf in region.leaves if self._is_zero(new.original, leaf)] if region else []
        )
        if zeros:
            # What is always zero looks the same before and behind a node that keeps zeros, a Relu,
            # say. It may have been matched with the wrong one, so the search looks through it, too.
            yield name, zeros
        yield from ((place, ()) for place in places if place not in (*before, name))

    def _is_zero(self, old: Numbered, name: str) -> bool:
        """Tell whether a tensor is known to be zero whatever enters: of dead weights, say."""
        if name in self.zeros:
            return True
        node, _ = old.scope.producers.get(name, (None, 0))
        if node is None or not row_of(node).is_linear or any(node.input[2:]):
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

    def _places(self, new: Numbered, name: str) -> Iterator[str]:
        """Yield tensors of the original that may be what this one is, though called otherwise.

        They are computed from the same tensors, or are what the original makes on the way to the
        next tensor that both models have; no tensor of the candidate is known to be one of them.
        What an operator of the same type reads comes first; the tensor of this very name is among
        them.
        """
        if self.in_use is None or not new.scope.may_be_renamed(name):
            return
        before = dict.fromkeys(self._before_following(new, name))
        alike = dict.fromkeys(self._made_alike(new, name))
        both = [place for place in before if place in alike]
        places = list(dict.fromkeys((*both, *alike, *before)))
        # A bias of zeros may be computed from the type and the shape of what enters.
        places.sort(key=lambda place: len(self.prober.shapes.get(place, (0, 0))) <= 1)
        for place in places:
            if place == name or not self.matcher.same(new, place):
                yield place

    def _before_following(self, new: Numbered, name: str) -> Iterator[str]:
        """Yield what the original makes on the way to the next tensor that both models have."""
        end = next_in_both(new.scope, name, new.original.scope)
        way = end and cut(new.original.scope, end, self._stops(new), _FOUND_NODES)
        if not way:
            return
        types = reader_types(new.scope, name)
        nodes = [new.original.scope.nodes[index] for index in reversed(way.nodes)]
        nodes.sort(key=lambda node: node.op_type not in types)  # a stable order
        inside = {made for node in nodes for made in node.output} - {end}
        yield from (read for node in nodes for read in node.input if read in inside)

    def _made_alike(self, new: Numbered, name: str) -> Iterator[str]:
        """Yield what the original computes from the very tensors that this one is computed from.

        The last comes first, as the candidate's operator may stand for all that lead to it.
        """
        own = cut(new.scope, name, self._stops(new), _FOUND_NODES)
        if own is None or not all(self.matcher.same(new, leaf) for leaf in own.leaves):
            return
        made = computed_from(new.original.scope, own.leaves)
        made.reverse()
        types = reader_types(new.scope, name)
        made.sort(
            key=lambda place: reader_types(new.original.scope, place) != types
        )  # a stable order
        yield from made

    def _stops(self, new: Numbered, through: Collection[str] = ()) -> Callable[[str], bool]:
        """Return what tells of a tensor whether it is the same in both models."""

        def stops(tensor: str) -> bool:
            passed = tensor in self.integers or tensor in through
            return not passed and (
                self.matcher.same(new, tensor) or self._factors(new, tensor) is not None
            )

        return stops

    def _factors(self, new: Numbered, tensor: str) -> Factors | None:
        """Return a tensor's factors, if the region behind it can begin there."""
        factors = self.scaled.get((new.scope.path, tensor))
        shape = self.prober.shapes.get(tensor)
        # Where something was added, zeros have a magnitude that the original's do not have.
        shifted = factors is not None and factors.shifts.any()
        if factors is None or shifted or shape is None or len(shape) <= max(factors.axis, 0):
            return None
        # The length of an axis that a probe has cut down says nothing of the tensor's own.
        return factors if shape[factors.axis] == factors.values.size else None

    def _sought(
        self,
        new: Numbered,
        name: str,
        called: str,
        through: Collection[str],
        way: Multiplied = NOTHING_MULTIPLIED,
    ) -> "_Sought | None":
        """Probe the region that ends at `name`, in the original at what is `called` so.

        It begins at the tensors that are the same in both, but for those that it goes `through`.
        The output may be multiplied in a `way`.
        None where there is no such region, or more in it than a probe is for.
        """
        before, after = self._cones(new, name, called, through)
        if before is None or after is None or linear_depth(before) > 1 or linear_depth(after) > 1:
            return None
        leaves = tuple(dict.fromkeys((*before.leaves, *after.leaves)))
        factors = {leaf: found for leaf in leaves if (found := self._factors(new, leaf))}
        multiplied = replace(way, entering=factors)
        if not all(leaf in factors or self.matcher.same(new, leaf) for leaf in leaves):
            return None
        sought = _Sought(
            self.prober.probe(before, after, multiplied=multiplied),
            leaves,
            set(before.leaves) == set(after.leaves),
            (before, after),
        )
        bound = frozenset(n for n in leaves if self._is_never_negative(new.original, n))
        straight = is_straight(before) and is_straight(after)
        if bound and not straight and isinstance(sought.finding, Finding) and not sought.held:
            finding = self.prober.probe(before, after, never_negative=bound, multiplied=multiplied)
            sought = replace(sought, finding=finding)
        return sought

    def _farther(
        self, new: Numbered, name: str, called: str, nearer: "_Sought"
    ) -> "_Sought | None":
        """Probe a region that begins farther back, where the candidate's begins too late.

        What it has early may be what the original makes of this tensor in the end. None where no
        such probe holds.
        """
        before, after = ({*cone.leaves} for cone in nearer.cones)
        early = {leaf for leaf in after - before if is_later(new.original.scope, leaf, called)}
        sought = self._sought(new, name, called, early) if early else None
        return sought if sought is not None and sought.held and sought.alike else None

    def _cones(
        self,
        new: Numbered,
        name: str,
        called: str,
        through: Collection[str] = (),
    ) -> tuple[Cone | None, Cone | None]:
        """Return what a tensor is computed from in both models, back to what is the same."""
        stops = self._stops(new, through)
        return (
            cut(new.original.scope, called, stops, _FOUND_NODES),
            cut(new.scope, name, stops, _FOUND_NODES),
        )

    def _is_never_negative(self, old: Numbered, name: str) -> bool:
        made = old.scope.producers.get(name)
        return made is not None and row_of(made[0]).never_negative
