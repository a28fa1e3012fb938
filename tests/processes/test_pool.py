"""Several tasks, a few processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest
from commandline import ENVIRONMENT

from bnfold.processes.pool import ProcessDiedError, Processes
from bnfold.processes.serving import tell


def square(number: int) -> tuple[int, int]:
    """Return the square and who computed it; some numbers end the process."""
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -2:
        os._exit(7)
    if number == -3:
        raise ValueError("no square")
    tell(f"squaring {number}")
    return number * number, os.getpid()


def squares(numbers: Sequence[int], jobs: int) -> list[Future[tuple[int, int]]]:
    with Processes(jobs) as processes:
        return [processes.submit(square, number) for number in numbers]


def result(future: Future[tuple[int, int]]) -> int | str:
    try:
        return future.result()[0]
    except (ProcessDiedError, ValueError) as error:
        return str(error)


def test_each_future_has_its_own_result() -> None:
    results = [future.result() for future in squares(range(20), 2)]
    assert [result for result, _ in results] == [number**2 for number in range(20)]
    processes = {process for _, process in results}
    assert 1 <= len(processes) <= 2, "each is started once and used again"
    assert os.getpid() not in processes


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_process_that_dies_takes_only_its_task_with_it(jobs: int) -> None:
    results = [*map(result, squares([1, -1, 2, -2, -1, 3, -3, 4], jobs))]
    killed = "was killed (SIGKILL, as the system does when memory runs out)"
    assert results == [1, killed, 4, "ended with exit code 7", killed, 9, "no square", 16]


def test_there_may_be_nothing_to_do() -> None:
    assert squares([], 3) == []


def test_what_a_task_tells_arrives_before_its_result() -> None:
    told: list[str] = []
    with Processes(1, told.append) as processes:
        for number in (2, 3):
            processes.submit(square, number).result()
            assert told[-1] == f"squaring {number}"


def test_a_process_that_dies_while_it_waits_harms_no_task() -> None:
    with Processes(1) as processes:
        _, process = processes.submit(square, 2).result()
        os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{process}").exists() and "Z" not in state(process):
            time.sleep(0.01)
        assert processes.submit(square, 3).result()[0] == 9


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_interrupting_cancels_what_waits(tmp_path: Path) -> None:
    processes = Processes(1)
    busy = processes.submit(time.sleep, 600)
    waiting = processes.submit(square, 2)
    while not busy.running():
        time.sleep(0.01)
    processes.interrupt()
    with pytest.raises(ProcessDiedError):
        busy.result(0)
    with pytest.raises(CancelledError):
        waiting.result(0)
    with pytest.raises(RuntimeError, match="after shutdown"):
        processes.submit(square, 3)
    assert not list(tmp_path.iterdir())


SLOW = """
import time

def slow(path):
    try:
        path.write_text("here")
        time.sleep(600)
    finally:
        path.unlink()
"""
INTERRUPTED = """
import sys
from pathlib import Path
from queue import SimpleQueue
from bnfold.processes.pool import Processes
from slow import slow

processes = Processes(2)
try:
    for name in "abc":
        processes.submit(slow, Path(name))
    SimpleQueue().get()
except KeyboardInterrupt:
    processes.interrupt()
    sys.exit(130)
"""


@pytest.mark.parametrize("everybody", [True, False])
def test_an_interrupt_ends_all_and_lets_them_clean_up(
    tmp_path: Path,
    everybody: bool,  # noqa: FBT001 - a terminal's Ctrl-C reaches all processes, a signal one
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, "-B", str(script)],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert process.poll() is None
    if everybody:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", "slow.py"}


def test_processes_end_with_whoever_started_them(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen([sys.executable, "-B", str(script)], cwd=tmp_path, env=ENVIRONMENT)
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    workers = [int(child) for each in children for child in each.read_text().split()]
    assert len(workers) == 2
    process.kill()
    process.wait()
    while any(Path(f"/proc/{each}").exists() and state(each) != "Z" for each in workers):
        time.sleep(0.01)
