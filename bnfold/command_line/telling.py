"""Printing what became of each model, as soon as it is known, and of all in the end."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from bnfold.command_line.brief import Brief
from bnfold.command_line.foreign import printable_lines
from bnfold.command_line.progress import Progress
from bnfold.command_line.text import lifted, report_line, report_text, summary, what_went
from bnfold.command_line.words import INDENT, wrapped
from bnfold.errors import BnfoldError, one_line
from bnfold.files.remote import called
from bnfold.frozen import frozen
from bnfold.many.outcome import Outcome
from bnfold.reports.records import Counts
from bnfold.reports.report import Exit, Report
from bnfold.reports.report_file import ReportFile
from bnfold.units import counted

_WIDEST = 48
"""Characters of a name beyond which lines are not aligned any more."""


@frozen
class Telling:
    """How to print outcomes.

    Attributes:
        alone: Whether there is one model.
        column: How many characters wide the column of names is.
        quiet: Print errors only, and what `--check` found.
        verbose: Print everything about each model.
        check: Whether only a check was asked for.
        to_stderr: A model goes to standard output, so the text must not.
    """

    alone: bool
    column: int
    quiet: bool
    verbose: bool
    check: bool
    to_stderr: bool

    def tell(self, outcome: Outcome) -> None:
        """Print what became of one model: all of it for one, a line for one of several."""
        if outcome.error:
            click.echo(f"bnfold: {one_line(outcome.error)}", err=True)
        if outcome.trace and self.verbose:
            click.echo(printable_lines(outcome.trace), err=True)
        report = outcome.report
        if report is None:
            self._tell_existing(outcome)
            return
        if self.quiet:
            if self.check and report.changes:
                folded = [f"{what_went(report)} would be folded"] if report.folds else []
                foldable = [*folded, *([lifted(report)] if report.lifted else [])]
                click.echo(f"{one_line(report.source.path)}: {', '.join(foldable)}")
            return
        err = self.to_stderr or bool(outcome.error)
        if self.alone or self.verbose or outcome.error:
            click.echo(report_text(report, verbose=self.verbose, width=width(err=err)), err=err)
        else:
            counts = report.before, report.after
            click.echo(self._line(outcome, *counts, _verdict(report)))

    def _tell_existing(self, outcome: Outcome) -> None:
        existing = outcome.existing
        if existing is not None and not self.quiet:
            verdict = "passed" if existing.written else "there already"
            click.echo(self._line(outcome, existing.before, existing.after, verdict))

    def tell_report(self, path: Path, outcomes: Sequence[Brief]) -> None:
        """Print where the report is, once it is whole, below the files written or the sums."""
        if self.quiet:
            return
        err = self.alone and (self.to_stderr or any(map(_has_failed, outcomes)))
        click.echo(wrapped([INDENT * self.alone + report_line(path)], width(err=err)), err=err)

    def sum_up(self, outcomes: Sequence[Brief], passed_over: int) -> None:
        """Print what became of several models: which failed, which kept something, how many."""
        if self.quiet or self.alone:
            return
        click.echo(wrapped(self._sums(outcomes, passed_over), width(err=False)))

    def _sums(self, outcomes: Sequence[Brief], passed_over: int) -> Iterator[str]:
        failed = [o.source for o in outcomes if _has_failed(o)]
        if failed:
            yield f"failed: {_names(failed)}"
        keeping = [f"{one_line(called(o.source))} ({o.kept})" for o in outcomes if o.kept]
        if keeping:
            yield f"batch normalizations kept: {', '.join(keeping)}"
        training = [o.source for o in outcomes if o.in_training]
        if training:
            warning = f"warning: in training mode: {_names(training)}; bnfold explain training-mode"
            yield click.style(warning, fg="yellow")
        if passed_over:
            yield f"passed over: {counted(passed_over, 'folded model')} of an earlier run"
        yield summary(outcomes)

    def _line(self, outcome: Outcome, before: Counts, after: Counts, verdict: str) -> str:
        name = one_line(called(outcome.source))
        parts = [
            f"{name:<{self.column}}",
            f"BN {before.batch_normalizations:>3} → {after.batch_normalizations:<3}",
            f"nodes {before.nodes:>4} → {after.nodes:<4}",
            f"{verdict:<17}",
            f"{outcome.seconds:.1f} s",
        ]
        line, columns = "  ".join(parts), width(err=False)
        if columns is None or len(line) <= columns:
            return line
        numbers = ", ".join(" ".join(part.split()) for part in parts[1:])
        return wrapped([name, f"  {numbers}"], columns)


def column_of(models: Iterable[Path]) -> int:
    """Return how wide the column of these models' names is."""
    return min(max(len(one_line(called(path))) for path in models), _WIDEST)


class Accounts:
    """Takes outcomes as they come: prints each, reports it, and keeps the sum.

    Where nothing can be printed any more the work goes on; what went wrong is raised in the end.
    """

    def __init__(self, telling: Telling, report: ReportFile | None, progress: Progress) -> None:
        """Print with `telling` above `progress`, and add to `report`."""
        self.outcomes: list[Brief] = []
        self._telling, self._report, self._progress = telling, report, progress
        self._failure: OSError | BnfoldError | None = None

    def take(self, outcome: Outcome) -> None:
        """Take one outcome."""
        self.outcomes.append(Brief.of(outcome))
        with self._progress.aside():
            self._attempt(lambda: self._telling.tell(outcome))
        report = self._report
        if report is not None:
            self._attempt(lambda: report.add(outcome.entry))

    def close(self, passed_over: int = 0) -> None:
        """Sum up, and finish the report.

        Raises:
            OSError: Something could not be printed or written.
            RequestError: The report could not be written.
        """
        self._attempt(lambda: self._telling.sum_up(self.outcomes, passed_over))
        if self._report is not None:
            self._attempt(self._report.close)
        if self._report is not None and self._failure is None:
            self._attempt(partial(self._telling.tell_report, self._report.path, self.outcomes))
        if self._failure is not None:
            raise self._failure

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, BnfoldError) as error:
            self._failure = self._failure or error


def _has_failed(outcome: Brief) -> bool:
    return outcome.exit_code not in (Exit.DONE, Exit.FOLDABLE)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(one_line(called(path)) for path in paths)


def _verdict(report: Report) -> str:
    if not report.changes and any(record.in_training for record in report.kept):
        return "training mode"
    if report.checked_only:
        return "can be folded" if report.changes else "nothing to fold"
    if report.verification is not None:
        return str(report.verification.verdict)
    return "not verified" if report.changes else "nothing to fold"


def width(*, err: bool) -> int | None:
    """Return the width of the terminal that is written to, if it is one."""
    stream = sys.stderr if err else sys.stdout
    shown = stream is not None and stream.isatty()
    return shutil.get_terminal_size().columns if shown else None
