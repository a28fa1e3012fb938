"""The command line's promises, kept by real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from commandline import (
    ENVIRONMENT,
    MODELS,
    ROOT,
    Result,
    command,
    convolution,
    files,
    load,
    model_in,
    normalizations,
    run,
    run_command,
    run_here,
    tampered,
    write,
)
from onnx import TensorProto

import bnfold
from bnfold.command_line.fold import fold
from bnfold.command_line.options import EXIT_CODES
from bnfold.files import Literal
from bnfold.graph.edit.rewrite import Rewritten, rewrite
from bnfold.reports.report import Exit

OLD = b"what stood here before"


def refused(result: Result, *words: str, code: int = 2) -> None:
    """Check that the outcome is one line on stderr and nothing else."""
    assert result.code == code, result.err
    assert result.out == b""
    assert result.err.startswith("bnfold: ")
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    assert "bug in bnfold" not in result.err
    for word in words:
        assert word in result.err


# What is written, and where


def test_the_folded_model_lands_beside_the_source(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    before = source.read_bytes()
    result = run("digits.onnx", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx"}
    assert source.read_bytes() == before
    assert normalizations(load(tmp_path / "digits.folded.onnx")) == 0
    first = result.text.splitlines()[0]
    assert first == "digits.onnx → digits.folded.onnx"
    assert "8 of 8 batch normalizations folded into the operator before" in result.text
    assert "verification passed" in result.text


def test_the_script_of_the_checkout_does_the_same(tmp_path: Path) -> None:
    model_in(tmp_path)
    result = run_command(
        [sys.executable, str(ROOT / "cli.py"), "digits.onnx", "--no-verify"], cwd=tmp_path
    )
    assert result.code == 0
    assert "not verified" in result.text
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx"}


def test_output_names_the_target(tmp_path: Path) -> None:
    model_in(tmp_path)
    (tmp_path / "out.onnx").write_bytes(OLD)
    assert run("digits.onnx", "-o", "out.onnx", cwd=tmp_path).code == 0
    assert normalizations(load(tmp_path / "out.onnx")) == 0
    assert files(tmp_path) == {"digits.onnx", "out.onnx"}


def test_directory_takes_several_models_under_their_own_names(tmp_path: Path) -> None:
    for name in ("digits", "kept", "perceptron"):
        model_in(tmp_path, name)
    (tmp_path / "out").mkdir()
    names = ("digits.onnx", "kept.onnx", "perceptron.onnx")
    result = run(*names, "-d", "out", "-j", "2", cwd=tmp_path)
    assert result.code == 0
    assert files(tmp_path / "out") == set(names)
    told = [line.split()[0] for line in result.text.splitlines()]
    assert set(told[:3]) == set(names), "as each is done"
    assert result.text.splitlines()[-1] == "3 models: 3 written"
    check = run(*names, "missing.onnx", "--check", cwd=tmp_path)
    assert check.code == 2
    assert check.out.decode().splitlines()[-1] == "4 models: 3 can be folded, 1 failed"


def test_in_place_replaces_the_source(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    result = run("digits.onnx", "--in-place", cwd=tmp_path)
    assert result.code == 0
    assert "(in place)" in result.text
    assert files(tmp_path) == {"digits.onnx"}
    folded = source.read_bytes()
    assert normalizations(load(source)) == 0
    again = run("digits.onnx", "--in-place", cwd=tmp_path)
    assert again.code == 0
    assert "no batch normalization to fold" in again.text
    assert source.read_bytes() == folded


def test_nothing_to_fold_is_success(tmp_path: Path) -> None:
    source = write(onnx.ModelProto(), tmp_path / "net.onnx")
    model = convolution()
    del model.graph.node[1]
    model.graph.output[0].name = "c"
    write(model, source)
    result = run("net.onnx", cwd=tmp_path)
    assert result.code == 0
    assert "no batch normalization to fold; the model was copied as it is" in result.text
    assert (tmp_path / "net.folded.onnx").read_bytes() == source.read_bytes()


def test_check_writes_nothing_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    model_in(tmp_path)
    result = run("digits.onnx", "--check", cwd=tmp_path)
    assert result.code == 1
    assert "8 of 8 batch normalizations would be folded" in result.text
    assert files(tmp_path) == {"digits.onnx"}
    run("digits.onnx", "--no-verify", cwd=tmp_path)
    assert run("digits.folded.onnx", "--check", cwd=tmp_path).code == 0
    assert run("digits.onnx", "digits.folded.onnx", "--check", cwd=tmp_path).code == 1
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx"}


def test_subcommands_do_not_take_names_from_files(tmp_path: Path) -> None:
    for name in ("verify", "ops"):
        model_in(tmp_path, as_name=name)
        assert run(f"./{name}", "--check", cwd=tmp_path).code == 1
    assert "BatchNormalization" in run("ops", cwd=tmp_path).text
    assert run("--", "verify", "-o", "x", cwd=tmp_path).code == 2


# Pipes


def test_a_model_goes_through_pipes(tmp_path: Path) -> None:
    model = model_in(tmp_path).read_bytes()
    result = run("-", cwd=tmp_path, stdin=model)
    assert result.code == 0
    assert normalizations(onnx.ModelProto.FromString(result.out)) == 0
    assert "standard input → standard output" in result.err
    assert "verification passed" in result.err
    quiet = run("-", "-q", cwd=tmp_path, stdin=model)
    assert (quiet.code, quiet.out, quiet.err) == (0, result.out, "")
    assert files(tmp_path) == {"digits.onnx"}
    assert run("digits.onnx", "-o", "file.onnx", "-q", cwd=tmp_path).code == 0
    assert (tmp_path / "file.onnx").read_bytes() == result.out


def test_one_end_may_be_a_pipe(tmp_path: Path) -> None:
    model = model_in(tmp_path).read_bytes()
    to_file = run("-", "-o", "out.onnx", "--no-verify", cwd=tmp_path, stdin=model)
    assert to_file.code == 0
    assert to_file.text.startswith("standard input → out.onnx\n")
    from_file = run("digits.onnx", "-o", "-", "--no-verify", cwd=tmp_path)
    assert from_file.out == (tmp_path / "out.onnx").read_bytes()
    check = run("-", "--check", cwd=tmp_path, stdin=model)
    assert check.code == 1
    assert "would be folded" in check.text


def test_bad_input_from_a_pipe_is_told_by_the_name_of_the_pipe(tmp_path: Path) -> None:
    refused(run("-", cwd=tmp_path, stdin=b""), "bnfold: standard input: ")
    refused(run("-", cwd=tmp_path, stdin=b"some text, no model"), "bnfold: standard input: ")


@pytest.mark.parametrize(
    "words",
    [["-", "digits.onnx"], ["-", "--in-place"], ["-", "-d", "."], ["-", "--external-data"]],
)
def test_requests_that_no_pipe_can_serve(tmp_path: Path, words: list[str]) -> None:
    model_in(tmp_path)
    refused(run(*words, cwd=tmp_path), "standard")


@pytest.mark.parametrize("name", ["net", "folded"])
def test_a_model_with_a_data_file_goes_through_a_pipe_in_one_piece(
    tmp_path: Path, name: str
) -> None:
    model = convolution(channels=512)
    if name == "folded":  # and there is nothing left to do
        model = bnfold.fold(model).model
    onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=0)
    (tmp_path / "data").mkdir()
    onnx.external_data_helper.write_external_data_tensors(model, str(tmp_path / "data"))
    write(model, tmp_path / "data" / "net.onnx")
    result = run("data/net.onnx", "-o", "-", cwd=tmp_path)
    (tmp_path / "out.onnx").write_bytes(result.out)
    assert run("verify", "data/net.onnx", "out.onnx", cwd=tmp_path).code == 0


@pytest.mark.skipif(os.name != "posix", reason="a terminal is opened as POSIX does")
@pytest.mark.parametrize("said", [["digits.onnx", "-o", "-"], ["-"]])
def test_a_model_is_not_written_to_a_terminal(tmp_path: Path, said: list[str]) -> None:
    model_in(tmp_path)
    ours, theirs = os.openpty()
    try:
        words = command(*said)
        done = subprocess.run(
            words, cwd=tmp_path, env=ENVIRONMENT, stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"a model is not written to a terminal" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    for words in (["ops"], ["--check", "-v", "digits.onnx"]):
        model_in(tmp_path)
        process = subprocess.Popen(
            command(*words),
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 141


# Failures


def test_one_bad_model_does_not_keep_the_others_from_being_folded(tmp_path: Path) -> None:
    model_in(tmp_path)
    model_in(tmp_path, "perceptron")
    (tmp_path / "bad.onnx").write_text("not a model")
    for jobs in ("1", "2"):
        words = ("digits.onnx", "bad.onnx", "perceptron.onnx", "--no-verify", "-j", jobs)
        result = run(*words, "-q", cwd=tmp_path)
        refused(result, "bad.onnx")
        for name in ("digits", "perceptron"):
            target = tmp_path / f"{name}.folded.onnx"
            assert normalizations(load(target)) == 0
            target.unlink()
        assert not (tmp_path / "bad.folded.onnx").exists()


def test_the_highest_exit_code_counts(tmp_path: Path) -> None:
    model_in(tmp_path)
    result = run("digits.onnx", "missing.onnx", "--check", cwd=tmp_path)
    assert result.code == 2
    result = run("missing.onnx", "digits.onnx", "--provider", absent_provider(), cwd=tmp_path)
    assert result.code == 4


def absent_provider() -> str:
    """Name a provider that ONNX Runtime knows and this build lacks."""
    import onnxruntime

    absent = set(onnxruntime.get_all_providers()) - set(onnxruntime.get_available_providers())
    return str(min(absent)).removesuffix("ExecutionProvider").lower()


def test_a_provider_that_was_asked_for_and_cannot_run(tmp_path: Path) -> None:
    model_in(tmp_path)
    target = tmp_path / "digits.folded.onnx"
    target.write_bytes(OLD)
    name = absent_provider()
    result = run("digits.onnx", "--provider", "cpu", "--provider", name, cwd=tmp_path)
    assert result.code == 4
    assert result.out == b""
    assert f"cannot run: {name}: not in this build" in result.err.splitlines()[0]
    assert "(not written)" in result.err
    assert target.read_bytes() == OLD
    assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx"}
    quiet = run("digits.onnx", "--provider", name, "-q", cwd=tmp_path)
    refused(quiet, name, code=4)
    verified = run("verify", "digits.onnx", "digits.onnx", "--provider", name, cwd=tmp_path)
    assert verified.code == 4
    assert f"asked for by name but cannot run: {name}" in verified.err


def plant_wrong_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rewriting make every new weight wrong by a hundredth."""

    def wrong(*arguments: Any, **options: Any) -> Rewritten:
        right = rewrite(*arguments, **options)
        recipes = dict(right.recipes)
        for location, recipe in right.recipes.items():
            data = b"".join(bytes(block) for block in recipe.blocks())
            values = np.frombuffer(data, np.float32).reshape(recipe.dims)
            recipes[location] = Literal(values * np.float32(1.01))
        return replace(right, recipes=recipes)

    monkeypatch.setattr("bnfold.folding.rewrite", wrong)


