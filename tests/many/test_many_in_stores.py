"""Many models in stores: which are meant, and which are there already."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from commandline import MODELS, convolution, run_here, write

import bnfold
from bnfold.command_line.sources import find_sources
from bnfold.files import remote

QUICK: Any = {"verify": None, "skip_existing": True}


@pytest.fixture
def hands() -> Iterator[ThreadPoolExecutor]:
    """Give threads: the store in memory is in this process only."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note of which files something is fetched."""
    names: list[str] = []
    fetch = remote.Remote._range

    def noted(self: remote.Remote, begin: int, end: int) -> bytes:
        names.append(self.url)
        return fetch(self, begin, end)

    monkeypatch.setattr(remote.Remote, "_range", noted)
    return names


def put(store: Any, model: Path, *places: str) -> None:
    for place in places:
        store.put_file(str(model), place)


def test_what_is_in_a_store_is_not_made_again(
    memory: Any, tmp_path: Path, hands: ThreadPoolExecutor, fetched: list[str]
) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    put(memory, source, "/m/a.onnx", "/m/b.onnx", "/m/c.onnx")
    pairs = [(f"memory://m/{name}.onnx", f"memory://m/out/{name}.onnx") for name in "abc"]

    def written() -> dict[str, bool]:
        fetched.clear()
        outcomes = [*bnfold.fold_many(pairs, executor=hands, **QUICK)]
        assert all(outcome.ok for outcome in outcomes)
        return {outcome.source.stem: outcome.written for outcome in outcomes}

    assert written() == {"a": True, "b": True, "c": True}
    assert written() == {"a": False, "b": False, "c": False}
    assert not fetched, "the store's own marks were enough"
    write(convolution(channels=5), source)
    put(memory, source, "/m/a.onnx")  # another source
    memory.pipe_file("/m/out/b.onnx", b"another target")
    assert written() == {"a": True, "b": True, "c": False}
    memory.rm_file("/m/out/c.onnx")
    memory.pipe_file("/m/out/.bnfold-made/a.onnx.json", b"no record")
    assert written() == {"a": True, "b": False, "c": True}


def test_a_store_and_this_machine(memory: Any, tmp_path: Path, hands: ThreadPoolExecutor) -> None:
    here = write(convolution(), tmp_path / "net.onnx")
    put(memory, here, "/m/net.onnx")
    pairs: list[tuple[str | Path, str | Path]] = [
        (here, "memory://m/out/a.onnx"), ("memory://m/net.onnx", tmp_path / "b.onnx"),
    ]  # fmt: skip
    for expected in (True, False):
        outcomes = [*bnfold.fold_many(pairs, executor=hands, **QUICK)]
        assert [outcome.written for outcome in outcomes] == [expected, expected]
    told = outcomes[0].entry.to_dict()
    assert (told["existing"], told["target"]["path"]) == (True, "memory://m/out/a.onnx")
    assert told["source"]["path"] == str(here)


def test_data_files_in_a_store_count_too(
    memory: Any, tmp_path: Path, hands: ThreadPoolExecutor
) -> None:
    bnfold.fold_file(MODELS / "digits.onnx", tmp_path / "a.onnx", external_data=True, verify=None)
    put(memory, tmp_path / "a.onnx", "/m/a.onnx")
    put(memory, tmp_path / "a.onnx.data", "/m/a.onnx.data")
    pairs = [("memory://m/a.onnx", "memory://m/out/a.onnx")]

    def written() -> bool:
        (outcome,) = bnfold.fold_many(pairs, executor=hands, **QUICK)
        assert outcome.ok, outcome.error
        return outcome.written

    assert [written(), written()] == [True, False]
    put(memory, tmp_path / "a.onnx.data", "/m/a.onnx.data")  # written anew
    assert [written(), written()] == [True, False]
    report = bnfold.fold_file(*pairs[0], verify=None)
    assert report.target is not None
    (data,) = report.target.data_files
    memory.rm_file(f"/m/out/{data.location}")
    assert [written(), written()] == [True, False]


