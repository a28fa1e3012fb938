"""Which models are meant, and where they go."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from commandline import MODELS, convolution, files, model_in, run, write

import bnfold
from bnfold.command_line.batch import run_all
from bnfold.command_line.sources import Request, find_sources
from bnfold.options import file_options


def test_a_folder_is_walked(tmp_path: Path) -> None:
    for name in ("b.onnx", "deep/a.onnx", "b.folded.onnx", ".hidden/c.onnx", "alone.folded.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(convolution(), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no model")
    found = find_sources([tmp_path])
    names = [str(source.place) for source in found.models]
    assert names == ["alone.folded.onnx", "b.onnx", "deep/a.onnx"]
    assert found.passed_over == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(bnfold.RequestError, match=r"this folder holds no \.onnx file"):
        find_sources([tmp_path / "empty"])


def test_a_folder_that_cannot_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models were meant, so it fails, and the others are folded."""
    (tmp_path / "zoo" / "locked").mkdir(parents=True)
    write(convolution(), tmp_path / "zoo" / "a.onnx")
    scandir = os.scandir

    def guarded(path: Any) -> Any:  # root, who may run this, may look into every folder
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    monkeypatch.chdir(tmp_path)
    refused = f"{Path('zoo/locked')}: Permission denied"
    for named in ("zoo", "zoo/**/*.onnx"):
        found = {str(one.path): one.refused for one in find_sources([Path(named)]).models}
        assert found == {"zoo/a.onnx": "", "zoo/locked": refused}
    assert [one.path for one in find_sources([Path("zoo/*.onnx")]).models] == [Path("zoo/a.onnx")]
    request = Request(None, Path("out"), file_options(verify=None))
    outcomes = {str(one.source): one for one in run_all(find_sources([Path("zoo")]), request)}
    assert outcomes["zoo/a.onnx"].written
    assert (outcomes["zoo/locked"].exit_code, outcomes["zoo/locked"].error) == (2, refused)
    (alone,) = run_all(find_sources([Path("zoo/locked")]), request)
    assert alone.error == refused


def test_a_link_that_leads_nowhere_is_a_model_that_is_lost(tmp_path: Path) -> None:
    write(convolution(), tmp_path / "a.onnx")
    (tmp_path / "gone.onnx").symlink_to("nowhere.onnx")
    done = run(".", "--no-verify", cwd=tmp_path)
    assert done.code == 2
    assert done.err == "bnfold: gone.onnx: No such file or directory\n"


def test_links_in_a_circle_hold_no_other_model_up(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    write(convolution(), tmp_path / "zoo" / "a.onnx")
    (tmp_path / "zoo" / "circle.onnx").symlink_to("circle.onnx")
    (tmp_path / "zoo" / "again").symlink_to(".")
    done = run("zoo", "-d", "out", "--no-verify", cwd=tmp_path)
    assert done.err == "bnfold: zoo/circle.onnx: Too many levels of symbolic links\n"
    assert done.text.splitlines()[-1] == "2 models: 1 written, 1 failed"
    for words in (["zoo/circle.onnx"], ["zoo/a.onnx", "-o", "zoo/circle.onnx"]):
        alone = run(*words, "--no-verify", cwd=tmp_path)
        assert (alone.code, alone.err) == (2, done.err)
    for name in ("zoo/circle.onnx", "zoo/circle.onnx/a.onnx"):
        with pytest.raises(bnfold.RequestError, match="Too many levels"):
            bnfold.verify(tmp_path / name, tmp_path / name)


def test_a_folder_is_folded_into_another(tmp_path: Path) -> None:
    for name in ("zoo/a.onnx", "zoo/deep/a.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(convolution(), tmp_path / name)
    (tmp_path / "out").mkdir()
    done = run("zoo", "-d", "out", "--no-verify", cwd=tmp_path)
    assert done.code == 0, done.err
    assert {"out/a.onnx", "out/deep/a.onnx"} <= files(tmp_path)


def test_a_report_may_go_into_the_folder_that_is_made(tmp_path: Path) -> None:
    write(convolution(), tmp_path / "a.onnx")
    words = ("a.onnx", "--no-verify", "-d", "out/deep", "--report", "out/deep/r.json")
    assert run(*words, "--check", cwd=tmp_path).code == 2
    assert not (tmp_path / "out").exists()
    done = run(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert {"out/deep/a.onnx", "out/deep/r.json"} <= files(tmp_path)


def test_several_are_a_line_each_and_a_sum(tmp_path: Path) -> None:
    model_in(tmp_path)
    model_in(tmp_path, "kept")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    done = run(".", "--no-verify", "--report", "r.jsonl", cwd=tmp_path)
    assert done.code == 2
    lines = done.text.splitlines()
    assert lines[0].split()[:6] == ["digits.onnx", "BN", "8", "→", "0", "nodes"]
    assert lines[1].startswith("kept.onnx")
    assert lines[2:-1] == [
        "failed: broken.onnx",
        "batch normalizations kept: kept.onnx (4)",
        "3 models: 2 written, 1 failed",
    ]
    assert lines[-1].startswith("report written: r.jsonl (")
    entries = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [entry["source"]["path"] for entry in entries] == [
        "broken.onnx", "digits.onnx", "kept.onnx",
    ]  # fmt: skip
    again = run(".", "--no-verify", cwd=tmp_path)
    assert "passed over: 2 folded models of an earlier run" in again.text


def test_a_quiet_check_lists_what_would_be_folded(tmp_path: Path) -> None:
    model_in(tmp_path)
    write(convolution(), tmp_path / "net.onnx")
    run("net.onnx", "--no-verify", "--in-place", cwd=tmp_path)
    done = run(".", "--check", "-q", cwd=tmp_path)
    assert done.code == 1
    assert done.text == "digits.onnx: 8 of 8 batch normalizations would be folded\n"


def test_a_folded_model_is_what_it_was(tmp_path: Path) -> None:
    write(convolution(), tmp_path / "net.onnx")
    run("net.onnx", "-q", cwd=tmp_path)
    done = run("net.folded.onnx", cwd=tmp_path)
    assert done.code == 0
    assert "nothing to fold" in done.text or "no batch normalization to fold" in done.text
    assert files(tmp_path) == {"net.onnx", "net.folded.onnx"}
    run("net.folded.onnx", "-o", "other.onnx", "-q", cwd=tmp_path)
    assert (tmp_path / "other.onnx").exists()


def test_models_of_this_project_are_found() -> None:
    assert len(find_sources([MODELS]).models) == len(list(MODELS.glob("*.onnx")))


def test_links_to_one_model_replace_it_once(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    model_in(zoo, "kept", as_name="a.onnx")
    (zoo / "link.onnx").symlink_to("a.onnx")
    done = run("zoo", "--in-place", "--no-verify", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert (zoo / "link.onnx").is_symlink()
    assert run("zoo", "--check", cwd=tmp_path).code == 0