def test_a_wrong_fold_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_wrong_weights(monkeypatch)
    source = model_in(tmp_path)
    target = tmp_path / "digits.folded.onnx"
    target.write_bytes(OLD)
    report = tmp_path / "r.json"
    for words in ([], ["-q"], ["--in-place"]):
        before = source.read_bytes()
        result = run_here(source, "--report", report, *words, cwd=tmp_path)
        assert result.code == 3
        assert result.text == ""
        assert result.err.startswith(f"bnfold: {source}: verification failed: ")
        assert target.read_bytes() == OLD
        assert source.read_bytes() == before
        assert files(tmp_path) == {"digits.onnx", "digits.folded.onnx", "r.json"}
    assert '"exit_code": 3' in report.read_text()


def test_a_wrong_fold_raises_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_wrong_weights(monkeypatch)
    with pytest.raises(bnfold.VerificationError, match="verification failed") as caught:
        bnfold.fold_file(model_in(tmp_path))
    report = caught.value.report
    assert report.exit_code == 3
    assert not report.written
    assert report.verification is not None
    assert not report.verification.ok


def test_verify_compares_any_two_models(tmp_path: Path) -> None:
    model_in(tmp_path)
    run("digits.onnx", "--no-verify", cwd=tmp_path)
    good = run("verify", "digits.onnx", "digits.folded.onnx", cwd=tmp_path)
    assert (good.code, good.err) == (0, "")
    assert good.text.startswith("verification passed\n")
    tampered(tmp_path / "digits.folded.onnx", tmp_path / "bad.onnx", lambda w: w * 1.001)
    bad = run("verify", "digits.onnx", "bad.onnx", cwd=tmp_path)
    assert (bad.code, bad.out) == (3, b"")
    assert "verification failed" in bad.err
    refused(run("verify", "digits.onnx", "bad.onnx", "-q", cwd=tmp_path), "bad.onnx", code=3)
    assert run("verify", "digits.onnx", "digits.folded.onnx", "-q", cwd=tmp_path).out == b""


