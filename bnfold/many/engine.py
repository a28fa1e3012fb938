"""Run tasks on an executor of any kind, and yield the outcome of each exactly once.

An executor is only asked what `concurrent.futures.Executor` promises: to submit a call. Futures
report through a queue; `concurrent.futures.wait` would hold locks when Ctrl-C comes.

When an executor breaks, as a pool does of which a process is killed, all that is in flight comes
back, and nobody knows which task is to blame. Where a new executor can be made, these tasks are
tried there one at a time: one that breaks it by itself is reported as failed, the others were
innocent. Where none can be made, all that is not finished is reported as lost.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Final

from bnfold.errors import first_sentence
from bnfold.frozen import slotted
from bnfold.many.outcome import Outcome
from bnfold.many.task import Task, fold_one
from bnfold.processes.pool import ProcessDiedError, Processes
from bnfold.processes.signals import interrupts_held_back

if TYPE_CHECKING:
    from queue import SimpleQueue

_MOST_IN_VAIN: Final = 8
"""So many executors, one after the other, may break without finishing anything."""

_UNKNOWN_WORKERS: Final = 64
"""How many tasks at a time an executor may take that does not say how many workers it has."""

Event = Future[Outcome] | str
"""A task that has ended, or what is being done."""


@slotted
class Engine:
    """Runs tasks on an executor, one call of `outcomes` long.

    Attributes:
        tasks: The tasks; each is fetched when there is room for it.
        executor: What runs them; None after it broke.
        renew: Makes another executor when one has broken; None where none can be made.
        owned: Whether executors are to be shut down in the end.
        events: The queue to which futures and steps are put.
        step: Called with each text that says what is being done.
        settled: Called with each task whose outcome has come.
        ahead: How many tasks may be submitted and not yet done; None for twice as many as there
            are workers.
    """

    tasks: Iterator[Task]
    executor: Executor | None
    renew: Callable[[], Executor] | None
    owned: bool
    events: "SimpleQueue[Event]"
    step: Callable[[str], None]
    settled: Callable[[Task], None]
    ahead: int | None
    in_flight: dict[Future[Outcome], Task] = field(default_factory=dict)
    suspects: deque[Task] = field(default_factory=deque)
    on_trial: Task | None = None
    broken: str = ""
    in_vain: int = 0

    def outcomes(self) -> Iterator[Outcome]:
        """Yield what became of each task, as each is done.

        Closing the generator cancels what is not done; see `cancel`.
        """
        try:
            while True:
                yield from self._fill()
                if not self.in_flight:
                    return
                yield from self._hear()
        finally:
            self.cancel()

    def _fill(self) -> Iterator[Outcome]:
        """Submit as many tasks as there is room for; yield those that nobody is left to do."""
        while len(self.in_flight) < self._room:
            if self.executor is None and (self.in_flight or not self._renewed()):
                if self.in_flight:
                    return
                yield from self._lost()
                return
            task = self.suspects[0] if self.suspects else next(self.tasks, None)
            if task is None:
                return
            if self._submit(task):
                if self.suspects:
                    self.on_trial = self.suspects.popleft()
            elif not self.suspects or self.suspects[0] is not task:
                self.suspects.append(task)

    @property
    def _room(self) -> int:
        if self.suspects or self.on_trial is not None:
            return 1
        if self.ahead is not None:
            return self.ahead
        return 2 * int(getattr(self.executor, "_max_workers", _UNKNOWN_WORKERS))

    def _submit(self, task: Task) -> bool:
        """Submit a task; return whether the executor takes any."""
        assert self.executor is not None  # noqa: S101 - `_fill` has seen to it
        try:
            with interrupts_held_back():
                future = self.executor.submit(fold_one, task)
                self.in_flight[future] = task
                future.add_done_callback(self.events.put)
        except Exception as error:  # noqa: BLE001 - executors raise what they like
            self._break(error)
            return False
        return True

    def _hear(self) -> Iterator[Outcome]:
        """Wait for the next event; yield an outcome if it is one."""
        event = self.events.get()
        if isinstance(event, str):
            self.step(event)
            return
        task = self.in_flight.pop(event, None)
        if task is None:
            return
        self.on_trial = None
        try:
            outcome = event.result()
        except (BrokenExecutor, CancelledError) as error:
            yield from self._came_back(task, error)
        except ProcessDiedError as error:
            yield task.lost(f"the process that folded it {error}")
        except Exception as error:  # noqa: BLE001 - executors raise what they like
            yield task.lost(f"the process that folded it failed: {first_sentence(error)}")
        else:
            self.in_vain = 0
            self.settled(task)
            yield outcome

    def _came_back(self, task: Task, error: BaseException) -> Iterator[Outcome]:
        """Take back a task of an executor that has broken."""
        alone = self.executor is not None and not self.in_flight
        self._break(error)
        if alone and self.renew is not None:
            yield task.lost(f"the process that folded it died: {self.broken}")
        else:
            self.suspects.append(task)

    def _break(self, error: BaseException) -> None:
        """Note that the executor does no more."""
        self.broken = first_sentence(error) if isinstance(error, Exception) else "it was cancelled"
        executor, self.executor = self.executor, None
        if executor is not None and self.owned:
            with suppress(Exception):
                executor.shutdown(wait=False)

    def _renewed(self) -> bool:
        """Make another executor, if that may help."""
        if self.renew is None or self.in_vain >= _MOST_IN_VAIN:
            return False
        self.in_vain += 1
        try:
            self.executor = self.renew()
        except Exception as error:  # noqa: BLE001 - whatever the caller's function raises
            self._break(error)
            return False
        return True

    def _lost(self) -> Iterator[Outcome]:
        """Yield an outcome for all that is left: nothing can run it."""
        while self.suspects:
            yield self.suspects.popleft().lost(f"it was not finished: {self.broken}")
        for task in self.tasks:
            yield task.lost(f"it was not begun: {self.broken}")

    def cancel(self) -> None:
        """Cancel what is not done, and wait for what cannot be cancelled any more.

        A process of our own is interrupted. An executor's task that runs is waited for, if the
        executor says that it runs, so that nothing is written any more when this returns.
        """
        for future in self.in_flight:
            future.cancel()
        if isinstance(self.executor, Processes) and self.owned:
            if self.in_flight:
                self.executor.interrupt()
            else:
                self.executor.shutdown()
            return
        running = {future for future in self.in_flight if not future.cancelled()}
        while running:
            event = self.events.get()
            if not isinstance(event, str):
                running.discard(event)
        if self.executor is not None and self.owned:
            self.executor.shutdown(wait=True)
