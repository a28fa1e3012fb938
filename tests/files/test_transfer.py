"""Copying between files: every way gives the same bytes."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.errors import ModelError
from bnfold.files import transfer
from bnfold.files.pieces import BLOCK, Piece, Slice
from bnfold.files.stores import FileStore, MemoryStore, Store, open_regular
from bnfold.files.transfer import write_pieces

DATA = os.urandom(3 * BLOCK + 7)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A file of a little more than three blocks."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return FileStore(path, open_regular(path))


def written(pieces: list[Piece], path: Path) -> bytes:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    write_pieces(pieces, descriptor)
    os.close(descriptor)
    return path.read_bytes()


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
        place = draws.draw(st.sampled_from(["bytes", "memory", "file"]))
        stores: dict[str, Store] = {"memory": MemoryStore(DATA), "file": store}
        wanted = DATA[low:high]
        pieces.append(wanted if place == "bytes" else Slice(stores[place], low, high - low))
        expected += wanted
    assert written(pieces, folder / "target") == expected
    store.close()
