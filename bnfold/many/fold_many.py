"""Folding many models, in any executor."""

import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Unpack

from bnfold.errors import BnfoldError
from bnfold.files.remote import called
from bnfold.frozen import slotted
from bnfold.many.engine import Engine, Event
from bnfold.many.outcome import Outcome
from bnfold.many.task import Task
from bnfold.options import FileKeywords, FileOptions, file_options
from bnfold.paths import as_path, default_target
from bnfold.processes.pool import Processes
from bnfold.processes.processors import processors

Pair = tuple[str | Path, str | Path | None]
"""A model, and where the folded one goes; None for `net.folded.onnx` beside `net.onnx`."""

Hands = Executor | Callable[[], Executor] | int
"""Who does the work: an executor, a function that makes one, or so many processes of our own."""


def fold_many(
    pairs: Iterable[Pair],
    *,
    executor: Executor | Callable[[], Executor] | None = None,
    jobs: int | None = None,
    skip_existing: bool = False,
    ahead: int | None = None,
    **options: Unpack[FileKeywords],
) -> Generator[Outcome, None, None]:
    """Fold many models, and yield what became of each as soon as it is done.

    Each pair has one outcome, whatever happens: a model that is bad, or that ends the process that
    folds it, does not keep the others from being folded. Closing the generator cancels the rest.

    Args:
        pairs: The models and their targets. They are fetched as they are needed.
        executor: Where to fold: any `concurrent.futures.Executor`, of processes, of threads, of a
            cluster (`dask.distributed.Client.get_executor()`), of MPI. It is left open. A
            function that makes one is called again when an executor breaks; what it made is shut
            down in the end. None for processes of bnfold's own.
        jobs: How many processes of its own there are; None for one on each processor.
        skip_existing: Make nothing again that is there, whole, and made from this very source with
            these options. What is made is written down for that, in `.bnfold-made` beside it.
        ahead: How many models may be submitted and not yet done; None for twice as many as there
            are workers, or 64 where the executor does not say how many it has.
        options: As `bnfold.fold_file` takes them. Nothing is raised for a single model.

    Raises:
        RequestError: The options make no sense.
        ValueError: `jobs` or `ahead` is below 1.
        TypeError: An option is of another type; or, when it is fetched, something is no pair.
    """
    if any(number is not None and number < 1 for number in (jobs, ahead)):
        raise ValueError("jobs and ahead are 1 or more")
    how = file_options(**options)
    hands = executor if executor is not None else jobs or processors()
    tasks = _Asked(how).tasks(pairs)
    return fold_tasks(tasks, hands, skip_existing=skip_existing, ahead=ahead)


def fold_tasks(
    tasks: Iterable[Task],
    hands: Hands,
    *,
    skip_existing: bool = False,
    ahead: int | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Generator[Outcome, None, None]:
    """Have tasks done; see `fold_many`. `step` is called with what is being done, if known."""
    run = uuid.uuid4().hex
    events: SimpleQueue[Event] = SimpleQueue()
    asked = (replace(task, run=run, skip_existing=skip_existing) for task in tasks)
    if isinstance(hands, int):
        processes = Processes(hands, events.put if hands == 1 else lambda _: None)
        engine = Engine(asked, processes, None, True, events, step, _nothing, ahead)  # noqa: FBT003
    else:
        # An executor may do twice what it has no result of: what is written down is not redone.
        noted = (replace(task, records=True).from_anywhere() for task in asked)
        given, renew = (hands, None) if isinstance(hands, Executor) else (None, hands)
        settled = _nothing if skip_existing else _forget
        engine = Engine(noted, given, renew, renew is not None, events, step, settled, ahead)
    yield from engine.outcomes()


def _nothing(_: Task) -> None:
    """Let what is written down stay."""


def _forget(task: Task) -> None:
    """Remove what was written down, for its outcome has come."""
    if task.making is not None:
        task.making.forget()


def _two(pair: object) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != len(("source", "target")):
        raise TypeError(f"pairs are (source, target), where the target may be None, not {pair!r}")
    return pair[0], pair[1]


@slotted
class _Asked:
    """The pairs that were asked for, of which no two may touch the same file."""

    how: FileOptions
    read: set[str] = field(default_factory=set)
    written: dict[str, Path] = field(default_factory=dict)

    def tasks(self, pairs: Iterable[Pair]) -> Iterator[Task]:
        """Yield a task for each pair, those that must not be done as refused ones."""
        for source, target in map(_two, pairs):
            try:
                path = as_path(source)
                aim = None if target is None else as_path(target)
                yield Task(path, aim, self.how, refused=self._refusal(path, aim))
            except BnfoldError as error:
                yield Task(Path(source), None, self.how, refused=str(error))

    def _refusal(self, source: Path, target: Path | None) -> str:
        """Return why a pair must not be done; note what it reads and writes."""
        if self.how.check:
            return ""
        aim = target or (source if self.how.in_place else default_target(source))
        reading, writing = os.path.realpath(source), os.path.realpath(aim)
        if writing in self.written:
            both = f"both {called(self.written[writing])} and {called(source)}"
            return f"{called(aim)}: {both} would be written here"
        if reading != writing and (writing in self.read or reading in self.written):
            return f"{called(aim)}: a model of the same call is read and written in one place"
        self.written[writing] = source
        self.read.add(reading)
        return ""
