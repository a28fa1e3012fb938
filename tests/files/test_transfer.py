"""Copying between files: every way gives the same bytes."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from bnfold.errors import ModelError
from bnfold.files import transfer
from bnfold.files.pieces import BLOCK, Made, Piece, Slice
from bnfold.files.stores import FileStore, MemoryStore, open_regular
from bnfold.files.transfer import write_pieces

DATA = os.urandom(3 * BLOCK + 7)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A file of a little more than three blocks."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return FileStore(path, open_regular(path))


def written(pieces: list[Piece], path: Path, *, threads: bool = False) -> bytes:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_pieces(pieces, descriptor, threads=threads)
    finally:
        os.close(descriptor)
    return path.read_bytes()


@dataclass(frozen=True)
class Bytes:
    """A recipe that yields given bytes in two blocks."""

    data: bytes
    error: Exception | None = None
    data_type: int = TensorProto.UINT8

    @property
    def dims(self) -> tuple[int, ...]:
        return (len(self.data),)

    def blocks(self) -> Iterator[memoryview]:
        half = len(self.data) // 2
        yield memoryview(self.data[:half])
        if self.error is not None:
            raise self.error
        yield memoryview(self.data[half:])


def only_this_thread_goes_on() -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not any("_assist" in thread.name for thread in threading.enumerate()):
            return True
    return False


def made(data: bytes, error: Exception | None = None) -> Made:
    return Made(Bytes(data, error), len(data))


def unsupported(*_: object, **__: object) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def nothing(*_: object, **__: object) -> int:
    return 0


@pytest.mark.parametrize("broken", [unsupported, nothing, None])
@pytest.mark.parametrize("calls", [[], ["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_a_system_without_a_call_copies_otherwise(
    tmp_path: Path,
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[str],
    broken: object,
) -> None:
    for name in calls:
        if broken is None:
            monkeypatch.delattr(os, name, raising=False)
        else:
            monkeypatch.setattr(os, name, broken, raising=False)
    monkeypatch.setattr(transfer, "STRIDE", BLOCK // 2)
    pieces: list[Piece] = [
        b"head",
        Slice(store, 5, len(DATA) - 9),
        b"",
        Slice(MemoryStore(DATA), 1, 3),
    ]
    assert written(pieces, tmp_path / "target") == b"head" + DATA[5:-4] + DATA[1:4]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
@pytest.mark.parametrize("threads", [False, True])
def test_what_is_written_begins_to_go_to_the_disk(
    tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, *, threads: bool
) -> None:
    advised: list[tuple[int, int]] = []

    def note(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        assert os.fstat(descriptor).st_size >= offset + length
        advised.append((offset, offset + length))
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # which must not matter

    monkeypatch.setattr(os, "posix_fadvise", note)
    monkeypatch.setattr(transfer, "STRIDE", BLOCK // 2)
    monkeypatch.setattr(transfer, "WORTH_A_THREAD", BLOCK)
    monkeypatch.setattr(transfer, "STRETCH", BLOCK)
    pieces: list[Piece] = [b"head", Slice(store, 0, len(DATA)), made(DATA), b"tail"]
    assert written(pieces, tmp_path / "target", threads=threads) == b"head" + DATA + DATA + b"tail"
    reached = bytearray(2 * len(DATA) + 8)
    for begin, end in advised:
        reached[begin:end] = b"+" * (end - begin)
    assert reached.count(b"+") > len(reached) - BLOCK


def test_a_system_without_positional_reads_seeks(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    assert bytes(store.read(3, BLOCK)) == DATA[3 : BLOCK + 3]


def test_a_failure_that_says_something_is_passed_on(
    tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        written([Slice(store, 0, 10)], tmp_path / "target")


def test_a_source_that_became_shorter_is_noticed(tmp_path: Path, store: FileStore) -> None:
    os.truncate(store.path, BLOCK)
    with pytest.raises(ModelError, match="changed while it was being read"):
        written([Slice(store, 0, 2 * BLOCK)], tmp_path / "target")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), ModelError("no")])
def test_a_failure_in_a_thread_ends_all_of_them(tmp_path: Path, error: Exception) -> None:
    pieces: list[Piece] = [made(DATA) for _ in range(9)]
    with pytest.raises(type(error), match="no"):
        written([*pieces, made(DATA, error), *pieces], tmp_path / "target", threads=True)
    assert only_this_thread_goes_on()


def test_a_failure_elsewhere_ends_the_threads(tmp_path: Path, store: FileStore) -> None:
    os.truncate(store.path, BLOCK)
    pieces: list[Piece] = [made(DATA), Slice(store, 0, 2 * BLOCK), made(DATA)]
    with pytest.raises(ModelError, match="changed while it was being read"):
        written(pieces, tmp_path / "target", threads=True)
    assert only_this_thread_goes_on()


def test_without_other_threads_this_one_makes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert written([made(DATA), made(DATA)], tmp_path / "target", threads=True) == 2 * DATA


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_transfer import DATA, made, written

def interrupt():
    time.sleep(float(sys.argv[3]))
    os.kill(os.getpid(), signal.SIGINT)

pieces, target = [made(DATA)] * 2_000, Path(sys.argv[2])
target.touch()
try:
    threading.Thread(target=interrupt, daemon=True).start()
    written(pieces, target, threads=True)
except KeyboardInterrupt:
    size = target.stat().st_size
    time.sleep(0.1)
    sys.exit(130 if target.stat().st_size == size else "it goes on")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.01, 0.03, 0.1])
def test_an_interrupt_ends_the_threads(tmp_path: Path, after: float) -> None:
    places = map(str, (Path(__file__).parent, tmp_path / "target", after))
    command = [sys.executable, "-c", INTERRUPTED, *places]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (130, "")


@given(draws=st.data())
def test_any_row_of_pieces_is_written_in_order(
    draws: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    source = folder / "source"
    source.write_bytes(DATA[:100])
    store = FileStore(source, open_regular(source))
    start = st.integers(0, 100)
    pieces: list[Piece] = []
    expected = b""
    for low, high in draws.draw(st.lists(st.tuples(start, start).map(sorted))):
        wanted = DATA[low:high]
        kinds: list[Piece] = [
            wanted,
            made(wanted),
            Slice(MemoryStore(DATA), low, high - low),
            Slice(store, low, high - low),
        ]
        pieces.append(draws.draw(st.sampled_from(kinds)))
        expected += wanted
    threads = draws.draw(st.booleans())
    with patch.object(transfer, "WORTH_A_THREAD", draws.draw(st.integers(1, 60))):
        assert written(pieces, folder / "target", threads=threads) == expected
    store.close()
