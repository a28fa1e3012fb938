"""The work on one model file: open → view → plan → rewrite → save → verify → report."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from bnfold.files import OpenedModel, copy_model, open_model, stage
from bnfold.files.readers import data_files, readers
from bnfold.folding import Decision, carry_out, function_names
from bnfold.frozen import slotted
from bnfold.options import FileOptions
from bnfold.paths import FOLDED
from bnfold.reports.cost import cost_of
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import Counts, composite_records, fold_records, kept_records
from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
from bnfold.reports.report import Exit, Report, Seconds
from bnfold.units import byte_size
from bnfold.verification import VerifyOptions

if TYPE_CHECKING:
    from bnfold.reports.network import Network
    from bnfold.reports.weights import WeightRecord
    from bnfold.statistics.estimate import Estimate
    from bnfold.verification import Verifier

_NOTHING_TO_FREEZE = "nothing was frozen: no normalization is in training mode"


@slotted
class Job:
    """The work on one model file.

    Attributes:
        source: The model.
        target: Where the folded model goes.
        how: How to fold it.
        step: Called with a text when each step begins.
        named: Whether the target was named, and did not follow from the source.
        estimate: What was estimated for it, if that was asked for.
        remarks: Sentences about what was asked for and had no effect.
        began: When the work began.
        verifying: Seconds that the verification took; None where there was none yet.
        stood: Where the data files of the model lie that stood at the target.
    """

    source: Path
    target: Path
    how: FileOptions
    step: Callable[[str], None]
    named: bool
    estimate: "Estimate | None" = None
    remarks: tuple[str, ...] = ()
    began: float = field(default_factory=monotonic)
    verifying: float | None = None
    stood: set[str] = field(default_factory=set)

    def check(self) -> Report:
        """Return what would be folded; write nothing."""
        self.step("opening")
        with open_model(self.source) as source, self._basis(source) as (basis, _):
            self._say_what_is_planned(basis)
            return carry_out(basis, self.how.fold, partial(self._checked, source))

    def _checked(self, source: OpenedModel, decision: Decision) -> Report:
        weights = self._weights(decision)
        report = replace(self._report(source, decision, checked_only=True), weights=weights)
        report = replace(report, seconds=self._seconds())
        if self.how.explain is None:
            return report
        from bnfold.reports.explained import explained_records

        explained = explained_records(
            decision.graph, self.how.fold, decision.unfit, self.how.explain
        )
        return replace(report, explained=explained)

    def fold(self) -> Report:
        """Fold, save, verify, publish."""
        self.step("opening")
        self.stood = data_files(self.target) if self.target != self.source else set()
        with (
            open_model(self.source) as source,
            self._basis(source) as (basis, path),
            self._verifier(path) as verifier,
        ):
            self._say_what_is_planned(basis)
            return carry_out(basis, self.how.fold, partial(self._save, source, basis, verifier))

    def _say_what_is_planned(self, basis: OpenedModel) -> None:
        counts = Counts.of(basis.proto)
        self.step(
            f"planning: {counts.nodes} nodes, of which {counts.batch_normalizations} are batch "
            f"normalizations, {byte_size(basis.size)}"
        )

    @contextmanager
    def _basis(self, source: OpenedModel) -> Iterator[tuple[OpenedModel, Path]]:
        """Yield the model to fold and its path: the source, or a copy with estimated statistics."""
        if self.how.statistics is None:
            yield source, self.source
            return
        from bnfold.statistics.basis import in_inference_mode
        from bnfold.statistics.runner import DEFAULT_TIMEOUT

        how = self.how.verify or VerifyOptions()
        with in_inference_mode(
            source,
            self.source,
            self.how.statistics,
            provider=next(iter(how.providers), "cpu"),
            timeout=how.timeout or DEFAULT_TIMEOUT,
            step=self.step,
        ) as basis:
            self.estimate = basis.estimate
            nothing = self.how.statistics.data is None and basis.opened is source
            self.remarks = (_NOTHING_TO_FREEZE,) * nothing
            yield basis.opened, basis.path

    def _verifier(self, original: Path) -> "AbstractContextManager[Verifier | None]":
        """Return a verifier, which runs the original while the model is being folded."""
        if self.how.verify is None:
            return nullcontext()
        from bnfold.verification import Verifier

        return Verifier(original, self.how.verify, self.step)

    def _save(
        self,
        source: OpenedModel,
        basis: OpenedModel,
        verifier: "Verifier | None",
        decision: Decision,
    ) -> Report:
        external, sharing = self.how.external_data, self.how.share_data
        changes = decision.plan.changes or decision.rewritten.lifted
        if not (changes or self.named) and basis is source and self.source.stem.endswith(FOLDED):
            self.target = self.source  # a folded model, folded again, is what it was
        report = self._report(source, decision)
        self._require_good(report)
        report = replace(report, weights=self._weights(decision))
        if not changes:
            # What is to be replaced by itself stays, unless it shall have another form.
            replaces_itself = self.target == self.source and basis is source
            written = not replaces_itself or self.how.external_data is True
            if written:
                copy_model(basis, self.target, external_data=external, share_data=sharing)
            done = replace(report, seconds=self._seconds())
            return self._written(done, source) if written else done
        if verifier is not None:
            verifier.look_ahead()
        made = decision.rewritten
        gone = len(decision.plan.removed)
        self.step(f"writing: {gone} of {Counts.of(source.proto).nodes} nodes folded")
        with stage(
            decision.opened,
            made.proto,
            made.recipes,
            self.target,
            external_data=external,
            share_data=sharing,
        ) as staged:
            if verifier is not None:
                began = monotonic()
                found = verifier.verify(staged.path, decision.plan.regions)
                self.verifying = monotonic() - began
                basis.require_unchanged()  # or something else was verified
                source.require_unchanged()
                report = replace(report, verification=found, seconds=self._seconds())
                self._require_good(report)
            staged.publish()
        return self._written(report, source, whole=staged.whole)

    def _written(self, report: Report, source: OpenedModel, *, whole: bool = False) -> Report:
        """Return `report`, completed once the folded model is in its place.

        Of one that is known to be `whole`, with all numbers in one file, nothing is parsed again.
        """
        seconds = self._seconds()
        recorded = FileRecord.of_whole if whole else FileRecord.of
        target = recorded(self.target, digest=self.how.digest)
        left = self._left_files(source, target)
        return replace(report, written=True, target=target, left_files=left, seconds=seconds)

    def _seconds(self) -> Seconds:
        """Tell how long it has taken until now."""
        verifying = self.verifying
        return Seconds(monotonic() - self.began - (verifying or 0.0), verifying)

    def _require_good(self, report: Report) -> None:
        """Raise the error that belongs to the exit code of a report, unless it is a success."""
        if report.exit_code is Exit.TOO_MANY_KEPT:
            raise TooManyKeptError(f"{self.source}: {report.error}", report)
        if report.exit_code is Exit.NO_PROVIDER:
            raise ProviderError(f"{self.source}: {report.error}", report)
        if report.exit_code is not Exit.DONE:
            raise VerificationError(f"{self.source}: {report.error}", report)

    def _report(
        self,
        source: OpenedModel,
        decision: Decision,
        *,
        checked_only: bool = False,
    ) -> Report:
        return Report(
            source=FileRecord.of_opened(source, self.source, digest=self.how.digest),
            target=None if checked_only else FileRecord(str(self.target)),
            written=False,
            before=Counts.of(source.proto),
            after=Counts.of(decision.rewritten.proto),
            folds=fold_records(decision.graph, decision.plan),
            kept=kept_records(decision.graph, decision.plan, decision.rewritten.dropped),
            composites=composite_records(decision.graph, decision.plan),
            unlisted=decision.rewritten.unlisted,
            notes=(*self.remarks, *decision.rewritten.notes),
            adds=decision.rewritten.adds,
            lifted=decision.rewritten.lifted,
            inlined=function_names(decision.inlined),
            checked_only=checked_only,
            statistics=self.estimate,
            max_kept=self.how.max_kept,
            cost_before=cost_of(decision.opened.proto, decision.graph),
            cost_after=cost_of(decision.rewritten.proto, decision.graph),
            options=self.how.to_dict(),
            network=self._network(decision) if self.how.picture else None,
        )

    def _network(self, decision: Decision) -> "Network":
        from bnfold.reports.network import network_of

        return network_of(decision.graph, decision.plan, decision.rewritten.dropped)

    def _weights(self, decision: Decision) -> "tuple[WeightRecord, ...] | None":
        """Measure what folding does to weights, while the source's files are still unchanged."""
        if not self.how.tells_weights:
            return None
        from bnfold.reports.weights import weight_records

        self.step("measuring what the weights lose as int8")
        return weight_records(decision.graph, decision.plan, decision.rewritten)

    def _left_files(self, opened: OpenedModel, target: FileRecord) -> tuple[str, ...]:
        """Return the data files of the model that was replaced which no model around reads."""
        stood = set(opened.locations) if self.target == self.source else self.stood
        left = sorted(stood.difference(file.location for file in target.data_files))
        return tuple(location for location in left if self._is_left(self.target.parent / location))

    def _is_left(self, data: Path) -> bool:
        return data.exists() and next(readers(data, but=self.target), None) is None


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the garbage collector: folding makes very many objects and hardly any cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
