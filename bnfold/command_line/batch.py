"""Several models, one after the other or so many at a time, each with its own outcome."""

import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from time import monotonic

from bnfold.api import fold_with
from bnfold.command_line.sources import PIPE, Request, Sources, find_targets, for_pipes
from bnfold.errors import BnfoldError
from bnfold.frozen import frozen, slotted
from bnfold.processes.cleanup import removed_if_killed
from bnfold.processes.fork import own_process
from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
from bnfold.reports.report import Entry, Exit, Failure, FileRecord, Report

Step = Callable[[str], None]
"""Is told what is being done."""


def _silent(_: str) -> None:
    """Tell nobody."""


@frozen
class Outcome:
    """What became of one model.

    Attributes:
        source: The model.
        exit_code: The outcome as an exit code.
        report: What was done; None where the model could not even be read.
        error: What went wrong, in one line.
        trace: Where it went wrong, if bnfold itself is to blame.
        seconds: How long it took.
    """

    source: Path
    exit_code: Exit
    report: Report | None = None
    error: str = ""
    trace: str = ""
    seconds: float = 0.0

    @property
    def entry(self) -> Entry:
        """What a report file says about it."""
        return self.report or Failure(str(self.source), self.error, self.exit_code)


def run_all(
    sources: Sources,
    request: Request,
    *,
    jobs: int = 1,
    step: Step = _silent,
    done: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Fold every source; one that fails does not keep the others from being folded.

    Args:
        sources: The models.
        request: What to do with each.
        jobs: How many at a time.
        step: Is told what is being done, where that is one thing at a time.
        done: Is told each outcome as soon as it is there.

    Returns:
        The outcomes in the order of the sources.

    Raises:
        RequestError: The request makes no sense for these sources.
    """
    request = for_pipes(sources, request)
    targets = find_targets(sources, request)
    work = [(path, target, request) for path, target in zip(sources.paths, targets, strict=True)]
    pace = _Pace(len(work))
    if jobs > 1 and len(work) > 1:
        from bnfold.processes.pool import in_processes

        def finished(outcome: Outcome) -> None:
            pace.done += 1
            done(outcome)
            step(f"{pace}")

        step(f"{pace}")
        return in_processes(_run_job, work, jobs, _died, finished)
    outcomes = []
    for source, target, each in work:
        before = f"{pace}: " if len(work) > 1 else ""
        outcomes.append(_run(source, target, each, partial(_prefixed, step, f"{before}{source}")))
        pace.done += 1
        done(outcomes[-1])
    return outcomes


def _prefixed(step: Step, before: str, what: str) -> None:
    """Say of which model something is told."""
    step(f"{before}: {what}")


@slotted
class _Pace:
    """How many of several models are done, and how long the others will take."""

    total: int
    done: int = 0
    began: float = field(default_factory=monotonic)

    def __str__(self) -> str:
        told = f"{self.done} of {self.total} models done"
        if not self.done:
            return told
        left = (monotonic() - self.began) / self.done * (self.total - self.done)
        return f"{told}, about {left:.0f} s left"


_Job = tuple[Path, Path | None, Request]
"""A source, its target, and what to do with it."""


def _run_job(job: _Job) -> Outcome:
    own_process()
    return _run(*job)


def _died(job: _Job, how: str) -> Outcome:
    source, _, _ = job
    return Outcome(source, Exit.BAD_REQUEST, None, f"{source}: the process that folded it {how}")


def _run(source: Path, target: Path | None, request: Request, step: Step = _silent) -> Outcome:
    """Fold; what comes or goes through a pipe lies in a temporary folder meanwhile."""
    if PIPE not in (source, target):
        return _outcome(source, target, request, step)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bnfold-") as folder,
            removed_if_killed(Path(folder)),
        ):
            return _run_in(Path(folder), source, target, request)
    except BrokenPipeError:
        raise
    except OSError as error:
        text = f"{error.filename or 'a pipe or its temporary copy'}: {error.strerror or error}"
        return Outcome(source, Exit.BAD_REQUEST, error=text)


def _run_in(folder: Path, source: Path, target: Path | None, request: Request) -> Outcome:
    real_source, real_target = source, target
    if source == PIPE:
        real_source = folder / "stdin.onnx"
        with real_source.open("wb") as file:
            copyfileobj(sys.stdin.buffer, file)
    if target == PIPE:
        real_target = folder / "stdout.onnx"
    outcome = _outcome(real_source, real_target, request)
    if target == PIPE and real_target is not None and real_target.exists():
        with real_target.open("rb") as file:
            copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    known = {str(real_source): source, str(real_target): target or source}
    said = {
        str(folder / "stdin.onnx"): "standard input",
        str(folder / "stdout.onnx"): "standard output",
    }
    return _renamed(outcome, known, said)


def _outcome(source: Path, target: Path | None, request: Request, step: Step = _silent) -> Outcome:
    """Fold one model, whatever may happen, and take the time."""
    began = monotonic()
    outcome = _attempt(source, target, request, step)
    return replace(outcome, seconds=monotonic() - began)


def _attempt(source: Path, target: Path | None, request: Request, step: Step) -> Outcome:
    try:
        report = fold_with(source, target, request.how, step)
    except (VerificationError, ProviderError, TooManyKeptError) as error:
        return Outcome(source, error.report.exit_code, error.report, str(error))
    except BnfoldError as error:
        return Outcome(source, Exit.BAD_REQUEST, error=str(error))
    except OSError as error:
        where = error.filename or source
        return Outcome(source, Exit.BAD_REQUEST, error=f"{where}: {error.strerror or error}")
    except MemoryError:
        return Outcome(source, Exit.BAD_REQUEST, error=f"{source}: there is not enough memory")
    except Exception as error:  # noqa: BLE001 - the other models must not suffer from it
        text = f"{source}: this is a bug in bnfold, please report it: {error!r} (-v shows where)"
        return Outcome(source, Exit.BAD_REQUEST, error=text, trace=traceback.format_exc())
    return Outcome(source, report.exit_code, report)


def _renamed(outcome: Outcome, known: Mapping[str, Path], said: Mapping[str, str]) -> Outcome:
    """Put what the user called the files in the place of what they are called here."""
    error = outcome.error
    for here, name in said.items():
        error = error.replace(here, name)
    report = outcome.report
    if report is not None:
        report = replace(
            report,
            source=_file(report.source, known),
            target=None if report.target is None else _file(report.target, known),
        )
    return replace(outcome, source=known[str(outcome.source)], report=report, error=error)


def _file(file: FileRecord, known: Mapping[str, Path]) -> FileRecord:
    return replace(file, path=str(known[file.path]))
