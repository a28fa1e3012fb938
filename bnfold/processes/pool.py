"""Doing the same work on several things at a time, in a few processes.

`concurrent.futures` has a pool for this, but Ctrl-C at the wrong moment leaves it waiting for
itself: its workers share one queue and its lock. Here each worker has a pipe of its own and gets
its next task when it has told the result of the last one. A worker that dies takes only its own
task with it.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Generic, TypeVar

from bnfold.processes.exits import how_it_ended
from bnfold.processes.signals import interrupts_held_back

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONTEXT = get_context("spawn")
_PATIENCE = 10.0
"""Seconds that an interrupted worker has for cleaning up."""


def in_processes(
    do: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    died: Callable[[Task, str], Result],
    done: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Return `do(task)` for every task, in their order.

    Args:
        do: A function that another process can import.
        tasks: What to do it with.
        jobs: How many at a time.
        died: What to return for a task whose process died, and how it did.
        done: Is told each result as soon as it is there.
    """
    team = _Team(do, deque(range(len(tasks))), tasks, died, done)
    try:
        ensure_running()  # else the first process would start it, and let Ctrl-C through
        with interrupts_held_back():
            for _ in range(min(jobs, len(tasks))):
                team.hire()
        while team.workers:
            for connection in wait(list(team.workers)):
                if isinstance(connection, Connection):
                    team.hear(connection)
    finally:
        team.dismiss()
    return [team.results[number] for number in range(len(tasks))]


@dataclass(slots=True)
class _Worker:
    """A process, and the number of the task that it is at."""

    process: SpawnProcess
    task: int | None = None


@dataclass(slots=True)
class _Team(Generic[Task, Result]):
    do: Callable[[Task], Result]
    waiting: deque[int]
    tasks: Sequence[Task]
    died: Callable[[Task, str], Result]
    done: Callable[[Result], None]
    workers: dict[Connection, _Worker] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)

    def hire(self) -> None:
        """Start a process; it says so when it is ready."""
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_work, args=(theirs, self.do))
        process.start()
        theirs.close()
        self.workers[ours] = _Worker(process)

    def hear(self, connection: Connection) -> None:
        """Take the result that a worker sends, and send it the next task."""
        worker = self.workers[connection]
        try:
            result = connection.recv()
        except (EOFError, ConnectionError):
            self._bury(connection)
            return
        if worker.task is not None:
            self._finish(worker.task, result)
        worker.task = self.waiting.popleft() if self.waiting else None
        if worker.task is None:
            self._part(connection)
        else:
            with suppress(BrokenPipeError):  # it died, and is heard of next
                connection.send(self.tasks[worker.task])

    def _finish(self, task: int, result: Result) -> None:
        self.results[task] = result
        self.done(result)

    def _bury(self, connection: Connection) -> None:
        """Record that a dead worker's task failed, and start another worker if one is needed."""
        worker = self.workers[connection]
        self._part(connection)
        # One that dies before it began would only be followed by others that do.
        task = worker.task if worker.task is not None else next(iter(self.waiting), None)
        if task is None:
            return
        if task in self.waiting:
            self.waiting.remove(task)
        self._finish(task, self.died(self.tasks[task], how_it_ended(worker.process.exitcode or 0)))
        if len(self.waiting) > sum(other.task is None for other in self.workers.values()):
            with interrupts_held_back():
                self.hire()

    def _part(self, connection: Connection) -> None:
        """End a worker that has nothing to do, or is dead."""
        worker = self.workers.pop(connection)
        connection.close()
        worker.process.join()

    def dismiss(self) -> None:
        """End the workers that are still at work, but let them clean up."""
        for connection, worker in self.workers.items():
            connection.close()
            if worker.task is not None and worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGINT)
        for worker in self.workers.values():
            worker.process.join(_PATIENCE)
            worker.process.kill()
            worker.process.join()


def _work(connection: Connection, do: Callable[[Task], Result]) -> None:
    """Do one task after the other, in a process of its own, until there are no more."""
    with suppress(KeyboardInterrupt, EOFError, ConnectionError):
        signal.signal(signal.SIGINT, _interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            connection.send(None)
            while True:
                connection.send(do(connection.recv()))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt once; later signals must not interrupt the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
