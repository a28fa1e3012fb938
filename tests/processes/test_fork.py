"""Work in a copy of the process harms nobody."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import ENVIRONMENT

from bnfold.processes import fork
from bnfold.processes.fork import Forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
ROOM = 1 << 26
LIMIT = 60


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process pass for bnfold's own."""
    monkeypatch.setattr(fork, "_own_process", True)
    before = children()
    yield
    assert children() == before  # nobody is left


def children() -> set[str]:
    """The processes that this one has started, waited for or not."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_what_is_made_comes_back() -> None:
    there = os.urandom(1 << 20)
    assert Forked(lambda: there + str(os.getpid()).encode(), ROOM, LIMIT).result() not in (
        None,
        there,
    )
    assert Forked(lambda: there, ROOM, LIMIT).result() == there
    assert Forked(lambda: b"", ROOM, LIMIT).result() == b""


def _fail() -> bytes:
    raise ValueError


def _abort() -> bytes:
    os.abort()


def _end() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b"never"


def _sleep() -> bytes:
    time.sleep(60)
    return b""


def _hungry() -> bytes:
    return bytes(8 * ROOM)


def _turn_for_ever() -> bytes:
    while True:
        pass


def test_what_never_ends_is_ended() -> None:
    assert Forked(_turn_for_ever, ROOM, seconds=1).result() is None


@pytest.mark.parametrize("work", [_fail, _abort, _end, _hungry])
def test_what_fails_gives_nothing(
    work: Callable[[], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    assert Forked(work, ROOM, LIMIT).result() is None
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_ends_the_copy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fork, "open", interrupted, raising=False)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Forked(_sleep, ROOM, LIMIT).result()
    assert time.monotonic() - begin < 30


def test_it_goes_on_meanwhile() -> None:
    reading, writing = os.pipe()
    with Forked(lambda: str(os.write(writing, b"here")).encode(), ROOM, LIMIT) as forked:
        assert os.read(reading, 4) == b"here"
        assert forked.result() == b"4"
    os.close(reading)
    os.close(writing)


def test_what_nobody_asks_for_is_ended() -> None:
    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError), Forked(_sleep, ROOM, LIMIT):
        raise ZeroDivisionError
    assert time.monotonic() - begin < 30


_KILLED = """
import time
from bnfold.processes.fork import Forked, own_process

def work():
    print("begun", flush=True)
    time.sleep(600)

own_process()
with Forked(work, 1 << 26, 60):
    time.sleep(600)
"""


def test_a_copy_ends_with_the_process_that_it_is_a_copy_of() -> None:
    words = [sys.executable, "-c", _KILLED]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.kill()
        assert process.communicate(timeout=120)[0] == b""


def test_as_a_library_it_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_own_process", False)
    assert (
        Forked(lambda: str(os.getpid()).encode(), ROOM, LIMIT).result() == str(os.getpid()).encode()
    )
    assert Forked(_fail, ROOM, LIMIT).result() is None
