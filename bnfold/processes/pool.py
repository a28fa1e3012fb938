"""An executor: a few processes of our own that carry out what they are given.

`concurrent.futures` has one, but a process that dies takes with it whatever the others are at, and
Ctrl-C at the wrong moment leaves it waiting for itself: its workers share one queue and its lock.
Here each process has two pipes of its own and a thread that speaks with it. A process that dies
takes only its own task with it; another takes its place when there is more to do.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import field
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from bnfold.frozen import frozen, slotted
from bnfold.processes.child import environment
from bnfold.processes.exits import how_it_ended
from bnfold.processes.messages import read_message, write_message
from bnfold.processes.signals import interrupts_held_back

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_COMMAND = ("-P", "-m", "bnfold.processes.serving")
_PATIENCE = 10.0
"""Seconds that an interrupted process has for cleaning up."""


class ProcessDiedError(Exception):
    """The process that was at a task is gone; the text says how it ended."""


class Processes(Executor):
    """An executor of a few processes, each started when it is needed and used again.

    The functions that it is given must be importable by name in another process.
    """

    def __init__(self, jobs: int, step: Callable[[str], object] = lambda _: None) -> None:
        """Start nothing yet.

        Args:
            jobs: How many processes there are at most.
            step: Is called with each text that a task tells by `bnfold.processes.serving.tell`, in
                a thread of the pool.
        """
        self._max_workers = jobs  # as the executors of `concurrent.futures` call it
        self._step = step
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._hands: list[_Hand] = []
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._living = 0
        self._is_shut = False

    def submit(
        self, fn: Callable[_Arguments, _Result], /, *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> "Future[_Result]":  # fmt: skip
        """Let a process call a function; see `concurrent.futures.Executor`."""
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[_Result] = Future()
        call = _Call(future, pickle.dumps((fn, args, kwargs)))
        with interrupts_held_back():
            self._calls.put(call)
            if len(self._hands) < self._max_workers:
                hand = _Hand(self._calls, self._ended, self._step)
                threading.Thread(target=hand.work, daemon=True).start()
                self._hands.append(hand)
                self._living += 1
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as `concurrent.futures` has it
        """End the processes when they have done what they were given."""
        self._is_shut = True
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._hands:
            self._calls.put(None)
        if wait:
            self._wait(None)

    def interrupt(self) -> None:
        """End the processes now, but let them clean up what they are at.

        It takes ten seconds at most, and is not itself interrupted.
        """
        self._is_shut = True
        self._cancel_waiting()
        for hand in self._hands:
            hand.interrupt()
            self._calls.put(None)
        while self._living:
            try:
                self._wait(time.monotonic() + _PATIENCE)
            except (Empty, KeyboardInterrupt):
                for hand in self._hands:
                    hand.kill()

    def _cancel_waiting(self) -> None:
        with suppress(Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None:
                    call.future.cancel()

    def _wait(self, until: float | None) -> None:
        """Wait for the threads. `Thread.join` cannot be interrupted safely."""
        while self._living:
            self._ended.get(timeout=None if until is None else max(until - time.monotonic(), 0.01))
            self._living -= 1


@frozen(eq=False)
class _Call:
    """A call that a process is to carry out, pickled, and the future for its result."""

    future: "Future[Any]"
    message: bytes


@slotted
class _Hand:
    """A process, and the work of its thread: to give it one task after the other."""

    calls: "SimpleQueue[_Call | None]"
    ended: "SimpleQueue[None]"
    step: Callable[[str], object]
    process: "subprocess.Popen[bytes] | None" = None
    is_stopped: bool = False
    lock: Any = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Carry out calls until there are no more."""
        try:
            while (call := self.calls.get()) is not None:
                if call.future.set_running_or_notify_cancel():
                    self._carry_out(call)
        finally:
            self._dismiss()
            self.ended.put(None)

    def _carry_out(self, call: _Call) -> None:
        try:
            result = self._ask(call.message)
        except BaseException as error:  # noqa: BLE001 - it goes to who waits for the result
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def _ask(self, message: bytes) -> Any:  # noqa: ANN401 - whatever the function returns
        process = self._hire()
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101
        try:
            write_message(process.stdin, message)
            while (answer := read_message(process.stdout)) is not None:
                kind, value = pickle.loads(answer)  # noqa: S301 - of our own process
                if kind == "step":
                    self.step(value)
                elif kind == "raised":
                    raise value
                else:
                    return value
        except OSError:
            pass  # it died
        raise ProcessDiedError(how_it_ended(process.wait()))

    def _hire(self) -> "subprocess.Popen[bytes]":
        """Return the process; start it if it is not there yet, or has died."""
        with self.lock:
            if self.is_stopped:
                raise ProcessDiedError("was interrupted")
            if self.process is None or self.process.poll() is not None:
                self._dismiss()
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, *_COMMAND],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment(),
                )
            return self.process

    def interrupt(self) -> None:
        """Interrupt the process, and start no other."""
        with self.lock:
            self.is_stopped = True
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()

    def _dismiss(self) -> None:
        """Let the process end, and wait for that."""
        if self.process is None:
            return
        with suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
