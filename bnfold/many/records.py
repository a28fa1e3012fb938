"""Records of what was made of what, by which later runs know that it need not be made again.

Beside the target, in a hidden folder, lies a small JSON file for each model: the SHA-256 of the
source's files, with what options it was folded and by which version, the SHA-256 of the target's
files, and the report. A target is there, whole and made from this source in this way if all of
these are as the record says. Records are a stranger's files, as models are: nothing in one is
executed, and one that cannot be understood is none.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bnfold.api import FileOptions, default_target
from bnfold.errors import BnfoldError
from bnfold.files import open_model
from bnfold.files.pieces import sha256_of
from bnfold.files.publish import write_whole
from bnfold.frozen import frozen
from bnfold.plain import to_plain
from bnfold.reports.records import Counts
from bnfold.reports.report import Existing, FileRecord, Report
from bnfold.verification import VerifyOptions
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

        Args:
            of_this_run: It must also have been made by this run.
        """
        with suppress(OSError, BnfoldError, ValueError, TypeError, KeyError, AttributeError):
            noted = json.loads(self.record.read_text(encoding="utf-8"))
            if of_this_run and noted["run"] != self.run:
                return None
            if noted["how"] != _digest_of_options(self.how):
                return None
            if noted["target"] != _digests(self.target):
                return None
            # What was replaced in place is its own source now.
            if self.target != self.source and noted["source"] != _digests(self.source):
                return None
            return self._existing(noted["report"], written=noted["run"] == self.run)
        return None

    def _existing(self, report: Mapping[str, Any], *, written: bool) -> Existing:
        before, after = (Counts(**report[name]) for name in ("before", "after"))
        source = replace(FileRecord.from_dict(report["source"]), path=str(self.source))
        target = replace(FileRecord.from_dict(report["target"]), path=str(self.target))
        return Existing(source, target, before, after, report, written)

    def note(self, report: Report, source: Mapping[str, str]) -> None:
        """Write the record of a target that was written; where it cannot be, there is none.

        Args:
            report: What was done.
            source: The digests of the source's files, from before.
        """
        record = {
            "run": self.run,
            "how": _digest_of_options(self.how),
            "source": source,
            "target": _digests(self.target),
            "report": report.to_dict(),
        }
        with suppress(OSError, BnfoldError):
            self.record.parent.mkdir(exist_ok=True)
            write_whole(self.record, json.dumps(record, ensure_ascii=False).encode("utf-8"))

    def forget(self) -> None:
        """Remove the record, and the folder if it was the last one."""
        with suppress(OSError):
            self.record.unlink(missing_ok=True)
            self.record.parent.rmdir()

    def source_digests(self) -> dict[str, str]:
        """Return the SHA-256 of each of the source's files.

        Raises:
            BnfoldError: It is no model that can be read.
        """
        return _digests(self.source)


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
    deciding: dict[str, Any] = {name: _plain(getattr(how, name)) for name in _DECIDING}
    if how.verify is not None:
        deciding["verify"] = VerifyOptions.to_dict(replace(how.verify, timeout=None, time=None))
    text = json.dumps([__version__, deciding], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


_DECIDING: Final = ("fold", "statistics", "max_kept", "external_data", "share_data")


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever options hold
    """Return options as plain data, sets in order."""
    names = getattr(value, "__dataclass_fields__", None)
    if names is not None:
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return to_plain(value)
