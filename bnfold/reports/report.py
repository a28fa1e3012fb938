"""A report: what was done to one model file, as a value with an exit code.

What the `to_dict` methods give is documented in docs/report.md, described by
docs/report.schema.json and versioned by `SCHEMA_VERSION`: within a version fields are only added.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bnfold.errors import RequestError
from bnfold.frozen import sealed
from bnfold.paths import as_path
from bnfold.plain import Plain, fields_of
from bnfold.reports.cost import Cost
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import CompositeRecord, Counts, FoldRecord, KeptRecord
from bnfold.reports.report_file import check_report_path, is_page, write_reports
from bnfold.reports.versions import installed_versions
from bnfold.shown import Shown

if TYPE_CHECKING:
    from bnfold.reports.explained import ExplainedRecord
    from bnfold.reports.network import Network
    from bnfold.reports.weights import WeightRecord
    from bnfold.statistics.estimate import Estimate
    from bnfold.verification import Verification

SCHEMA_VERSION = 1


class Exit(IntEnum):
    """The exit codes of the command line."""

    DONE = 0
    FOLDABLE = 1  # --check found something to fold
    BAD_REQUEST = 2  # the request or the file is bad
    NOT_VERIFIED = 3  # the folded model does not compute what the original computes
    NO_PROVIDER = 4  # a provider that was asked for cannot run
    TOO_MANY_KEPT = 5  # more batch normalizations remain than the request allows


@sealed
class Seconds(Plain):
    """How long the work took, in seconds.

    Attributes:
        fold: Opening, folding and writing; None where two models were compared.
        verify: What the verification took beyond that: it begins while the model is being folded.
            None where there was none.
    """

    fold: float | None = None
    verify: float | None = None

    @property
    def total(self) -> float:
        """All of it."""
        return (self.fold or 0.0) + (self.verify or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data, with the sum."""
        return {**fields_of(self), "total": self.total}


@sealed
class Report(Shown):
    """What was done to one model.

    Attributes:
        source: The model that was read.
        target: The model that was, or would have been, written; None where only a check was
            asked for.
        written: Whether it was written.
        before: Counts of the source's nodes.
        after: Counts of the folded model's nodes.
        folds: The folds: which nodes were removed, and which nodes took them up.
        kept: The nodes that could have been folded and were not, each with the reason.
        composites: The groups of nodes that stayed whole, as runtimes know each as one operator.
        unlisted: The initializers that the source listed as graph inputs and the folded model
            does not.
        notes: Sentences about everything else that had to change, and about what had no effect.
        adds: How many nodes became an Add, or are followed by an Add that was not there before.
        inlined: The local functions that were inlined because a fold goes across their boundary.
        left_files: The data files of the model that stood at the target, which nobody reads now.
        verification: What the verification found; None where there was none.
        checked_only: Whether only a check was asked for.
        statistics: The statistics that were estimated from data before folding; None without data.
        max_kept: How many batch normalizations may remain; None for any number.
        cost_before: How much the source computes and stores; None where that was not counted.
        cost_after: How much the folded model does; None where that was not counted.
        explained: What planning tried for the nodes that the caller asked about.
        weights: What each changed weight loses as int8, before and after; None where that was not
            measured.
        lifted: How many constants that Constant nodes held became initializers.
        seconds: How long it took.
        options: How it was folded and verified, as plain data; `bnfold.options_of` makes of it
            what `fold_file` takes.
        network: What a page draws of the network; None where no page was asked for. It is no part
            of `to_dict`.
    """

    source: FileRecord
    target: FileRecord | None
    written: bool
    before: Counts
    after: Counts
    folds: tuple[FoldRecord, ...] = ()
    kept: tuple[KeptRecord, ...] = ()
    composites: tuple[CompositeRecord, ...] = ()
    unlisted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    adds: int = 0
    inlined: tuple[str, ...] = ()
    left_files: tuple[str, ...] = ()
    verification: "Verification | None" = None
    checked_only: bool = False
    statistics: "Estimate | None" = None
    max_kept: int | None = None
    cost_before: Cost | None = None
    cost_after: Cost | None = None
    explained: "tuple[ExplainedRecord, ...]" = ()
    weights: "tuple[WeightRecord, ...] | None" = None
    lifted: int = 0
    seconds: Seconds | None = None
    options: Mapping[str, Any] | None = None
    network: "Network | None" = None

    @property
    def changes(self) -> bool:
        """Whether the model is, or would be, another one than the source."""
        return bool(self.folds or self.lifted)

    @property
    def exit_code(self) -> Exit:
        """The exit code of the command line for this outcome."""
        if self.keeps_too_many:
            return Exit.TOO_MANY_KEPT
        if self.checked_only:
            return Exit.FOLDABLE if self.changes else Exit.DONE
        return Exit.DONE if self.verification is None else _exit_code(self.verification)

    @property
    def keeps_too_many(self) -> bool:
        """Whether more batch normalizations remain than may."""
        return self.max_kept is not None and self.after.batch_normalizations > self.max_kept

    @property
    def error(self) -> str | None:
        """Why the model was not written, in one sentence; None where nothing is wrong."""
        if self.keeps_too_many:
            remain = self.after.batch_normalizations
            told = "normalization remains" if remain == 1 else "normalizations remain"
            return f"{remain} batch {told}; max_kept (--max-kept) allows {self.max_kept}"
        return None if self.verification is None else _error(self.verification)

    def calling(self, files: Mapping[str, str]) -> "Report":
        """Return the same report with files called otherwise, as the user calls them."""
        target = None if self.target is None else self.target.calling(files)
        return replace(self, source=self.source.calling(files), target=target)

    def told(self) -> dict[str, str]:
        """Return what was done, and the verdict."""
        before, after = self.before, self.after
        lines = {
            "source": self.source.path,
            "target": "" if self.target is None else self.target.path,
            "written": "yes" if self.written else "no",
            "batch normalizations": f"{before.batch_normalizations} → {after.batch_normalizations}",
            "nodes": f"{before.nodes} → {after.nodes}",
            "kept": str(len(self.kept)),
            "verification": "none" if self.verification is None else str(self.verification.verdict),
        }
        return {name: text for name, text in lines.items() if text}

    def to_html(self, path: str | Path) -> None:
        """Write the report as a page; takes the extra `bnfold[html]`.

        Raises:
            RequestError: The extra is not there, or the file cannot be written.
        """
        page = as_path(path)
        if not is_page(page):
            raise RequestError(f"{page}: a page is written to a .html file")
        check_report_path(page)
        write_reports(page, [self])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON-able data, see docs/report.md."""
        data = fields_of(self)
        del data["checked_only"], data["network"]
        data["unlisted_inputs"] = data.pop("unlisted")
        data["inlined_functions"] = data.pop("inlined")
        return _entry(self, data)


@sealed
class Comparison(Plain):
    """What `bnfold verify` found about two models.

    Attributes:
        original: The model that is right by definition.
        candidate: The model that was compared with it.
        verification: What was found.
        seconds: How long it took.
        options: How it was verified, as plain data.
    """

    original: FileRecord
    candidate: FileRecord
    verification: "Verification"
    seconds: Seconds | None = None
    options: Mapping[str, Any] | None = None

    @property
    def exit_code(self) -> Exit:
        """The exit code of the command line for this outcome."""
        return _exit_code(self.verification)

    @property
    def error(self) -> str | None:
        """What is wrong with the candidate, in one sentence; None where nothing is."""
        return _error(self.verification)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON-able data, see docs/report.md."""
        return _entry(self, fields_of(self))


