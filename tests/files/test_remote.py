"""Models in object stores: a real server on this machine, and a connection that breaks."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commandline import MODELS, convolution, run_here, write
from onnx import numpy_helper
from stores import Cutting, bucket

import bnfold
from bnfold.files import copy_model, open_model, remote
from bnfold.files.remote import url_of


def test_what_is_a_url() -> None:
    assert url_of(Path("s3://b/a.onnx")) == "s3://b/a.onnx"
    assert url_of(Path("file:///b/a.onnx")) == "file:///b/a.onnx"
    for path in ("a.onnx", "/b/a.onnx", "-", "C:/a.onnx", "C:\\a.onnx", "./s3:/a"):
        assert url_of(Path(path)) in (None, "s3://a"), path


def test_a_path_that_is_there_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    source = write(convolution(), tmp_path / "s3:" / "b" / "a.onnx")
    assert url_of(source.relative_to(tmp_path)) is None


@pytest.mark.slow
def test_from_a_store_into_it(memory: Any) -> None:
    memory.put_file(str(MODELS / "digits.onnx"), "/m/a.onnx")
    report = bnfold.fold_file("memory://m/a.onnx", verify=bnfold.VerifyOptions(time=0))
    assert report.target is not None
    assert (report.source.path, report.target.path) == (
        "memory://m/a.onnx", "memory://m/a.folded.onnx",
    )  # fmt: skip
    assert bnfold.verify("memory://m/a.onnx", "memory://m/a.folded.onnx")
    assert sorted(memory.ls("/m", detail=False)) == ["/m/a.folded.onnx", "/m/a.onnx"]


@pytest.mark.slow
def test_out_of_a_store_and_in_place(memory: Any, tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "a.onnx")
    bnfold.fold_file(source, "memory://m/b.onnx", verify=None)
    bnfold.fold_file("memory://m/b.onnx", tmp_path / "b.onnx", verify=None)
    assert bnfold.verify(source, tmp_path / "b.onnx")
    memory.put_file(str(source), "/m/a.onnx")
    report = bnfold.fold_file("memory://m/a.onnx", in_place=True, verify=None)
    assert report.written
    assert bnfold.verify(source, "memory://m/a.onnx")


def test_a_check_in_a_store(memory: Any) -> None:
    memory.put_file(str(MODELS / "digits.onnx"), "/m/a.onnx")
    assert len(bnfold.fold_file("memory://m/a.onnx", check=True).folds) == 8
    assert memory.ls("/m", detail=False) == ["/m/a.onnx"]


def test_what_is_refused_is_one_line(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/m/bad.onnx", b"no model")
    told = {
        "memory://m/gone.onnx": "memory://m/gone.onnx: No such file or directory",
        "memory://m/bad.onnx": "memory://m/bad.onnx: this is not an ONNX model",
        "nosuch://m/a.onnx": "nosuch://m/a.onnx: Protocol not known",
    }
    for url, text in told.items():
        with pytest.raises(bnfold.BnfoldError) as refused:
            bnfold.fold_file(url, tmp_path / "out.onnx")
        assert str(refused.value).startswith(text)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve a folder by a web server that knows no ranges; give its URL."""
    pytest.importorskip("aiohttp", reason="needs aiohttp: bnfold[remote]")
    folder = tmp_path / "web"
    folder.mkdir()
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_web_server_without_ranges(tmp_path: Path, web: str) -> None:
    source = large(tmp_path / "web", megabytes=2)
    bnfold.fold_file(f"{web}/large.onnx", tmp_path / "out.onnx", verify=None)
    assert bnfold.verify(source, tmp_path / "out.onnx", options=bnfold.VerifyOptions(time=0))
    assert bnfold.fold_file(f"{web}/large.onnx", check=True).folds
    with pytest.raises(bnfold.RequestError, match="a web server is only read from"):
        bnfold.fold_file(f"{web}/large.onnx", verify=None)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(bnfold.RequestError, match=r"pip install 'bnfold\[remote\]'"):
        bnfold.fold_file("s3://m/a.onnx")


