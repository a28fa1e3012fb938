"""Report files: what they may be called, what they overwrite, and what they hold."""

import errno
import json
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from commandline import MODELS, model_in, run, run_here

import bnfold
from bnfold.command_line.fold import fold
from bnfold.files.publish import write_whole
from bnfold.reports.report import Failure
from bnfold.reports.report_file import ReportFile, check_report_path, write_reports


@pytest.mark.parametrize("name", ["r.txt", "r", "model.onnx", "r.json.bak"])
def test_a_report_has_a_known_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(bnfold.RequestError, match=r"\.json, \.jsonl or \.html"):
        check_report_path(tmp_path / name)


def test_a_report_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(bnfold.RequestError, match="does not exist"):
        check_report_path(tmp_path / "nowhere" / "r.json")
    (tmp_path / "r.json").mkdir()
    with pytest.raises(bnfold.RequestError, match="this is a folder"):
        check_report_path(tmp_path / "r.json")
    with pytest.raises(bnfold.RequestError, match="this is a folder"):
        write_reports(tmp_path / "r.json", [Failure("net.onnx", "no")])


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    write_reports(tmp_path / "r.json", [Failure("net\udcff.onnx", "γ ≠ ε")])
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert data["source"]["path"] == "net\udcff.onnx"
    assert data["error"] == "γ ≠ ε"


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["source", "link", "target"])
def test_a_report_does_not_overwrite_a_model(tmp_path: Path, victim: str) -> None:
    source = model_in(tmp_path, as_name="net.json")
    (tmp_path / "link.json").symlink_to(source)
    before = source.read_bytes()
    names = {"source": "net.json", "link": "link.json", "target": "out.json"}
    result = run("net.json", "-o", "out.json", "--report", names[victim], cwd=tmp_path)
    assert result.code == 2
    assert "a report would overwrite it" in result.err
    assert source.read_bytes() == before
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("net.onnx",), ("verify", "net.onnx", "net.onnx")])
def test_a_report_overwrites_nothing_that_is_read(words: Sequence[str], tmp_path: Path) -> None:
    model = onnx.load(MODELS / "digits.onnx")  # noqa: TID251 - to be saved in another form
    onnx.save(  # noqa: TID251
        model, tmp_path / "net.onnx", save_as_external_data=True, location="w.json"
    )
    (tmp_path / "inputs.json").write_text("[]")
    before = (tmp_path / "w.json").read_bytes()
    data = run(*words, "--report", "w.json", cwd=tmp_path)
    assert data.code == 2
    assert "w.json: this is data of net.onnx, a report would overwrite it" in data.err
    inputs = run(*words, "--inputs", "inputs.json", "--report", "inputs.json", cwd=tmp_path)
    assert inputs.code == 2
    assert "inputs.json: this file is used, a report would overwrite it" in inputs.err
    assert (tmp_path / "w.json").read_bytes() == before
    assert (tmp_path / "inputs.json").read_text() == "[]"


def test_a_report_that_cannot_be_written_at_the_end_says_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = model_in(tmp_path), tmp_path / "r.json"
    path.write_text("the old one", encoding="utf-8")

    def refuse(descriptor: int, data: object) -> int:
        del descriptor, data
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_on_a_full_disk(path: Path, data: bytes) -> None:
        with monkeypatch.context() as full:
            full.setattr("bnfold.files.transfer.os.write", refuse)
            write_whole(path, data)

    monkeypatch.setattr("bnfold.reports.report_file.write_whole", write_on_a_full_disk)
    words = [str(source), "--no-verify", "--report", str(path)]
    result = CliRunner().invoke(fold, words)
    assert result.exit_code == 2
    assert "No space left on device; the model was written" in result.output
    assert path.read_text(encoding="utf-8") == "the old one"
    assert (tmp_path / "digits.folded.onnx").exists()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    report = ReportFile(tmp_path / "r.jsonl", several=True)
    with no_file_larger_than(1000):
        report.add(Failure("a.onnx", "no"))
        with pytest.raises(bnfold.RequestError, match=r"r\.jsonl: File too large"):
            report.add(Failure("b.onnx", "x" * 2000))
        report.add(Failure("c.onnx", "no"))
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"]["path"] for line in lines] == ["a.onnx", "c.onnx"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_where_no_report_can_be_written_the_models_are_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [model_in(tmp_path, as_name=name).name for name in ("a.onnx", "b.onnx")]
    with monkeypatch.context() as full:
        full.setattr(ReportFile, "add", lambda *_: Path("/dev/full").write_text("no"))
        result = run_here(*names, "--no-verify", "--report", "r.json", cwd=tmp_path)
    assert result.code == 2
    assert "2 models: 2 written\n" in result.text
    assert result.err == "bnfold: the output: No space left on device; 2 of 2 models were written\n"