@sealed
class Failure(Plain):
    """A model with which nothing could be done.

    Attributes:
        source: Where it is.
        error: Why, in one sentence.
        exit_code: The exit code of the command line for this outcome.
    """

    source: str
    error: str
    exit_code: Exit = Exit.BAD_REQUEST

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as plain JSON-able data, see docs/report.md."""
        return _entry(self, {"source": FileRecord(self.source).to_dict()})


@sealed
class Existing(Plain):
    """A model that was there already, made earlier from the same source in the same way.

    Attributes:
        source: The model that it was made from.
        target: The model.
        before: Counts of the source.
        after: Counts of the folded model.
        told: The report of the run that made it, as plain data.
        written: Whether this very run made it: a process did whose answer was lost.
    """

    source: FileRecord
    target: FileRecord
    before: Counts
    after: Counts
    told: Mapping[str, Any]
    written: bool = False

    exit_code: ClassVar[Exit] = Exit.DONE
    error: ClassVar[str | None] = None

    def calling(self, files: Mapping[str, str]) -> "Existing":
        """Return the same with files called otherwise, as the user calls them."""
        source, target = (file.calling(files) for file in (self.source, self.target))
        return replace(self, source=source, target=target)

    def to_dict(self) -> dict[str, Any]:
        """Return the report of when it was made, which says that it was there already."""
        files = {"source": self.source.to_dict(), "target": self.target.to_dict()}
        return {**self.told, **files, "written": self.written, "existing": not self.written}


Entry = Report | Comparison | Failure | Existing
"""What a report file holds, once for each model."""


def _exit_code(verification: "Verification") -> Exit:
    if not verification.verdict.ok:
        return Exit.NOT_VERIFIED
    return Exit.NO_PROVIDER if verification.asked_provider_failed else Exit.DONE


def _error(verification: "Verification") -> str | None:
    if not verification.verdict.ok:
        return f"verification {verification.verdict}: {verification.reason}"
    failed = verification.asked_provider_failed
    return f"asked for by name but cannot run: {failed}" if failed else None


def _entry(entry: "Entry", data: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": int(entry.exit_code),
        "error": entry.error,
        **data,
        "versions": installed_versions(),
    }