def test_what_a_store_says_nothing_of_is_made_again(
    memory: Any, tmp_path: Path, hands: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, write(convolution(), tmp_path / "net.onnx"), "/m/a.onnx")
    info = type(memory).info

    def mute(self: Any, name: str, **_: object) -> dict[str, Any]:
        return {k: v for k, v in info(self, name).items() if k != "created"}

    monkeypatch.setattr(type(memory), "info", mute)
    for _ in range(2):
        pairs = [("memory://m/a.onnx", "memory://m/b.onnx")]
        (outcome,) = bnfold.fold_many(pairs, executor=hands, **QUICK)
        assert outcome.written


def test_no_record_is_left_where_none_was_asked_for(
    memory: Any, tmp_path: Path, hands: ThreadPoolExecutor
) -> None:
    put(memory, write(convolution(), tmp_path / "net.onnx"), "/m/a.onnx")
    pairs = [("memory://m/a.onnx", "memory://m/b.onnx"), ("memory://m/gone.onnx", None)]
    done, gone = bnfold.fold_many(pairs, executor=hands, verify=None)
    assert done.written
    assert gone.error == "memory://m/gone.onnx: No such file or directory"
    assert gone.entry.to_dict()["source"]["path"] == "memory://m/gone.onnx"
    assert sorted(memory.store) == ["/m/a.onnx", "/m/b.onnx"]


def test_folders_and_patterns_in_a_store(memory: Any, tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    names = (
        "a.onnx", "a.folded.onnx", "deep/b.onnx", "out/a.onnx", ".hidden/c.onnx", "../../up.onnx",
        "notes.txt",
    )  # fmt: skip
    put(memory, source, *(f"/m/zoo/{name}" for name in names))
    memory.store["/m/zoo/../../up.onnx"] = memory.store["/m/zoo/a.onnx"]  # a key is any text

    def found(place: str, directory: str | None = None) -> tuple[list[str], int]:
        chosen = None if directory is None else Path(directory)
        sources = find_sources([Path(place)], chosen)
        return [str(one.place) for one in sources.models], sources.passed_over

    everything = ["a.onnx", "deep/b.onnx", "out/a.onnx"]
    assert found("memory://m/zoo/") == (everything, 1)
    assert found("memory://m/zoo", "memory://m/zoo/out") == (everything[:2], 2)
    assert found("memory://m/zoo/**/?.onnx") == (everything, 0)
    assert found("memory://m/zoo/*/?.onnx", "memory://m/zoo/out") == (
        ["deep/b.onnx", "out/a.onnx"],
        0,
    )
    assert found("memory://m/zoo/a.onnx") == (["a.onnx"], 0)
    assert found("memory://m/zoo/gone.onnx") == (["gone.onnx"], 0), "to be told when it is opened"
    for place in ("memory://m/zoo/*.pb", "memory://m/none/*", "memory://*/a.onnx"):
        with pytest.raises(bnfold.RequestError, match=r"memory://"):
            find_sources([Path(place)])


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_a_zoo_in_an_object_store(tmp_path: Path, s3: Any, fetched: list[str]) -> None:
    for name in ("zoo/a.onnx", "zoo/deep/b.onnx"):
        s3.put_file(str(MODELS / "digits.onnx"), f"models/{name}")
    words = ("s3://models/zoo/", "-d", "s3://models/out", "--no-verify", "--skip-existing")
    first = run_here(*words, "-j", "2", cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    assert first.text.splitlines()[-1] == "2 models: 2 written"
    assert bnfold.verify(MODELS / "digits.onnx", "s3://models/out/deep/b.onnx")
    fetched.clear()
    again = run_here(*words, "--report", "r.json", cwd=tmp_path)
    *_, summary, report = again.text.splitlines()
    assert summary == "2 models: 2 there already"
    assert report.startswith("report written: r.json (")
    one = run_here("s3://models/zoo/*.onnx", *words[1:], cwd=tmp_path)
    assert "there already" in one.text
    assert not fetched, "the one that this process looked at was not fetched"
    s3.put_file(str(MODELS / "digits.onnx"), "models/zoo/a.onnx")
    same = run_here("s3://models/zoo/a.onnx", *words[1:], cwd=tmp_path)
    assert "there already" in same.text, "the same bytes are the same model to the store"
