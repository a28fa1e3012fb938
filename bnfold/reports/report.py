"""A report: what was done to one model file, as a value with an exit code.

What the `to_dict` methods give is documented in docs/report.md, described by
docs/report.schema.json and versioned by `SCHEMA_VERSION`: within a version fields are only added.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bnfold.errors import RequestError
from bnfold.files import open_model
from bnfold.files.atomic import os_errors_as_requests, real_target
from bnfold.files.pieces import sha256_of
from bnfold.files.publish import write_whole
from bnfold.files.readers import reads
from bnfold.files.remote import called, url_of
from bnfold.paths import as_path
from bnfold.plain import Plain, fields_of
from bnfold.reports.cost import Cost
from bnfold.reports.network import Network
from bnfold.reports.records import CompositeRecord, Counts, FoldRecord, KeptRecord
from bnfold.reports.weights import WeightRecord
from bnfold.shown import Shown
from bnfold.version import __version__

if TYPE_CHECKING:
    from bnfold.files import OpenedModel
    from bnfold.reports.explained import ExplainedRecord
    from bnfold.statistics.estimate import Estimate
    from bnfold.verification import Verification

SCHEMA_VERSION = 1

_HTML = frozenset({".html", ".htm"})
_LINES = ".jsonl"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


class Exit(IntEnum):
    """The exit codes of the command line."""

    DONE = 0
    FOLDABLE = 1  # --check found something to fold
    BAD_REQUEST = 2  # the request or the file is bad
    NOT_VERIFIED = 3  # the folded model does not compute what the original computes
    NO_PROVIDER = 4  # a provider that was asked for cannot run
    TOO_MANY_KEPT = 5  # more batch normalizations remain than the request allows


@dataclass(frozen=True, slots=True)
class DataFile(Plain):
    """A file in which a model has numbers.

    Attributes:
        location: Its name, as the model writes it: relative to the model's folder.
        size: Its size in bytes.
    """

    location: str
    size: int


@dataclass(frozen=True, slots=True)
class FileRecord(Plain):
    """A model file.

    Attributes:
        path: Where it is, or is to be; of a source that is no file, what it is.
        sha256: The digest of its bytes; None where it was not asked for or nothing was written.
        size: Its size in bytes; None where nothing was written.
        data_files: The files beside it in which it has numbers.
    """

    path: str
    sha256: str | None = None
    size: int | None = None
    data_files: tuple[DataFile, ...] = ()

    @property
    def whole_size(self) -> int | None:
        """Its size with its data files, in bytes; None where nothing was written."""
        return None if self.size is None else self.size + sum(f.size for f in self.data_files)

    @classmethod
    def of(cls, path: Path, *, digest: bool) -> "FileRecord":
        """Return the record of a file that exists; of one in a store, what it is called."""
        if url_of(path):
            return cls(called(path))
        with open_model(path) as opened:
            return cls.of_opened(opened, path, digest=digest)

    @classmethod
    def of_opened(cls, opened: "OpenedModel", path: Path, *, digest: bool) -> "FileRecord":
        """Return the record of a model's file as it was opened; it may be replaced by now."""
        if opened.file is None:
            return cls.of(path, digest=digest)
        data = {} if opened.data is None else opened.data.by_location
        beside = tuple(DataFile(location, store.size) for location, store in sorted(data.items()))
        sha = sha256_of(opened.file) if digest else None
        return cls(str(path), sha, opened.file.size, beside)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "FileRecord":
        """Return the record that `to_dict` told."""
        data_files = tuple(DataFile(**file) for file in told.get("data_files", ()))
        return cls(told["path"], told["sha256"], told["size"], data_files)

    def calling(self, files: Mapping[str, str]) -> "FileRecord":
        """Return the record of a file that is called otherwise, if it is one of these."""
        return replace(self, path=files.get(self.path, self.path))


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True, repr=False)
class Report(Shown):
    """What was done to one model.

    Attributes:
        source: The model that was read.
        target: The model that was, or would have been, written; None where only a check was
            asked for.
        written: Whether it was written.
        before: Counts of the source.
        after: Counts of the folded model.
        folds: What went, and where.
        kept: What stayed, and why.
        composites: What stayed whole, because runtimes know it as one operator.
        unlisted: Initializers that are no longer listed as graph inputs.
        notes: What else had to change, in words.
        adds: How many nodes are an Add now, or are followed by one that was not there.
        inlined: Local functions that were inlined because a fold goes across their boundary.
        left_files: Data files of a model that was replaced in place, which it reads no longer.
        verification: What the verification found; None where there was none.
        checked_only: Whether only a check was asked for.
        statistics: What was estimated from data before folding; None where nothing was.
        max_kept: How many batch normalizations may remain; None for any number.
        cost_before: What the source costs; None where that is not told.
        cost_after: What the folded model costs, likewise.
        explained: What was tried for the nodes that were asked for.
        weights: What folding does to weights; None where that is not told.
        lifted: How many constants that nodes held are initializers now.
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
    weights: tuple[WeightRecord, ...] | None = None
    lifted: int = 0
    seconds: Seconds | None = None
    options: Mapping[str, Any] | None = None
    network: Network | None = None

    @property
    def changes(self) -> bool:
        """Whether the model is, or would be, another one than the source."""
        return bool(self.folds or self.lifted)

    @property
    def exit_code(self) -> Exit:
        """The exit code that says it in a number."""
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
            verb = "remains" if remain == 1 else "remain"
            return f"{remain} of the batch normalizations {verb}, and {self.max_kept} may"
        return None if self.verification is None else _error(self.verification)

    def calling(self, files: Mapping[str, str]) -> "Report":
        """Return the same report with files called otherwise, as the user calls them."""
        target = None if self.target is None else self.target.calling(files)
        return replace(self, source=self.source.calling(files), target=target)

    def told(self) -> dict[str, str]:
        """Return what was done, and the verdict."""
        before, after = self.before, self.after
        told = {
            "source": self.source.path,
            "target": "" if self.target is None else self.target.path,
            "written": "yes" if self.written else "no",
            "batch normalizations": f"{before.batch_normalizations} → {after.batch_normalizations}",
            "nodes": f"{before.nodes} → {after.nodes}",
            "kept": str(len(self.kept)),
            "verification": "none" if self.verification is None else str(self.verification.verdict),
        }
        return {name: text for name, text in told.items() if text}

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
        told = fields_of(self)
        del told["checked_only"], told["network"]
        told["unlisted_inputs"] = told.pop("unlisted")
        told["inlined_functions"] = told.pop("inlined")
        return _entry(self, told)


@dataclass(frozen=True, slots=True)
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
        """The exit code that says it in a number."""
        return _exit_code(self.verification)

    @property
    def error(self) -> str | None:
        """What is wrong with the candidate, in one sentence; None where nothing is."""
        return _error(self.verification)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON-able data, see docs/report.md."""
        return _entry(self, fields_of(self))


