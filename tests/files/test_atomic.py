"""Files that appear whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bnfold.errors import RequestError
from bnfold.files.atomic import (
    Staged,
    os_errors_as_requests,
    real_target,
    unwinding_when_terminated,
)
from bnfold.files.leftovers import tidy

anonymous = pytest.mark.skipif(
    not hasattr(os, "O_TMPFILE"), reason="this system has no files without a name"
)


@pytest.fixture(params=["anonymous", "hidden"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write a file that is not there yet."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    return str(request.param)


def write(target: Path, data: bytes) -> None:
    with os_errors_as_requests(target), Staged.create(real_target(target)) as staged:
        os.write(staged.descriptor, data)
        staged.sync()
        staged.publish()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_it_is_published(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "m"
    target.write_bytes(b"old")
    with Staged.create(target) as staged:
        os.write(staged.descriptor, b"new")
        assert len(names(tmp_path)) == (1 if kind == "anonymous" else 2)
        staged.sync()
        assert target.read_bytes() == b"old"
        staged.publish()
        assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["m"]


@pytest.mark.usefixtures("kind")
def test_nothing_is_left_of_a_file_that_is_not_published(tmp_path: Path) -> None:
    with Staged.create(tmp_path / "m") as staged:
        os.write(staged.descriptor, b"half")
    assert names(tmp_path) == []


@pytest.mark.usefixtures("kind")
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    for name in ("m" * 255, "ä" * 127):
        write(tmp_path / name, b"new")
    write(tmp_path / ("m" * 255), b"newer")
    assert names(tmp_path) == ["m" * 255, "ä" * 127]
    first, second = (tmp_path / ("m" * 254 + end) for end in "12")
    with Staged.create(first) as living:
        living.take_hidden_name()
        write(second, b"new")  # whose hidden names are others
        assert living.hidden.exists()


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o750])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "m"
    target.touch()
    target.chmod(mode)
    write(target, b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.usefixtures("kind")
def test_a_new_file_has_the_permissions_that_any_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "m", b"new")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.usefixtures("kind")
def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/m")
    write(tmp_path / "link", b"one")
    write(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "m").read_bytes() == b"two"
    assert names(tmp_path / "real") == ["m"]


def test_what_cannot_be_a_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere/m")
    os.mkfifo(tmp_path / "pipe")
    reading, writing = os.pipe()
    (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{writing}")  # as /dev/stdout is in a pipe
    for target, said in {
        tmp_path / "none" / "m": "none does not exist",
        tmp_path / "dangling": "nowhere does not exist",
        tmp_path: "this is a folder",
        tmp_path / "circle": "symbolic links",
        tmp_path / "pipe": "not a regular file",
        Path("/dev/null"): "not a regular file",
        tmp_path / "stdout": "not a regular file",
    }.items():
        with pytest.raises(RequestError, match=said):
            real_target(target)
    os.close(reading)
    os.close(writing)


def test_a_protected_file_or_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m"
    target.write_bytes(b"old")
    with monkeypatch.context() as patch:  # root may write anything, so it is asked to pretend
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(RequestError, match="write-protected"):
            write(target, b"new")

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(RequestError, match="Read-only file system"):
            write(target, b"new")
    assert target.read_bytes() == b"old"


def test_what_the_dead_have_left_is_removed_and_what_the_living_are_at_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    for target in ("m", "n", "m.onnx", "m\nm"):
        (tmp_path / f".{target}.12345678.bnfold-partial").write_bytes(b"half")
    others = [".m.backup", ".m.1234567.bnfold-partial", "m.12345678.bnfold-partial"]
    for other in others:
        (tmp_path / other).touch()
    (tmp_path / ".d.12345678.bnfold-partial").mkdir()
    (tmp_path / ".l.12345678.bnfold-partial").symlink_to("m.onnx")
    with Staged.create(tmp_path / "m") as living:
        tidy(tmp_path)
        kept = {living.hidden.name, *others}
        kept |= {f".{name}.12345678.bnfold-partial" for name in "dl"}
        assert set(names(tmp_path)) == kept
        write(tmp_path / "m", b"another's")
        living.sync()
        living.publish()
    assert set(names(tmp_path)) == kept - {living.hidden.name} | {"m"}


def test_termination_unwinds_in_the_main_thread_only_where_nobody_decided_otherwise() -> None:
    with pytest.raises(SystemExit, match="143"), unwinding_when_terminated():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with unwinding_when_terminated():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIGTERM]

    def elsewhere() -> None:
        with unwinding_when_terminated():
            seen.append(0)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.SIGTERM, 0]


TERMINATED = """
import os, sys, time
from pathlib import Path
del os.O_TMPFILE
from bnfold.files.atomic import Staged, unwinding_when_terminated
with unwinding_when_terminated(), Staged.create(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


@anonymous
def test_a_terminated_process_removes_even_a_hidden_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TERMINATED, str(tmp_path / "m")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(names(tmp_path)) == 1
        process.terminate()
        assert process.wait(10) == 143
    assert names(tmp_path) == []
