"""The child process dies in every way it can."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import run

from bnfold.errors import RequestError
from bnfold.processes import worker
from bnfold.processes.child import environment
from bnfold.processes.worker import ChildDiedError, Worker, start_ahead

CHILD = """
import json, os, signal, sys, time
tell = lambda message: print(json.dumps(message), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    tell({"doing": "testing"})
    match command["command"]:
        case "echo": tell({"said": command["what"]})
        case "refuse": tell({"refused": "not that"})
        case "die": os.kill(os.getpid(), getattr(signal, command["signal"]))
        case "exit": print("last words", file=sys.stderr); sys.exit(3)
        case "sleep": time.sleep(600)
        case "noise": print("not JSON", flush=True); tell({"said": "after noise"})
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(worker, "_COMMAND", ("-c", CHILD))
    process = Worker("anything", timeout=1.0)
    yield process
    process.close()


def test_answers_come_in_order(child: Worker) -> None:
    child.send("echo", what=1)
    child.send("echo", what="zwei")
    assert child.answer() == {"said": 1}
    assert child.answer() == {"said": "zwei"}


def test_a_child_that_was_started_ahead_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_COMMAND", ("-c", CHILD.replace('"said":', "os.getpid():")))
    start_ahead("anything")
    start_ahead("anything")
    pids: list[int] = []
    for _ in range(2):
        process = Worker("anything", timeout=10.0)
        process.send("echo", what=1)
        pids += map(int, process.answer())
        process.close()
    assert len(set(pids)) == 2
    assert not worker._ahead


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_that_nobody_took_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    done = run("no.onnx", cwd=tmp_path)
    assert done.code == 2
    until = time.monotonic() + 60  # it may just be starting
    while any(_target(path) == tmp_path for path in Path("/proc").glob("[0-9]*/cwd")):
        assert time.monotonic() < until
        time.sleep(0.05)


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:  # the process has ended, or is somebody else's
        return None


def test_a_refusal_is_the_user_s(child: Worker) -> None:
    child.send("refuse")
    with pytest.raises(RequestError, match="not that"):
        child.answer()


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_crash_is_told_by_its_signal(child: Worker, name: str) -> None:
    child.send("die", signal=name)
    with pytest.raises(ChildDiedError, match=rf"crashed \({name}\) while testing"):
        child.answer()


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_being_killed_is_told_as_lack_of_memory(child: Worker) -> None:
    child.send("die", signal="SIGKILL")
    with pytest.raises(ChildDiedError, match=r"SIGKILL.*memory runs out\) while testing"):
        child.answer()


def test_the_last_words_are_kept(child: Worker) -> None:
    child.send("exit")
    with pytest.raises(ChildDiedError, match="exit code 3 while testing; its last words: last w"):
        child.answer()


def test_a_hang_ends(child: Worker) -> None:
    child.send("sleep")
    with pytest.raises(ChildDiedError, match="did not finish testing within 1 s"):
        child.answer()
    with pytest.raises(ChildDiedError, match="did not finish"):
        child.answer()


def test_what_native_code_prints_does_no_harm(child: Worker) -> None:
    child.send("noise")
    assert child.answer() == {"said": "after noise"}


def test_closing_ends_a_busy_child(child: Worker) -> None:
    child.send("sleep")
    child.close()
    assert child._process.returncode == -signal.SIGKILL or sys.platform == "win32"


_BUSY = """
import time
from bnfold.processes.child import become_child
print("ready", file=become_child(), flush=True)
time.sleep(60)
"""
_PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {_BUSY!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that ends the child")
def test_a_busy_child_does_not_outlive_a_parent_that_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().decode().strip(), "stat")
        parent.kill()
    end = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that ends the child")
@pytest.mark.parametrize(("parent", "ends"), [("ours", False), ("1", True), ("", False)])
def test_only_a_child_whose_parent_is_gone_ends_at_once(parent: str, *, ends: bool) -> None:
    """In a container bnfold itself may be process 1, which elsewhere takes in orphans."""
    code = "from bnfold.processes.child import become_child as b; b().write('ok')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() if parent == "ours" else {**environment(), "BNFOLD_PARENT": parent},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == ((1, "") if ends else (0, "ok"))
