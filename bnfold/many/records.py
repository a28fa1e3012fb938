"""Records of what was folded, by which a later run knows what it need not fold again.

Beside the target, in a hidden folder, lies a small JSON file for each model: the SHA-256 of the
source's files, with what options it was folded and by which version, the SHA-256 of the target's
files, and the report. A target is there, whole and made from this source in this way if all of
these are as the record says. Of files in a store nothing is fetched for that: in the place of a
SHA-256 is what the store knows a file by, its checksum there or else the time when it was written.
Records are a stranger's files, as models are: nothing in one is executed, and one that cannot be
understood is none.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bnfold.errors import BnfoldError, RequestError
from bnfold.files import open_model
from bnfold.files.objects import held, read_small, remove, write_small
from bnfold.files.pieces import sha256_of
from bnfold.files.publish import write_whole
from bnfold.files.remote import called, url_of
from bnfold.files.remote_models import local_copy
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import frozen
from bnfold.options import FileOptions
from bnfold.paths import default_target
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import Counts
from bnfold.reports.report import Existing, Report
from bnfold.version import __version__

FOLDER: Final = ".bnfold-made"
"""The hidden folder beside the targets."""


@frozen
class Making:
    """How a target is made of a source.

    Attributes:
        source: The model.
        target: Where the folded model goes.
        how: With what options.
        run: Names the run.
    """

    source: Path
    target: Path
    how: FileOptions
    run: str

    @classmethod
    def of(cls, source: Path, target: Path | None, how: FileOptions, run: str) -> "Making":
        """Return how a model is made, whose target may be left to its source."""
        chosen = source if how.in_place else target or default_target(source)
        return cls(source, chosen, how, run)

    @property
    def record(self) -> Path:
        """Where the record is."""
        return self.target.parent / FOLDER / f"{self.target.name}.json"

    def existing(self, *, of_this_run: bool) -> Existing | None:
        """Return the target if it is there, whole, and made from this source in this way.

        With `of_this_run` it must also have been made by this run.
        """
        with suppress(OSError, BnfoldError, ValueError, TypeError, KeyError, AttributeError):
            noted = json.loads(_read(self.record))
            if of_this_run and noted["run"] != self.run:
                return None
            if noted["how"] != _digest_of_options(self.how):
                return None
            if noted["target"] != _marks(self.target, noted["target"]):
                return None
            # What was replaced in place is its own source now.
            in_place = self.target == self.source
            if not in_place and noted["source"] != _marks(self.source, noted["source"]):
                return None
            return self._existing(noted["report"], written=noted["run"] == self.run)
        return None

    def _existing(self, report: Mapping[str, Any], *, written: bool) -> Existing:
        before, after = (Counts(**report[name]) for name in ("before", "after"))
        source = replace(FileRecord.from_dict(report["source"]), path=called(self.source))
        target = replace(FileRecord.from_dict(report["target"]), path=called(self.target))
        return Existing(source, target, before, after, report, written)

    def note(self, report: Report, source: Mapping[str, str]) -> None:
        """Write the record of a target that was written, if that is possible.

        `source` is by what the source's files were known before; nothing if that is not known.
        """
        if not source:
            return
        beside = report.target.data_files if report.target is not None else ()
        with suppress(OSError, BnfoldError):
            record = {
                "run": self.run,
                "how": _digest_of_options(self.how),
                "source": source,
                "target": _marks(self.target, [file.location for file in beside]),
                "report": report.to_dict(),
            }
            _write(self.record, json.dumps(record).encode("ascii"))

    def forget(self) -> None:
        """Remove the record, and the folder if it was the last one."""
        with suppress(OSError, BnfoldError):
            url = url_of(self.record)
            if url is not None:
                remove(url)
                return
            self.record.unlink(missing_ok=True)
            self.record.parent.rmdir()

    def source_marks(self) -> dict[str, str]:
        """Return by what each of the source's files is known; nothing if it cannot be read.

        Who folds it will say why.
        """
        with suppress(OSError, BnfoldError):
            return _marks(self.source, None)
        return {}


def _read(record: Path) -> bytes:
    url = url_of(record)
    return record.read_bytes() if url is None else read_small(url)


def _write(record: Path, data: bytes) -> None:
    url = url_of(record)
    if url is not None:
        write_small(url, data)
        return
    record.parent.mkdir(exist_ok=True)
    write_whole(record, data)


def _marks(model: Path, names: Iterable[str] | None) -> dict[str, str]:
    """Return by what a model's file, under no name, and its data files are known.

    Args:
        model: The model.
        names: What its data files are called, if its own file is still the one that says so; then
            a model in a store is not even opened. None where that is not known.

    Raises:
        BnfoldError: It is no model that can be read, or its store knows its files by nothing.
    """
    url = url_of(model)
    if url is None:
        return _digests(model)
    if names is None:
        names = _names(model)
    folder = url.rpartition("/")[0]
    return {"": _mark(url)} | {name: _mark(f"{folder}/{name}") for name in names if name}


def _mark(url: str) -> str:
    found = held(url)
    if not found.mark:
        raise RequestError(f"{url}: the store does not say when this file is another one")
    return f"{found.size} bytes, {found.mark}"


def _names(model: Path) -> list[str]:
    """Return what the data files of a model in a store are called; no more of it is fetched."""
    with (
        scratch_folder() as folder,
        local_copy(model, folder / "model", lambda _: None) as copy,
        open_model(copy) as opened,
    ):
        return [*opened.locations]


def _digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a model's file, under no name, and of its data files."""
    with open_model(path) as opened:
        assert opened.file is not None  # noqa: S101 - it was opened from one
        digests = {"": sha256_of(opened.file)}
        if opened.data is not None:
            digests |= {name: sha256_of(file) for name, file in opened.data.by_location.items()}
        return digests


def _digest_of_options(how: FileOptions) -> str:
    """Return a digest of the options that decide what is written, and of the version."""
    import hashlib

    deciding = {name: told for name, told in how.to_dict().items() if name not in _NOT_DECIDING}
    if how.verify is not None:
        deciding["verify"] = replace(how.verify, timeout=None, time=None).to_dict()
    text = json.dumps([__version__, deciding], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


_NOT_DECIDING: Final = frozenset({"in_place", "check", "explain"})
"""Options that say where the model goes, or that none is written."""
