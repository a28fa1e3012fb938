"""One of many models, and what a process does with it."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

from bnfold.api import fold_with
from bnfold.errors import BnfoldError, RequestError
from bnfold.files.remote import called, url_of
from bnfold.frozen import frozen
from bnfold.many.outcome import Outcome
from bnfold.many.records import Making
from bnfold.options import FileOptions
from bnfold.paths import default_target
from bnfold.processes.serving import tell
from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
from bnfold.reports.report import Exit
from bnfold.version import __version__


@frozen
class Task:
    """A model to fold; it is sent to other processes, perhaps on other machines.

    Attributes:
        source: The model.
        target: Where the folded model goes; None where its source tells.
        how: What to do with it.
        run: Names the run, so that what an executor does twice is recognized.
        skip_existing: Make nothing again that is there already.
        records: Write down what was made of what.
        refused: Why it is not even tried; empty where it is.
        called: What the user calls the source and the target, if something else.
        version: That of bnfold where the task comes from.
    """

    source: Path
    target: Path | None
    how: FileOptions
    run: str = ""
    skip_existing: bool = False
    records: bool = False
    refused: str = ""
    called: tuple[Path, Path | None] | None = None
    version: str = __version__

    def from_anywhere(self) -> "Task":
        """Return the same task for a process that has another current folder."""
        verify, statistics = self.how.verify, self.how.statistics
        if verify is not None and verify.inputs_path is not None:
            verify = replace(verify, inputs=verify.inputs_path.absolute())
        if statistics is not None and statistics.data is not None:
            statistics = replace(statistics, data=Path(statistics.data).absolute())
        return replace(
            self,
            source=_absolute(self.source),
            target=None if self.target is None else _absolute(self.target),
            how=replace(self.how, verify=verify, statistics=statistics),
            called=(self.source, self.target),
        )

    def as_called(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the files called as the user calls them."""
        if self.called is None:
            return replace(outcome, target=self.target)
        source, target = self.called
        names = {self.source: source}
        with suppress(BnfoldError):  # a folder has no default target
            names[self.target or default_target(self.source)] = target or default_target(source)
        return replace(outcome.renamed(names), target=target)

    def lost(self, why: str) -> Outcome:
        """Return the outcome where nobody can tell what became of it."""
        text = f"{called(self.source)}: {why}"
        return self.as_called(Outcome(self.source, Exit.BAD_REQUEST, error=text, lost=True))

    @property
    def making(self) -> Making | None:
        """How the target is made; None where none is, or nothing of it is written down."""
        if self.how.check or not (self.records or self.skip_existing):
            return None
        with suppress(BnfoldError):
            return Making.of(self.source, self.target, self.how, self.run)
        return None


def _absolute(path: Path) -> Path:
    return path if url_of(path) else path.absolute()


def fold_one(task: Task, step: Callable[[str], None] | None = None) -> Outcome:
    """Fold one model, whatever may happen, and take the time.

    `step` is told what is being done; by default that goes to the process that gave the task.
    """
    began = monotonic()
    outcome = _attempt(task, step or (lambda what: tell(f"{called(task.source)}: {what}")))
    return replace(task.as_called(outcome), seconds=monotonic() - began)


def _attempt(task: Task, step: Callable[[str], None]) -> Outcome:
    source, name = task.source, called(task.source)
    try:
        return _made(task, step)
    except (VerificationError, ProviderError, TooManyKeptError) as error:
        return Outcome(source, error.report.exit_code, error.report, str(error))
    except BnfoldError as error:
        text, trace = str(error), ""
    except OSError as error:
        text, trace = f"{error.filename or name}: {error.strerror or error}", ""
    except MemoryError:
        text, trace = f"{name}: there is not enough memory", ""
    except Exception as error:  # noqa: BLE001 - the other models must not suffer from it
        text = f"{name}: this is a bug in bnfold, please report it: {error!r} (-v shows where)"
        trace = traceback.format_exc()
    return Outcome(source, Exit.BAD_REQUEST, error=text, trace=trace)


def _made(task: Task, step: Callable[[str], None]) -> Outcome:
    """Fold, unless it was done before."""
    if task.refused:
        raise RequestError(task.refused)
    if task.version != __version__:
        raise RequestError(
            f"{called(task.source)}: the process has bnfold {__version__}, not {task.version}"
        )
    making = task.making
    marks: dict[str, str] = {}
    if making is not None:
        step("looking whether it is there already")
        existing = making.existing(of_this_run=not task.skip_existing)
        if existing is not None:
            return Outcome(task.source, Exit.DONE, existing=existing)
        marks = making.source_marks()
    report = fold_with(task.source, task.target, task.how, step)
    if making is not None and report.written:
        making.note(report, marks)
    wrong = f"{report.source.path}: {report.error}" if report.error else ""  # found by a check
    return Outcome(task.source, report.exit_code, report, wrong)