@dataclass(frozen=True, slots=True)
class Failure(Plain):
    """A model with which nothing could be done.

    Attributes:
        source: Where it is.
        error: Why, in one sentence.
        exit_code: The exit code that says it in a number.
    """

    source: str
    error: str
    exit_code: Exit = Exit.BAD_REQUEST

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as plain JSON-able data, see docs/report.md."""
        return _entry(self, {"source": FileRecord(self.source).to_dict()})


@dataclass(frozen=True, slots=True)
class Existing(Plain):
    """A model that was there already, made earlier from the same source in the same way.

    Attributes:
        source: The model that it was made from.
        target: The model.
        before: Counts of the source.
        after: Counts of the folded model.
        told: The report of when it was made, as plain data.
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


def check_report_path(path: Path, used: Iterable[Path] = ()) -> None:
    """Make sure, before any work is done, that a report can be written to a path.

    Args:
        path: The path.
        used: What is read and written besides; none of it may be the report, nor may the data
            files of a model among it.

    Raises:
        RequestError: It cannot, or HTML needs the extra `bnfold[html]`.
    """
    if path.suffix.lower() not in {".json", _LINES, *_HTML}:
        raise RequestError(f"{path}: a report is written to a .json, .jsonl or .html file")
    with os_errors_as_requests(path):
        real = real_target(path)
        if not os.access(real.parent, os.W_OK):
            raise RequestError(f"{path}: cannot be written")
        for file in used:
            if os.path.realpath(file) == os.path.realpath(real) or _is_same(real, file):
                raise RequestError(f"{path}: this file is used, a report would overwrite it")
            if real.exists() and reads(file, real):
                raise RequestError(f"{path}: this is data of {file}, a report would overwrite it")
    if is_page(path):
        from bnfold.reports.page import require_jinja

        require_jinja()


