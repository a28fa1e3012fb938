"""Several tasks, a few processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ENVIRONMENT

from bnfold.processes.pool import in_processes


def square(number: int) -> tuple[int, int]:
    """Return the square and who computed it; some numbers end the process."""
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -2:
        os._exit(7)
    return number * number, os.getpid()


def died(number: int, how: str) -> tuple[int, int]:
    assert number < 0
    assert how
    return (-9 if "SIGKILL" in how else -7), 0


def test_results_come_in_the_order_of_the_tasks() -> None:
    results = in_processes(square, range(20), 2, died)
    assert [result for result, _ in results] == [number**2 for number in range(20)]
    processes = {process for _, process in results}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_process_that_dies_takes_only_its_task_with_it(jobs: int) -> None:
    results = in_processes(square, [1, -1, 2, -2, -1, 3], jobs, died)
    assert [result for result, _ in results] == [1, -9, 4, -7, -9, 9]


def test_there_may_be_nothing_to_do() -> None:
    assert in_processes(square, [], 3, died) == []


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from bnfold.processes.pool import in_processes

def slow(path):
    try:
        path.write_text("here")
        time.sleep(600)
    finally:
        path.unlink()

if __name__ == "__main__":
    try:
        in_processes(slow, [Path("a"), Path("b"), Path("c")], 2, lambda *_: None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("everybody", [True, False])
def test_an_interrupt_ends_all_and_lets_them_clean_up(
    tmp_path: Path,
    everybody: bool,  # noqa: FBT001 - a terminal's Ctrl-C reaches all processes, a signal one
) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=ENVIRONMENT,
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
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]
