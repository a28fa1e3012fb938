"""What stores are asked besides bytes, and the order in which a model comes into one."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from commandline import MODELS, convolution, model_in, run_here, write

import bnfold
from bnfold.files import copy_model, objects, open_model
from bnfold.files.objects import Held, held, is_folder, listed


def test_what_a_file_is_known_by() -> None:
    told = {"size": 3, "ETag": '"abc"', "LastModified": "today"}
    assert Held.of(told) == Held(3, 'ETag "abc"'), "the same bytes written again are the same file"
    assert Held.of({"size": 3, "mtime": 7.5}) == Held(3, "mtime 7.5")
    assert Held.of({"size": 3, "ETag": None}) == Held(3, "")


def test_files_and_folders(memory: Any) -> None:
    for name in ("a.onnx", "deep/b.onnx", "deep/deeper/c.onnx", "deep/notes.txt", "x/[1].onnx"):
        memory.pipe_file(f"/m/zoo/{name}", b"x")
    assert is_folder("memory://m/zoo") is True
    assert is_folder("memory://m/zoo/a.onnx") is False
    assert is_folder("memory://m/gone") is None
    found = {
        "*.onnx": ["a.onnx"],
        "**/*.onnx": ["a.onnx", "deep/b.onnx", "deep/deeper/c.onnx", "x/[1].onnx"],
        "d*/*": ["deep/b.onnx", "deep/notes.txt"],
        "d*/**/?.onnx": ["deep/b.onnx", "deep/deeper/c.onnx"],
        "**/[bc].onnx": ["deep/b.onnx", "deep/deeper/c.onnx"],
        "x/[[]1].onnx": ["x/[1].onnx"],
    }
    for pattern, names in found.items():
        assert listed("memory://m/zoo", pattern) == names, pattern
    with pytest.raises(bnfold.RequestError, match="this is a folder"):
        held("memory://m/zoo")


@pytest.fixture
def with_data(tmp_path: Path) -> Path:
    """Write a model with a data file."""
    (tmp_path / "there").mkdir()
    source = tmp_path / "there" / "net.onnx"
    with open_model(MODELS / "digits.onnx") as opened:
        copy_model(opened, source, external_data=True)
    return source


def fold(source: Path, url: str) -> bnfold.Report:
    return bnfold.fold_file(source, url, verify=None)


@pytest.mark.slow
def test_data_come_before_the_model(
    memory: Any, with_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = put_noted(monkeypatch)
    fold(with_data, "memory://m/net.onnx")
    assert came == ["memory://m/net.onnx.data", "memory://m/net.onnx"]
    assert bnfold.verify(with_data, "memory://m/net.onnx")
    assert {name for name in memory.store if name.startswith("/m")} == {
        "/m/net.onnx", "/m/net.onnx.data",
    }  # fmt: skip


def put_noted(monkeypatch: pytest.MonkeyPatch, fails: str = "") -> list[str]:
    """Note what is put into stores; the one that ends so fails."""
    came: list[str] = []
    put = objects._put

    def noted(file: Path, url: str) -> None:
        if fails and url.endswith(fails):
            raise bnfold.RequestError(f"{url}: the store is full")
        put(file, url)
        came.append(url)

    monkeypatch.setattr(objects, "_put", noted)
    return came


@pytest.mark.slow
def test_data_that_a_reader_may_be_at_stay(memory: Any, with_data: Path, tmp_path: Path) -> None:
    """Whoever has read the old model finds the old data, until the version after the next."""
    names = []
    for version in range(3):
        before = dict(memory.store)
        report = fold(with_data, "memory://m/net.onnx")
        assert report.target is not None
        (data,) = report.target.data_files
        names.append(data.location)
        if version:
            assert report.left_files == (names[-2],)
            assert memory.store[f"/m/{names[-2]}"] is before[f"/m/{names[-2]}"]
        memory.get_file("/m/net.onnx", str(tmp_path / "net.onnx"))
        memory.get_file(f"/m/{data.location}", str(tmp_path / data.location))
        assert bnfold.verify(with_data, tmp_path / "net.onnx")
    assert names == ["net.onnx.data", "net.onnx.1.data", "net.onnx.data"]
    report = fold(model_in(tmp_path), "memory://m/net.onnx")
    assert report.left_files == ("net.onnx.data",), "it needs none"


def put_reader(store: Any, tmp_path: Path, model: str, data: str) -> None:
    """Put a model into a store that has its numbers in a data file of another name."""
    (tmp_path / "reader").mkdir()
    source = tmp_path / "reader" / "net.onnx"
    with open_model(MODELS / "digits.onnx") as opened:
        copy_model(opened, source, external_data=True)
    proto = onnx.load(source, load_external_data=False)  # noqa: TID251
    where = str(Path(data).relative_to(Path(model).parent))
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = where
    store.pipe_file(model, proto.SerializeToString())
    store.put_file(f"{source}.data", data)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["/m/other.onnx", "/other.onnx"])
def test_data_that_another_model_reads_are_not_replaced(
    memory: Any, with_data: Path, tmp_path: Path, reader: str
) -> None:
    put_reader(memory, tmp_path, f"/store{reader}", "/store/m/net.onnx.data")
    before = dict(memory.store)
    name = reader.removeprefix("/m/") if "/m/" in reader else f"memory://store{reader}"
    with pytest.raises(bnfold.RequestError) as refused:
        fold(with_data, "memory://store/m/net.onnx")
    data = "memory://store/m/net.onnx.data"
    assert str(refused.value) == f"{data}: {name} has its data in this file"
    assert memory.store == before
    memory.rm_file(f"/store{reader}")
    fold(with_data, "memory://store/m/net.onnx")
    assert set(memory.store) == {"/store/m/net.onnx", "/store/m/net.onnx.data"}
    assert bnfold.verify(with_data, "memory://store/m/net.onnx")


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_an_object_store_keeps_the_data_of_another_model(
    s3: Any, with_data: Path, tmp_path: Path
) -> None:
    put_reader(s3, tmp_path, "models/above.onnx", "models/of/others/net.onnx.data")
    numbers = s3.cat_file("models/of/others/net.onnx.data")
    words = (with_data, "-o", "s3://models/of/others/net.onnx", "-q", "--no-verify")
    done = run_here(*words, cwd=tmp_path)
    assert done.code == 2, done
    assert "net.onnx.data: s3://models/above.onnx has its data in this file" in done.err
    s3.invalidate_cache()
    assert s3.find("models/of") == ["models/of/others/net.onnx.data"]
    assert s3.cat_file("models/of/others/net.onnx.data") == numbers
    s3.rm_file("models/above.onnx")
    assert run_here(*words, cwd=tmp_path).code == 0
    assert bnfold.verify(with_data, "s3://models/of/others/net.onnx")


def test_a_model_without_data_replaces_none(memory: Any, tmp_path: Path) -> None:
    put_reader(memory, tmp_path, "/m/other.onnx", "/m/net.onnx.data")
    before = dict(memory.store)
    assert fold(model_in(tmp_path), "memory://m/net.onnx").left_files == ()
    assert memory.store == {**before, "/m/net.onnx": memory.store["/m/net.onnx"]}


@pytest.mark.slow
@pytest.mark.parametrize("why", ["too many", "refused"])
def test_data_whose_readers_are_not_known_are_not_replaced(
    memory: Any, with_data: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("no")

    for name in ("net.onnx.data", "net.onnx.1.data"):
        memory.pipe_file(f"/m/{name}", b"whose?")
    for number in range(33):
        memory.pipe_file(f"/m/{number}.onnx", b"")
    if why == "refused":
        monkeypatch.setattr(memory, "find", refused)
    before = dict(memory.store)
    report = fold(with_data, "memory://m/net.onnx")
    assert report.target is not None
    assert [data.location for data in report.target.data_files] == ["net.onnx.2.data"]
    assert {name: memory.store[name] for name in before} == before
    assert bnfold.verify(with_data, "memory://m/net.onnx")


@pytest.mark.parametrize("fails", [".data", ".onnx"])
@pytest.mark.parametrize("standing", [False, True])
def test_what_fails_leaves_the_store_as_it_was(
    memory: Any,
    with_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    standing: bool,  # noqa: FBT001
) -> None:
    if standing:
        fold(with_data, "memory://m/net.onnx")
    before = dict(memory.store)
    put_noted(monkeypatch, fails)
    with pytest.raises(bnfold.RequestError, match=r"the store is full$"):
        fold(with_data, "memory://m/net.onnx")
    assert memory.store == before


@pytest.mark.slow
def test_a_model_that_the_store_took_keeps_its_data(
    memory: Any, with_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may take a file whose sender never hears of it."""
    put = objects._put

    def deaf(file: Path, url: str) -> None:
        put(file, url)
        if url.endswith(".onnx"):
            raise bnfold.RequestError(f"{url}: the line is dead")

    monkeypatch.setattr(objects, "_put", deaf)
    with pytest.raises(
        bnfold.RequestError, match=r"the line is dead; this may be left there: .*a$"
    ):
        fold(with_data, "memory://m/net.onnx")
    assert bnfold.verify(with_data, "memory://m/net.onnx")
    assert "/m/net.onnx.data" in memory.store


def test_what_cannot_be_removed_is_told(
    memory: Any, with_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_noted(monkeypatch, ".onnx")

    def refused(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(memory, "rm_file", refused)
    with pytest.raises(bnfold.RequestError) as told:
        fold(with_data, "memory://m/net.onnx")
    assert str(told.value).endswith("this may be left there: memory://m/net.onnx.data")


def test_a_file_that_does_not_appear_at_once_is_renamed(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs fsspec: bnfold[remote]")
    source = write(convolution(), tmp_path / "a.onnx")
    (tmp_path / "out").mkdir()
    fold(source, f"file://{tmp_path}/out/a.onnx")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.onnx"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.onnx").mkdir()
    with pytest.raises(bnfold.RequestError):
        fold(source, f"file://{tmp_path}/full/a.onnx")
    assert [path.name for path in (tmp_path / "full").rglob("*")] == ["a.onnx"]