def is_page(path: Path) -> bool:
    """Whether a report that is written to a path is a page."""
    return path.suffix.lower() in _HTML


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there, or cannot be
        return False


class ReportFile:
    """A report file, to which what was done is added as it is done.

    In JSON lines (`.jsonl`) each entry is a line that is written at once. JSON and HTML are written
    as a whole when the file is closed; in JSON, one model is an object, several are a list.
    """

    def __init__(self, path: Path, *, several: bool = False) -> None:
        """Begin.

        Args:
            path: The path; its suffix tells the form.
            several: Write a list even of one entry.

        Raises:
            OSError: The file cannot be written.
        """
        self._path = path
        self._several = several
        self._entries: list[Entry] = []
        self._lines = path.suffix.lower() == _LINES
        if self._lines:
            path.write_text("", encoding="utf-8")

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        if not self._lines:
            self._entries.append(entry)
            return
        line = json.dumps(entry.to_dict(), ensure_ascii=False) + "\n"
        with self._path.open("ab") as file:
            file.write(line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Write what is still to be written.

        Raises:
            RequestError: HTML needs the extra `bnfold[html]`, or the file cannot be written.
        """
        if not self._lines:
            write_reports(self._path, self._entries, several=self._several)


def write_reports(path: Path, entries: Sequence[Entry], *, several: bool = False) -> None:
    """Write what was done: HTML to a path that ends so, else JSON.

    In JSON, one model is an object, several are a list of objects.

    Raises:
        RequestError: HTML needs the extra `bnfold[html]`, or the file cannot be written.
    """
    several = several or len(entries) != 1
    data = [entry.to_dict() for entry in entries]
    if is_page(path):
        from bnfold.reports.page import render

        networks = [entry.network if isinstance(entry, Report) else None for entry in entries]
        text = render(data, networks)
    else:
        text = json.dumps(data if several else data[0], indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def installed_versions() -> dict[str, str]:
    """Return the versions of bnfold and of what decides its results."""
    versions = {"bnfold": __version__}
    for name in ("onnx", "onnx-graphsurgeon", "numpy"):
        versions[name] = _version(name) or "unknown"
    found = (_version(name) for name in _RUNTIMES)
    versions["onnxruntime"] = next((v for v in found if v), "not installed")
    return versions


def _exit_code(verification: "Verification") -> Exit:
    if not verification.verdict.ok:
        return Exit.NOT_VERIFIED
    return Exit.NO_PROVIDER if verification.asked_provider_failed else Exit.DONE


def _error(verification: "Verification") -> str | None:
    if not verification.verdict.ok:
        return f"verification {verification.verdict}: {verification.reason}"
    failed = verification.asked_provider_failed
    return f"asked for by name but cannot run: {failed}" if failed else None


def _entry(entry: "Entry", told: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": int(entry.exit_code),
        "error": entry.error,
        **told,
        "versions": installed_versions(),
    }


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