# A real object store


def large(folder: Path, *, megabytes: int) -> Path:
    """Write a small network with a large weight that no fold touches."""
    model = convolution()
    weight = np.zeros((megabytes, 1 << 18), np.float32)
    weight[:, 0] = 1
    model.graph.initializer.append(numpy_helper.from_array(weight, "large"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["large"], ["z"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, weight.shape)
    )
    return write(model, folder / "large.onnx")


@pytest.mark.full
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", ["inline", "external"])
def test_an_object_store(tmp_path: Path, s3: Any, form: str) -> None:
    source = MODELS / "digits.onnx"
    if form == "external":
        (tmp_path / "there").mkdir()
        source = tmp_path / "there" / "net.onnx"
        with open_model(MODELS / "digits.onnx") as opened:
            copy_model(opened, source, external_data=True)
        s3.put_file(f"{source}.data", "models/net.onnx.data")
    s3.put_file(str(source), "models/net.onnx")
    done = run_here(
        "s3://models/net.onnx", "-o", "s3://models/out.onnx", "--time", "0", "--provider", "cpu",
        "--report", "r.json", cwd=tmp_path,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.text.startswith("s3://models/net.onnx → s3://models/out.onnx\n")
    assert bnfold.verify(source, "s3://models/out.onnx")
    s3.invalidate_cache()
    assert s3.exists("models/out.onnx.data") == (form == "external")
    checked = run_here("s3://models/net.onnx", "s3://models/gone.onnx", "--check", cwd=tmp_path)
    assert checked.code == 2
    assert checked.err == "bnfold: s3://models/gone.onnx: No such file or directory\n"


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_a_check_reads_only_what_it_needs(
    tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = large(tmp_path, megabytes=120)
    s3.put_file(str(source), "models/large.onnx")
    read = counted(monkeypatch)
    report = bnfold.fold_file("s3://models/large.onnx", check=True, digest=False)
    assert report.folds
    assert sum(read) < 2 << 20, "of 120 MB"
    read.clear()
    bnfold.fold_file("s3://models/large.onnx", "s3://models/new.onnx", verify=None, digest=False)
    assert sum(read) == source.stat().st_size, "each byte once"
    assert s3.info("models/new.onnx")["size"] > 120 << 20


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes each request gives."""
    read: list[int] = []
    fetch = remote.Remote._range

    def noted(self: remote.Remote, begin: int, end: int) -> bytes:
        data = fetch(self, begin, end)
        read.append(len(data))
        return data

    monkeypatch.setattr(remote.Remote, "_range", noted)
    return read


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_a_connection_that_breaks_in_the_middle(
    tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = large(tmp_path, megabytes=24)
    bucket(server, monkeypatch).put_file(str(source), "models/cut.onnx")
    proxy = Cutting(server, cuts=3, after=1 << 20)
    try:
        bucket(proxy.port, monkeypatch)
        read = counted(monkeypatch)
        bnfold.fold_file("s3://models/cut.onnx", tmp_path / "out.onnx", verify=None)
    finally:
        proxy.close()
    assert proxy.cut >= 1
    assert sum(read) == source.stat().st_size
    assert bnfold.verify(source, tmp_path / "out.onnx", options=bnfold.VerifyOptions(time=0))


@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_a_store_that_is_gone_leaves_nothing(
    tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_file(str(MODELS / "digits.onnx"), "models/a.onnx")
    monkeypatch.setattr(remote, "_ATTEMPTS", 2)

    def cut(*_: object, **__: object) -> bytes:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(s3, "cat_file", cut)
    with pytest.raises(bnfold.RequestError, match=r"s3://models/a\.onnx: the line is dead"):
        bnfold.fold_file("s3://models/a.onnx", tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())
