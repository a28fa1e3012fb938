"""What became of one of many models."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bnfold.files.remote import called
from bnfold.frozen import sealed
from bnfold.paths import calling
from bnfold.reports.report import Entry, Existing, Exit, Failure, Report


@sealed
class Outcome:
    """What became of one model.

    Attributes:
        source: The model.
        target: Where the folded model goes; None for the default, or where none is written.
        exit_code: The outcome as an exit code.
        report: What was done; None where the model could not even be read, or was there already.
        existing: What was there already, and was not made again; else None.
        error: What went wrong, in one line; empty where nothing did.
        lost: Whether the process or the executor that had the model is gone, so that it is not
            known whether it was folded. What is at the target is whole all the same.
        trace: Where it went wrong, if bnfold itself is to blame.
        seconds: How long it took.
    """

    source: Path
    exit_code: Exit
    report: Report | None = None
    error: str = ""
    trace: str = ""
    seconds: float = 0.0
    existing: Existing | None = None
    lost: bool = False
    target: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether the folded model is there, or, of a check, nothing went wrong."""
        return self.exit_code in (Exit.DONE, Exit.FOLDABLE)

    @property
    def entry(self) -> Entry:
        """What a report file says about it."""
        known = self.report or self.existing
        return known or Failure(called(self.source), self.error, self.exit_code)

    @property
    def written(self) -> bool:
        """Whether a model was written."""
        done = self.report or self.existing
        return done is not None and done.written

    @property
    def kept(self) -> int:
        """How many batch normalizations the folded model has."""
        if self.existing is not None:
            return self.existing.after.batch_normalizations
        return 0 if self.report is None else self.report.after.batch_normalizations

    def renamed(
        self, names: Mapping[Path, Path], said: Mapping[str, str] | None = None
    ) -> "Outcome":
        """Return the outcome with files called as the user called them.

        Args:
            names: What each file is to be called.
            said: What they are to be called in the text of an error, if something else.
        """
        files = {str(here): str(name) for here, name in names.items()}
        return replace(
            self,
            source=names.get(self.source, self.source),
            report=None if self.report is None else self.report.calling(files),
            existing=None if self.existing is None else self.existing.calling(files),
            error=calling(self.error, said or files),
        )