def test_inputs_of_ones_own_may_hold_more_than_the_model_takes(tmp_path: Path) -> None:
    model_in(tmp_path)
    result = run("digits.onnx", "--inputs", ROOT / "models/digits_test.npz", cwd=tmp_path)
    assert result.code == 0
    assert "verification passed" in result.text


# Bad requests


def external(location: str) -> onnx.ModelProto:
    model = convolution()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def newer_ir() -> onnx.ModelProto:
    model = convolution()
    model.ir_version = 999
    return model


def newer_opset() -> onnx.ModelProto:
    model = convolution()
    model.opset_import[0].version = 999
    return model


BAD_FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "truncated": lambda: convolution().SerializeToString()[:-100],
    "text": lambda: b"Dear reader,\nthis is no model.\n",
    "zeros": lambda: bytes(4096),
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
    "no-graph": lambda: onnx.ModelProto(ir_version=8).SerializeToString(),
    "newer-ir": lambda: newer_ir().SerializeToString(),
    "newer-opset": lambda: newer_opset().SerializeToString(),
    "missing-data": lambda: external("nowhere.data").SerializeToString(),
    "data-outside": lambda: external("../net.onnx").SerializeToString(),
    "data-absolute": lambda: external("/etc/passwd").SerializeToString(),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    (tmp_path / "net.onnx").write_bytes(BAD_FILES[kind]())
    (tmp_path / "net.folded.onnx").write_bytes(OLD)
    refused(run("net.onnx", cwd=tmp_path), "net.onnx")
    assert (tmp_path / "net.folded.onnx").read_bytes() == OLD
    assert files(tmp_path) == {"net.onnx", "net.folded.onnx"}


