"""Fold several models, one after the other or some at a time, each with its own outcome."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from time import monotonic
from typing import TYPE_CHECKING

from bnfold.command_line.pipes import STDIN, spoken, spooled
from bnfold.command_line.sources import (
    PIPE,
    Request,
    Sources,
    find_targets,
    for_pipes,
    make_folders,
)
from bnfold.errors import RequestError
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import slotted
from bnfold.many.outcome import Outcome
from bnfold.many.task import Task, fold_one
from bnfold.reports.report import Exit

if TYPE_CHECKING:
    from bnfold.many.fold_many import Hands

Step = Callable[[str], None]
"""Called with a text that says what is being done."""


def _silent(_: str) -> None:
    """Do nothing with it."""


def run_all(
    sources: Sources,
    request: Request,
    *,
    hands: "Hands" = 1,
    skip_existing: bool = False,
    step: Step = _silent,
) -> Iterator[Outcome]:
    """Fold every source; one that fails does not keep the others from being folded.

    Several are folded in other processes, even if one after the other: a model that ends the
    process that folds it does not end this one.

    Args:
        sources: The models.
        request: What to do with each.
        hands: Who folds several models: so many processes, or an executor.
        skip_existing: Make nothing again that is there already.
        step: Called with a text that says what is being done, where that is one thing at a time.

    Returns:
        The outcomes as they come.

    Raises:
        RequestError: The request makes no sense for these sources.
    """
    request = for_pipes(sources, request)
    targets = find_targets(sources, request)
    make_folders(targets, request)
    work = [
        Task(one.path, target, request.how, skip_existing=skip_existing, refused=one.refused)
        for one, target in zip(sources.models, targets, strict=True)
    ]
    if len(work) == 1 and (isinstance(hands, int) or PIPE in (work[0].source, work[0].target)):
        (task,) = work
        return iter([_run(task, lambda what: step(f"{spoken(task.source)}: {what}"))])
    return _several(work, hands, skip_existing=skip_existing, step=step)


def _several(
    work: Sequence[Task], hands: "Hands", *, skip_existing: bool, step: Step
) -> Iterator[Outcome]:
    from bnfold.many.fold_many import fold_tasks

    pace = _Pace(len(work))
    step(f"{pace}")
    paced = partial(_paced, step, pace)
    with closing(fold_tasks(work, hands, skip_existing=skip_existing, step=paced)) as outcomes:
        for outcome in outcomes:
            pace.done += 1
            yield outcome
            step(f"{pace}")


def _paced(step: Step, pace: "_Pace", what: str) -> None:
    """Say of what is being done with one model how many are done."""
    step(f"{pace}; {what}")


@slotted
class _Pace:
    """How many of several models are done, and how long the others will take."""

    total: int
    done: int = 0
    began: float = field(default_factory=monotonic)

    def __str__(self) -> str:
        done = f"{self.done} of {self.total} models done"
        if self.done in (0, self.total):
            return done
        left = (monotonic() - self.began) / self.done * (self.total - self.done)
        return f"{done}, about {left:.0f} s left"


def _run(task: Task, step: Step = _silent) -> Outcome:
    """Fold; what comes or goes through a pipe lies in a temporary folder meanwhile."""
    if PIPE not in (task.source, task.target):
        return fold_one(task, step)
    try:
        with scratch_folder() as folder:
            return _run_in(folder, task)
    except BrokenPipeError:
        raise
    except RequestError as error:
        return Outcome(task.source, Exit.BAD_REQUEST, error=str(error))
    except OSError as error:
        text = f"{error.filename or 'a pipe or its temporary copy'}: {error.strerror or error}"
        return Outcome(task.source, Exit.BAD_REQUEST, error=text)


def _run_in(folder: Path, task: Task) -> Outcome:
    source, target = task.source, task.target
    real_source, real_target = source, target
    if source == PIPE:
        real_source = spooled(folder)
    if target == PIPE:
        real_target = folder / "stdout.onnx"
    outcome = fold_one(replace(task, source=real_source, target=real_target))
    if target == PIPE and real_target is not None and real_target.exists():
        with real_target.open("rb") as file:
            copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    known = {real_source: source, real_target or real_source: target or source}
    said = {
        str(folder / "stdin.onnx"): STDIN,
        str(folder / "stdout.onnx"): "standard output",
    }
    return replace(outcome.renamed(known, said), target=target)
