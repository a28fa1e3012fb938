"""`bnfold verify` with a model from a pipe, and how models are called in what is said."""

import json
import os
from pathlib import Path

import onnx
import pytest
from commandline import MODELS, model_in, run, run_here

DIGITS = (MODELS / "digits.onnx").read_bytes()
KEPT = (MODELS / "kept.onnx").read_bytes()


@pytest.mark.parametrize("words", [("-", "digits.onnx"), ("digits.onnx", "-")])
def test_either_model_comes_through_a_pipe(tmp_path: Path, words: tuple[str, str]) -> None:
    model_in(tmp_path)
    report = ("--report", "r.json", "--time", "0")
    result = run("verify", *words, *report, cwd=tmp_path, stdin=DIGITS)
    assert result.code == 0, result.err
    assert "the two models are identical" in result.text
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (told["original"]["path"], told["candidate"]["path"]) == words
    assert told["original"]["sha256"] == told["candidate"]["sha256"]


def test_what_comes_through_a_pipe_is_called_standard_input(tmp_path: Path) -> None:
    model_in(tmp_path)
    said = {
        b"": "bnfold: standard input: the file is empty\n",
        b"no model": "bnfold: standard input: this is not an ONNX model",
        KEPT: "bnfold: standard input: verification failed: ",
    }
    for model, text in said.items():
        result = run("verify", "digits.onnx", "-", "-q", cwd=tmp_path, stdin=model)
        assert result.err.startswith(text)
        assert result.code == (3 if model == KEPT else 2)
    both = run("verify", "-", "-", cwd=tmp_path, stdin=DIGITS)
    assert both.err == "bnfold: standard input is one model; it cannot be both\n"
    assert both.code == 2


def test_the_names_of_unix_for_the_ends_of_a_pipe(tmp_path: Path) -> None:
    words = ("/dev/stdin", "-o", "/dev/stdout", "--no-verify", "-q")
    result = run(*words, cwd=tmp_path, stdin=DIGITS)
    assert (result.code, result.err) == (0, "")
    folded = onnx.ModelProto.FromString(result.out)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}


def test_a_file_may_be_called_so(tmp_path: Path) -> None:
    model_in(tmp_path, as_name="-")
    assert run_here("verify", "./-", str(tmp_path / "-"), "--time", "0", cwd=tmp_path).code == 0


def test_urls_are_named_as_they_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs fsspec: bnfold[remote]")
    url = f"file://{model_in(tmp_path)}"
    other = f"file://{model_in(tmp_path, 'kept')}"
    result = run_here("verify", url, other, "-q", cwd=tmp_path)
    assert result.err.startswith(f"bnfold: {other}: verification failed: ")
    folded = url.replace("digits", "digits.folded")
    result = run_here(url, folded, "-q", cwd=tmp_path)
    assert result.err.startswith(f"bnfold: {folded}: the folded {url} would overwrite this")
    report = ("--time", "0", "--report", "r.json", "-q")
    assert run_here("verify", url, url, *report, cwd=tmp_path).code == 0
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert told["original"]["path"] == told["candidate"]["path"] == url


def test_a_model_in_a_store_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    before = source.read_bytes()
    url = f"file://{source}"
    result = run_here(url, "-o", url, "--no-verify", cwd=tmp_path)
    told = f"bnfold: {url}: this is the input; in_place (--in-place) replaces it\n"
    assert (result.code, result.err) == (2, told)
    assert source.read_bytes() == before


@pytest.mark.parametrize("words", [("pipe",), ("verify", "pipe", "digits.onnx")])
def test_a_pipe_with_a_name_is_told_of_standard_input(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    model_in(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    result = run_here(*words, cwd=tmp_path)
    told = "bnfold: pipe: this is a pipe; the name - reads a model from standard input\n"
    assert (result.err, result.code) == (told, 2)


def test_the_last_line_says_where_the_report_is(tmp_path: Path) -> None:
    model_in(tmp_path)
    done = run_here("verify", "digits.onnx", "digits.onnx", "--report", "r.json", cwd=tmp_path)
    assert done.text.splitlines()[-1].startswith("report written: r.json (")
    done = run_here("digits.onnx", "--check", "--report", "r.jsonl", cwd=tmp_path)
    assert done.text.splitlines()[-1].startswith("  report written: r.jsonl (")
    assert not run_here("digits.onnx", "-q", "--report", "r.json", cwd=tmp_path).text
