"""Several models, one after the other or so many at a time, each with its own outcome."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfileobj

from bnfold.api import FileOptions, default_target, fold_with
from bnfold.errors import BnfoldError, RequestError
from bnfold.frozen import frozen
from bnfold.processes.cleanup import removed_if_killed
from bnfold.processes.fork import own_process
from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
from bnfold.reports.report import Entry, Exit, Failure, FileRecord, Report

PIPE = Path("-")
"""Stands for standard input or output."""


@frozen
class Request:
    """What to do with every model.

    Attributes:
        output: Where the folded model goes, of one.
        directory: The folder that the folded models go to.
        how: What `bnfold.fold_file` takes besides.
    """

    output: Path | None
    directory: Path | None
    how: FileOptions

    def writes_to_stdout(self, sources: Sequence[Path]) -> bool:
        """Whether the folded model goes to standard output."""
        piped = PIPE in sources if self.output is None else self.output == PIPE
        return piped and not self.how.check


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
    """

    source: Path
    exit_code: Exit
    report: Report | None = None
    error: str = ""
    trace: str = ""

    @property
    def entry(self) -> Entry:
        """What a report file says about it."""
        return self.report or Failure(str(self.source), self.error, self.exit_code)


def run_all(
    sources: Sequence[Path],
    request: Request,
    *,
    jobs: int = 1,
    step: Step = _silent,
) -> list[Outcome]:
    """Fold every source; one that fails does not keep the others from being folded.

    Raises:
        RequestError: The request makes no sense for these sources.
    """
    request = _for_pipes(sources, request)
    targets = _targets(sources, request)
    work = [(source, target, request) for source, target in zip(sources, targets, strict=True)]
    if jobs == 1 or len(work) == 1:
        outcomes = []
        for source, target, each in work:
            step(f"{source}")
            outcomes.append(_run(source, target, each, step))
        return outcomes
    from bnfold.processes.pool import in_processes

    step(f"{len(work)} models")
    return in_processes(_run_job, work, jobs, _died)


def files_of(sources: Sequence[Path], request: Request) -> list[Path]:
    """Return the model files that will be read and written.

    Raises:
        RequestError: The request makes no sense for these sources.
    """
    request = _for_pipes(sources, request)
    files = [*sources]
    for source, target in zip(sources, _targets(sources, request), strict=True):
        if target is not None:
            files.append(target)
        elif not source.is_dir():  # which is refused when its turn comes
            files.append(default_target(source))
    return [file for file in files if file != PIPE]


_Job = tuple[Path, Path | None, Request]
"""A source, its target, and what to do with it."""


def _run_job(job: _Job) -> Outcome:
    own_process()
    return _run(*job)


def _died(job: _Job, how: str) -> Outcome:
    source, _, _ = job
    return Outcome(source, Exit.BAD_REQUEST, None, f"{source}: the process that folded it {how}")


def _for_pipes(sources: Sequence[Path], request: Request) -> Request:
    """A model that comes from a pipe goes to a pipe, unless it is told otherwise."""
    if PIPE in sources:
        if sys.stdin is None:
            raise RequestError("standard input is closed")
        if len(sources) > 1:
            raise RequestError("standard input is one model; it cannot be one of several")
        if request.how.in_place or request.directory is not None:
            raise RequestError(
                "a model from standard input goes to --output or standard output,"
                " not to --directory or --in-place"
            )
        request = request if request.output is not None else replace(request, output=PIPE)
    if request.output != PIPE or request.how.check:
        return request
    if sys.stdout is None:
        raise RequestError("standard output is closed")
    if sys.stdout.isatty():
        raise RequestError("a model is not written to a terminal: redirect standard output")
    if request.how.external_data or request.how.share_data:
        raise RequestError("a model on standard output has no data file beside it")
    return replace(request, how=replace(request.how, external_data=False))


def _targets(sources: Sequence[Path], request: Request) -> list[Path | None]:
    """Return where each folded model goes; None where its source tells."""
    targets = _chosen_targets(sources, request)
    if not request.how.check:
        _require_apart(sources, targets, request)
    return targets


def _require_apart(
    sources: Sequence[Path], targets: Sequence[Path | None], request: Request
) -> None:
    """Refuse to write over what another model of the same run is read from or written to."""
    read = {os.path.realpath(source) for source in sources}
    written: dict[str, Path] = {}
    for source, chosen in zip(sources, targets, strict=True):
        if PIPE in (source, chosen) or source.is_dir():
            continue
        target = chosen or (source if request.how.in_place else default_target(source))
        real = os.path.realpath(target)
        if real in written:
            raise RequestError(f"{target}: both {written[real]} and {source} would be written here")
        written[real] = source
        if real in read and real != os.path.realpath(source):
            raise RequestError(
                f"{target}: the folded {source} would overwrite this, which is to be folded, too"
            )


def _chosen_targets(sources: Sequence[Path], request: Request) -> list[Path | None]:
    chosen = [request.output is not None, request.directory is not None, request.how.in_place]
    if sum(chosen) > 1:
        raise RequestError("--output, --directory and --in-place exclude each other")
    if request.output is not None:
        return _one_target(sources, request)
    if len(set(sources)) < len(sources):
        raise RequestError("a model is named twice")
    if request.directory is None:
        return [None] * len(sources)
    if not request.directory.is_dir() and not request.how.check:
        why = "this is not a folder" if request.directory.exists() else "this folder does not exist"
        raise RequestError(f"{request.directory}: {why}")
    targets = [request.directory / source.name for source in sources]
    if len(set(targets)) < len(targets):
        raise RequestError("two models of the same name cannot go into one folder")
    return list(targets)


def _one_target(sources: Sequence[Path], request: Request) -> list[Path | None]:
    if len(sources) > 1:
        raise RequestError("--output takes one model; use --directory for several")
    return [request.output]


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
    """Fold one model, whatever may happen."""
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
