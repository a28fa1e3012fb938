"""A real Dask scheduler with real workers, one of which is killed while it works."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import (
    ENVIRONMENT,
    command,
    convolution,
    files,
    load,
    model_in,
    normalizations,
    run,
    write,
)

import bnfold

distributed = pytest.importorskip("distributed", reason="needs Dask: bnfold[dask]")
pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("default")]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Path]:
    """Start a scheduler and two workers of one thread; give the file that tells its address."""
    told = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    words += ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(told)]
    worker += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    started = []
    try:
        for command in (words, worker, worker):
            started.append(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env=ENVIRONMENT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            while not told.exists():
                assert started[0].poll() is None
                time.sleep(0.05)
        yield told
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, scheduler: Path) -> None:
    (tmp_path / "out").mkdir()
    pairs = [
        (model_in(tmp_path, "digits", f"{n}.onnx"), tmp_path / "out" / f"{n}.onnx")
        for n in range(8)
    ]
    how = bnfold.VerifyOptions(providers=("cpu",), time=0)
    when_told = {}
    with distributed.Client(scheduler_file=str(scheduler)) as client:
        client.wait_for_workers(2)
        processes = client.run(os.getpid)
        for outcome in bnfold.fold_many(pairs, executor=client.get_executor(), verify=how):
            assert outcome.ok, outcome.error
            assert outcome.written
            assert outcome.target is not None
            assert outcome.source not in when_told
            when_told[outcome.source] = outcome.target.stat()
            if len(when_told) == 1:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                os.kill(processes[busy[0]], signal.SIGKILL)
        assert len(client.scheduler_info()["workers"]) == 1
    assert len(when_told) == len(pairs)
    for source, target in pairs:
        assert os.path.samestat(target.stat(), when_told[source]), "nothing is written twice"
        assert target.stat().st_mtime_ns == when_told[source].st_mtime_ns
    assert files(tmp_path / "out") == {f"{n}.onnx" for n in range(8)}


def test_the_command_line_finds_a_scheduler(tmp_path: Path, scheduler: Path) -> None:
    with distributed.Client(scheduler_file=str(scheduler)) as client:
        address = client.scheduler.address
    (tmp_path / "out").mkdir()
    names = [write(convolution(), tmp_path / f"{name}.onnx").name for name in "abc"]
    (tmp_path / "bad.onnx").write_text("no model")
    words = (*names, "bad.onnx", "-d", "out", "--no-verify", "--dask", address)
    done = run(*words, "--report", "r.jsonl", cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("bnfold: bad.onnx: ")
    *_, summary, report = done.text.splitlines()
    assert summary == "4 models: 3 written, 1 failed"
    assert report.startswith("report written: r.jsonl (")
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 4
    assert files(tmp_path / "out") == set(names)


def interrupted(folder: Path, address: str) -> str:
    """Send Ctrl-C, as a terminal does, once a model is written; return what was told of it."""
    (folder / "temp").mkdir()
    names = {model_in(folder, as_name=f"{number}.onnx").name for number in range(12)}
    process = subprocess.Popen(
        command(*sorted(names), "-d", "out", "--provider", "cpu", "--dask", address),
        cwd=folder,
        env={**ENVIRONMENT, "TMPDIR": str(folder / "temp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not any(folder.glob("out/*.onnx")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    made = {path.name for path in folder.glob("out/*.onnx")}
    assert made < names
    for name in made:
        assert normalizations(load(folder / "out" / name)) == 0
    return str(err)


INTERRUPTED = r"bnfold: interrupted(; \d of 12 models were done)?\n"


def test_ctrl_c_ends_a_cluster_that_was_started_here(tmp_path: Path) -> None:
    assert re.fullmatch(INTERRUPTED, interrupted(tmp_path, "local"))
    # Dask and ONNX Runtime keep files of their own in the folder for temporary files.
    left = {path.name for path in (tmp_path / "temp").iterdir()}
    assert left <= {".ses", "dask-scratch-space"}


def test_ctrl_c_leaves_a_cluster_of_others_as_it_was(tmp_path: Path, scheduler: Path) -> None:
    with distributed.Client(scheduler_file=str(scheduler)) as client:
        assert re.fullmatch(INTERRUPTED, interrupted(tmp_path, client.scheduler.address))
        assert client.submit(int, "7").result(timeout=60) == 7
        assert len(client.scheduler_info()["workers"]) == 2


def test_a_cluster_is_started_here(tmp_path: Path) -> None:
    names = [write(convolution(), tmp_path / f"{name}.onnx").name for name in "abc"]
    done = run(*names, "--no-verify", "--dask", "local", "-j", "1", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.text.splitlines()[-1] == "3 models: 3 written"


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    write(convolution(), tmp_path / "a.onnx")
    done = run("a.onnx", "--dask", "nowhere", cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("bnfold: --dask nowhere: ")
    assert done.err.count("\n") == 1