BAD_REQUESTS = {
    "no such file": (["missing.onnx"], "missing.onnx"),
    "a folder": (["out"], "out"),
    "a folder without a model": (["out"], "this folder holds no .onnx file"),
    "no name": (["digits.onnx", ""], "the name is empty"),
    "no name of a folder": (["digits.onnx", "-d", ""], "the name is empty"),
    "no name of a report": (["digits.onnx", "--report", ""], "the name is empty"),
    "verify: no name": (["verify", "digits.onnx", ""], "the name is empty"),
    "two models with one target": (
        ["kept", "kept.onnx"],
        "kept.folded.onnx: both kept and kept.onnx would be written here",
    ),
    "a model over one that is to be folded": (
        ["kept.onnx", "digits.onnx", "kept.folded.onnx"],
        "kept.folded.onnx: the folded kept.onnx would overwrite this",
    ),
    "one model by two names in place": (
        ["kept.onnx", "out/../kept.onnx", "--in-place"],
        "both kept.onnx and out/../kept.onnx would be written here",
    ),
    "a folder as target": (["digits.onnx", "-o", "out"], "out"),
    "no folder for the target": (["digits.onnx", "-o", "nowhere/x.onnx"], "nowhere"),
    "a folder in a file": (["digits.onnx", "-d", "digits.onnx/out"], "cannot be made"),
    "the target is the source": (["digits.onnx", "-o", "./digits.onnx"], "--in-place"),
    "the folder of the source": (["digits.onnx", "-d", "."], "--in-place"),
    "one output, two models": (["digits.onnx", "kept.onnx", "-o", "x.onnx"], "--output"),
    "the same name twice": (
        ["digits.onnx", "out/digits.onnx", "-d", "out"],
        "out/digits.onnx: both digits.onnx and out/digits.onnx would be written here",
    ),
    "the same model twice": (
        ["digits.onnx", "digits.onnx"],
        "digits.onnx: this model is named twice",
    ),
    "two targets": (["digits.onnx", "-o", "x.onnx", "-d", "out"], "exclude"),
    "a target and in place": (["digits.onnx", "-o", "x.onnx", "--in-place"], "exclude"),
    "thorough and not at all": (["digits.onnx", "--thorough", "--no-verify"], "exclude"),
    "quiet and verbose": (["digits.onnx", "-q", "-v"], "exclude"),
    "inputs and their shapes": (
        ["digits.onnx", "--inputs", "x.npz", "--shape", "image=1,1,8,8"],
        "--inputs and --shape exclude",
    ),
    "a provider and no verification": (
        ["digits.onnx", "--provider", "cpu", "--no-verify"],
        "--no-verify and --provider exclude",
    ),
    "inputs that are not there": (
        ["digits.onnx", "--inputs", "x.npz"],
        "x.npz: cannot be read as inputs: No such file or directory\n",
    ),
    "a misspelt word": (["verfy", "digits.onnx", "kept.onnx"], "is 'bnfold verify' meant?"),
    "a word of its own": (["check", "digits.onnx"], "is 'bnfold MODEL --check' meant?"),
    "half a word": (["op"], "is 'bnfold ops' meant?"),
    "an unknown provider": (["digits.onnx", "--provider", "abacus"], "abacus"),
    "a shape in words": (["digits.onnx", "--shape", "image=small"], "image=small"),
    "a shape without a name": (["digits.onnx", "--shape", "1,1,8,8"], "1,1,8,8"),
    "a shape that cannot be": (["digits.onnx", "--shape", "image=1,2,8,8"], "image"),
    "a shape too large": (
        ["digits.onnx", "--shape", "image=99999999999,1,28,28"],
        "[99999999999, 1, 28, 28] of 'image' is too large",
    ),
    "a shape with a gap": (["digits.onnx", "--shape", "image=1,x"], "image=1,x: write it as"),
    "two shapes of one input": (
        ["digits.onnx", "--shape", "image=1,1,8,8", "--shape", "image=2,1,8,8"],
        "--shape image=…: there are two",
    ),
    "no such inputs": (["digits.onnx", "--inputs", "missing.npz"], "missing.npz"),
    "inputs of another kind": (["digits.onnx", "--inputs", "digits.onnx"], "digits.onnx"),
    "a report of another kind": (["digits.onnx", "--report", "r.txt"], ".json, .jsonl or .html"),
    "a new folder, and no report": (["digits.onnx", "-d", "new", "--report", "r.txt"], "r.txt"),
    "a file in place of a folder": (
        ["digits.onnx", "-o", "kept.onnx/x.onnx"],
        "kept.onnx/x.onnx: kept.onnx is not a folder",
    ),
    "an unknown reason": (
        ["explain", "wrong"],
        "wrong: no such reason (bnfold explain lists them)",
    ),
    "a report over a model": (["digits.onnx", "--report", "kept.onnx"], ".json, .jsonl or .html"),
    "no folder for the report": (["digits.onnx", "--report", "nowhere/r.json"], "nowhere"),
    "an unknown option": (["digits.onnx", "--fast"], "--fast"),
    "no jobs": (["digits.onnx", "-j", "0"], "0"),
    "jobs in words": (["digits.onnx", "-j", "many"], "'many' is not a valid integer ("),
    "a time in words": (["digits.onnx", "--time", "long"], "'long' is not a valid number ("),
    "inputs in a folder without any": (
        ["digits.onnx", "--inputs", "out"],
        "out: this folder holds no input_*.pb files",
    ),
    "no time": (["digits.onnx", "--timeout", "0"], "0"),
    "no number of seconds": (["digits.onnx", "--timeout", "nan"], "time limit"),
    "all time": (["digits.onnx", "--timeout", "inf"], "time limit"),
    "a negative seed": (["digits.onnx", "--seed", "-1"], "seed"),
    "verify: one model": (["verify", "digits.onnx"], "CANDIDATE"),
    "verify: no such model": (["verify", "digits.onnx", "missing.onnx"], "missing.onnx"),
    "verify: quiet and verbose": (["verify", "digits.onnx", "kept.onnx", "-q", "-v"], "exclude"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_requests(tmp_path: Path, kind: str) -> None:
    words, told = BAD_REQUESTS[kind]
    (tmp_path / "out").mkdir()
    model_in(tmp_path)
    for name in ("kept.onnx", "kept", "kept.folded.onnx"):
        model_in(tmp_path, "kept", as_name=name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.onnx")}
    refused(run_here(*words, cwd=tmp_path), told)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.onnx")} == before
    assert files(tmp_path) == {"out", "kept", *(path.name for path in before)}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    model_in(tmp_path)
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self")  # where not even root can make a file
        if not folder.exists():
            pytest.skip("this user may write everywhere")
    refused(run("digits.onnx", "-o", folder / "x.onnx", cwd=tmp_path), str(folder))
    refused(run("digits.onnx", "-d", folder, cwd=tmp_path), str(folder))
    assert files(tmp_path) == {"digits.onnx", "closed"}


# Talking


def test_help_imports_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys, bnfold.command_line.main\n"
        "try: bnfold.command_line.main.main(sys.argv[1:])\n"
        "finally: print(sorted({'onnx', 'numpy', 'onnxruntime', 'jinja2'} & set(sys.modules)))"
    )
    for words in (["--help"], ["verify", "-h"], ["ops", "--help"], ["--version"]):
        result = run_command([sys.executable, "-c", script, *words], cwd=tmp_path)
        assert result.code == 0
        assert result.text.splitlines()[-1] == "[]"
    assert run("--version", cwd=tmp_path).text == f"bnfold, version {bnfold.__version__}\n"


def test_the_child_starts_before_heavy_libraries_are_imported(tmp_path: Path) -> None:
    model_in(tmp_path, "digits")
    script = (
        "import subprocess, sys, bnfold.command_line.main\n"
        "imported, start = [], subprocess.Popen.__init__\n"
        "def noting(self, args, **words):\n"
        "    if 'bnfold.verification.runs.child' in args:\n"
        "        imported.append(sorted({'onnx', 'numpy'} & set(sys.modules)))\n"
        "    start(self, args, **words)\n"
        "subprocess.Popen.__init__ = noting\n"
        "try: bnfold.command_line.main.main()\n"
        "finally: print(imported)"
    )
    for words in (["digits.onnx"], ["verify", "digits.onnx", "digits.folded.onnx"]):
        result = run_command([sys.executable, "-c", script, *words], cwd=tmp_path)
        assert result.code == 0
        assert result.text.splitlines()[-1] == "[[]]"


def test_a_gate_for_what_remains(tmp_path: Path) -> None:
    model_in(tmp_path, "kept")  # of five batch normalizations four cannot be folded
    for words in (["-q"], ["--check"], ["--check", "-q"]):
        done = run("kept.onnx", "--max-kept", "3", *words, cwd=tmp_path)
        assert done.code == 5
        told = "bnfold: kept.onnx: 4 batch normalizations remain; max_kept (--max-kept) allows 3"
        assert done.err.splitlines()[0] == told
        assert not (tmp_path / "kept.folded.onnx").exists()
    done = run("kept.onnx", "--max-kept", "3", "--report", "r.json", cwd=tmp_path)
    assert done.code == 5
    assert "4 batch normalizations remain; max_kept (--max-kept) allows 3" in done.err
    assert "4 batch normalizations kept:" in done.err
    assert done.err.splitlines()[-1].startswith("  report written: r.json (")
    assert json.loads((tmp_path / "r.json").read_text())["max_kept"] == 3
    assert run("kept.onnx", "--max-kept", "4", "-q", cwd=tmp_path).code == 0
    assert run("kept.folded.onnx", "--check", "--max-kept", "3", cwd=tmp_path).code == 5


@pytest.mark.parametrize(
    ("words", "environment", "coloured"),
    [
        ([], {}, False),  # not on a terminal
        (["--color", "always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {}, False),
    ],
)
def test_colours(
    words: list[str],
    environment: dict[str, str],
    coloured: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    model_in(tmp_path)
    done = run("digits.onnx", "--check", *words, cwd=tmp_path)
    assert ("\x1b[" in done.text) is coloured


def test_nothing_to_do_is_told_how(tmp_path: Path) -> None:
    bare = run(cwd=tmp_path)
    assert (bare.code, bare.err) == (0, "")
    assert bare.out == run("--help", cwd=tmp_path).out
    assert run("-V", cwd=tmp_path).out == run("--version", cwd=tmp_path).out


def test_help_tells_every_option_and_exit_code(tmp_path: Path) -> None:
    text = " ".join(run("--help", cwd=tmp_path).text.split())
    for parameter in fold.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in text
            assert parameter.help
    for code, says in EXIT_CODES.items():
        assert f"{code} {says}" in text
    assert set(EXIT_CODES) == set(Exit)


def test_quiet_says_nothing_and_verbose_says_all(tmp_path: Path) -> None:
    model_in(tmp_path, "kept")
    quiet = run("kept.onnx", "-q", cwd=tmp_path)
    assert (quiet.code, quiet.out, quiet.err) == (0, b"", "")
    short = run("kept.onnx", cwd=tmp_path).text
    assert "↑ Conv '/stem/conv/Conv'" not in short
    verbose = run("kept.onnx", "-v", cwd=tmp_path).text
    assert "BatchNormalization '/stem/bn/BatchNormalization' ↑ Conv '/stem/conv/Conv'" in verbose
    assert "ENABLE_ALL" in verbose
    assert "\x1b" not in short + verbose


def interrupted(words: list[str], folder: Path, sign: str) -> set[str]:
    """Send Ctrl-C once a file like `sign` is there; return the files that are left."""
    (folder / "temp").mkdir()
    process = subprocess.Popen(
        command(*words),
        cwd=folder,
        env={**ENVIRONMENT, "TMPDIR": str(folder / "temp")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while not any(folder.glob(sign)):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)  # its input stays open: without an end it would be an empty model
    finally:
        process.kill()
        out, err = process.communicate()
    assert process.returncode == 130
    some = "" if not out else r"; \d+ of \d+ models were done"
    assert re.fullmatch(f"bnfold: interrupted{some}\n", err.decode())
    # ONNX Runtime keeps a file of its own in the folder for temporary files.
    return files(folder) - {"temp", "temp/.ses"}


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    assert interrupted(["-", "-o", "out.onnx"], tmp_path, "temp/bnfold-*/stdin.onnx") == set()


def test_ctrl_c_leaves_whole_models_only(tmp_path: Path) -> None:
    names = {str(model_in(tmp_path, as_name=f"{i}.onnx").name) for i in range(12)}
    left = interrupted([*sorted(names), "-j", "2"], tmp_path, "*.folded.onnx")
    assert names < left
    for name in left - names:
        assert name.endswith(".folded.onnx")
        assert normalizations(load(tmp_path / name)) == 0


def test_a_bug_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bnfold.many.task.fold_with", broken)
    source = model_in(tmp_path)
    result = run_here(source, cwd=tmp_path)
    assert (result.code, result.text) == (2, "")
    assert result.err.count("\n") == 1
    assert "this is a bug in bnfold" in result.err
    verbose = run_here(source, "-v", cwd=tmp_path)
    assert verbose.code == 2
    assert "Traceback" in verbose.err


# What a terminal, a shell or a file's name may do


@pytest.mark.parametrize("end", ["<&- -", ">&- net.onnx -o -"])
def test_a_closed_stream_is_no_pipe(tmp_path: Path, end: str) -> None:
    model_in(tmp_path, as_name="net.onnx")
    redirection, *words = end.split()
    shell = f"{' '.join(command(*words))} {redirection} 2>said"
    code = subprocess.run(["/bin/sh", "-c", shell], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert code.returncode == 2
    assert (tmp_path / "said").read_text().endswith("is closed\n")


def test_without_a_place_for_messages_the_work_is_done(tmp_path: Path) -> None:
    model_in(tmp_path, as_name="net.onnx")
    shell = f"{' '.join(command('net.onnx', '--no-verify'))} 2>&-"
    code = subprocess.run(["/bin/sh", "-c", shell], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert code.returncode == 0
    assert (tmp_path / "net.folded.onnx").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("words", "where", "code", "told"),
    [
        ("net.onnx", ">/dev/full", 2, "the output: No space left on device; the model was written"),
        ("net.onnx", ">/dev/full 2>&1", 2, ""),
        ("missing.onnx", "2>/dev/full", 2, ""),
        ("--help", ">/dev/full", 2, "the output: No space left on device"),
        ("verify --help", ">/dev/full", 2, "the output: No space left on device"),
        ("ops", ">/dev/full 2>&1", 2, ""),
    ],
)
def test_what_cannot_be_said_is_exit_code_2(
    words: str, where: str, code: int, told: str, tmp_path: Path
) -> None:
    model_in(tmp_path, as_name="net.onnx")
    options = ["--no-verify", "--report", "r.json"] if words == "net.onnx" else []
    shell = f"{' '.join(command(*words.split(), *options))} 2>said {where}"
    done = subprocess.run(["/bin/sh", "-c", shell], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert done.returncode == code
    assert (tmp_path / "said").read_text() == (f"bnfold: {told}\n" if told else "")
    if options:
        assert json.loads((tmp_path / "r.json").read_text())["written"]


@pytest.mark.skipif(sys.platform != "linux", reason="where names are UTF-8 by law")
def test_names_need_not_be_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    source, target = folder / os.fsdecode(b"\xfe.onnx"), folder / os.fsdecode(b"\xfd.onnx")
    source.write_bytes((MODELS / "digits.onnx").read_bytes())
    assert run(source, "-o", target, cwd=tmp_path).code == 0
    compared = run("verify", source, target, cwd=tmp_path)
    assert compared.code == 0
    assert "cpu: " in compared.text
    refused(run(source, "--external-data", cwd=tmp_path), "needs a path in UTF-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_a_pipe_is_told_in_one_line(tmp_path: Path) -> None:
    model_in(tmp_path, as_name="net.onnx")
    shell = f"{' '.join(command('net.onnx', '-o', '-', '--no-verify'))} >/dev/full 2>said"
    code = subprocess.run(["/bin/sh", "-c", shell], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert code.returncode == 2
    said = (tmp_path / "said").read_text()
    assert "No space left on device" in said
    assert "bug" not in said
    assert said.count("\n") == 1


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.onnx").write_bytes(b"not a model")
    refused(run("a\nb.onnx", cwd=tmp_path), r"a\nb.onnx")


def test_what_a_file_says_is_quoted_only_so_far(tmp_path: Path) -> None:
    model = convolution(channels=64)
    model.graph.initializer[0].dims[:] = [1] * 50_000
    result = run(write(model, tmp_path / "net.onnx"), cwd=tmp_path)
    refused(result)
    assert len(result.err) < 2200


def test_a_file_may_be_called_as_the_pipe_is(tmp_path: Path) -> None:
    model_in(tmp_path, as_name="-")
    assert run("./-", "-o", "out.onnx", "--no-verify", cwd=tmp_path).code == 0
    assert normalizations(load(tmp_path / "out.onnx")) == 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal of POSIX")
def test_a_killed_pipe_leaves_no_copy(tmp_path: Path) -> None:
    source = model_in(tmp_path).read_bytes()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        command("-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**ENVIRONMENT, "TMPDIR": str(scratch)},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(source[:1000])
        process.stdin.flush()
        _wait_until(lambda: any(scratch.rglob("stdin.onnx")))
        process.kill()
    _wait_until(lambda: not files(scratch))


def _wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_input_that_no_memory_holds_is_named(tmp_path: Path) -> None:
    model = load(MODELS / "kept.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 62
    write(model, tmp_path / "endless.onnx")
    result = run("endless.onnx", cwd=tmp_path)
    assert result.code == 0
    assert "verification passed by proof" in result.text
    assert "input 'x' of [4611686018427387904, 3, 32, 32] is too large" in result.text
