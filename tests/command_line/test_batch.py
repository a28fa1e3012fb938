"""Several models at a time."""

import json
import pickle
import subprocess
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, command, convolution, files, model_in, run, write

import bnfold
from bnfold.command_line.batch import run_all
from bnfold.command_line.sources import PIPE, Request, find_sources
from bnfold.many.outcome import Outcome
from bnfold.options import FileOptions
from bnfold.reports.report import Exit, Failure, Report


def asked(
    output: Path | None = None,
    directory: Path | None = None,
    *,
    in_place: bool = False,
    check: bool = False,
) -> Request:
    how = FileOptions(verify=None, in_place=in_place, check=check)
    return Request(output, directory, how)


def test_every_source_has_its_outcome(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in names]
    sources.insert(2, tmp_path / "missing.onnx")
    for jobs in (1, 3):
        outcomes = {o.source: o for o in run_all(find_sources(sources), asked(), hands=jobs)}
        assert [int(outcomes[source].exit_code) for source in sources] == [0, 0, 2, 0, 0]
        assert len(outcomes) == len(sources)
        assert "missing.onnx" in outcomes[sources[2]].error


def test_one_process_keeps_the_order_of_the_sources(tmp_path: Path) -> None:
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in "abc"]
    outcomes = [*run_all(find_sources(sources), asked(check=True), hands=1)]
    assert [outcome.source for outcome in outcomes] == sources


def test_every_outcome_has_an_entry(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    good, bad = run_all(find_sources([source, tmp_path / "missing.onnx"]), asked(check=True))
    assert isinstance(good.entry, Report)
    assert isinstance(bad.entry, Failure)
    assert bad.entry.to_dict()["exit_code"] == 2
    assert bad.entry.to_dict()["source"]["path"] == str(tmp_path / "missing.onnx")


def test_when_all_are_done_no_time_is_left(tmp_path: Path) -> None:
    steps: list[str] = []
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in "ab"]
    _ = [*run_all(find_sources(sources), asked(check=True), step=steps.append)]
    assert steps[-1] == "2 of 2 models done"


def test_every_step_is_told(tmp_path: Path) -> None:
    steps: list[str] = []
    source = write(convolution(), tmp_path / "net.onnx")
    _ = [*run_all(find_sources([source]), asked(check=True), step=steps.append)]
    assert all(step.startswith(f"{source}: ") for step in steps)
    assert any("2 nodes, of which 1 are" in step for step in steps)


def test_steps_of_several_are_told_by_the_process_that_is_at_them(tmp_path: Path) -> None:
    steps: list[str] = []
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in "ab"]
    _ = [*run_all(find_sources(sources), asked(check=True), step=steps.append)]
    for source, done in zip(sources, ("0 of 2", "1 of 2"), strict=True):
        told = [step for step in steps if str(source) in step and "of which 1 are" in step]
        assert len(told) == 1
        assert told[0].startswith(done)


def test_each_outcome_is_told_at_once(tmp_path: Path) -> None:
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in "abc"]
    told = []
    for outcome in run_all(find_sources([*sources, tmp_path / "missing"]), asked(), hands=2):
        if outcome.exit_code is Exit.DONE:
            assert (tmp_path / f"{outcome.source.stem}.folded.onnx").exists()
            told.append(outcome.source)
        assert outcome.seconds > 0
    assert sorted(told) == sources


def test_where_models_go(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    folder = tmp_path / "new" / "out"
    _ = [*run_all(find_sources([source]), asked(directory=folder, check=True))]
    assert files(tmp_path) == {"net.onnx"}
    for request in (asked(directory=folder), asked(output=tmp_path / "other.onnx")):
        _ = [*run_all(find_sources([source]), request)]
    assert files(tmp_path) == {"net.onnx", "new", "new/out", "new/out/net.onnx", "other.onnx"}


@pytest.mark.parametrize(
    "request_",
    [
        asked(output=Path("x.onnx")),
        asked(output=Path("x.onnx"), in_place=True),
        asked(directory=Path(__file__)),
        asked(directory=Path(__file__) / "out"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, request_: Request) -> None:
    sources = [write(convolution(), tmp_path / f"{name}.onnx") for name in "ab"]
    with pytest.raises(bnfold.RequestError):
        run_all(find_sources(sources), request_)


@pytest.mark.parametrize(
    ("request_", "sources", "piped"),
    [
        (asked(), ["-"], True),
        (asked(), ["a.onnx"], False),
        (asked(output=PIPE), ["a.onnx"], True),
        (asked(output=PIPE, check=True), ["a.onnx"], False),
        (asked(output=Path("b.onnx")), ["-"], False),
    ],
)
def test_who_writes_to_stdout(request_: Request, sources: list[str], piped: bool) -> None:  # noqa: FBT001
    assert request_.writes_to_stdout([Path(source) for source in sources]) is piped


def test_what_the_system_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = model_in(tmp_path)
    raised: list[tuple[BaseException, str]] = [
        (OSError(28, "No space left on device"), f"{source}: No space left on device"),
        (OSError(13, "Permission denied", "net.data"), "net.data: Permission denied"),
        (MemoryError(), "not enough memory"),
        (KeyError("k"), "bug in bnfold"),
    ]
    for error, text in raised:
        monkeypatch.setattr("bnfold.many.task.fold_with", _raising(error))
        (outcome,) = run_all(find_sources([source]), asked())
        assert outcome.exit_code is Exit.BAD_REQUEST
        assert text in outcome.error
        assert "\n" not in outcome.error
        assert bool(outcome.trace) == isinstance(error, KeyError)


def _raising(error: BaseException) -> object:
    def fold_with(*_: object, **__: object) -> None:
        raise error

    return fold_with


def test_outcomes_travel_between_processes(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    (outcome,) = run_all(find_sources([source]), asked())
    again = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - our own
    assert isinstance(again, Outcome)
    assert again.entry.to_dict() == outcome.entry.to_dict()


CRASHING = """
import os, signal, sys

def strike(event, arguments):
    if event == "open" and str(arguments[0]).endswith("crash.onnx"):
        os.kill(os.getpid(), signal.SIGSEGV)

if "bnfold.processes.serving" in sys.orig_argv:
    sys.addaudithook(strike)
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_crash_takes_only_its_model_with_it(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASHING)
    names = [write(convolution(), tmp_path / f"{n}.onnx").name for n in ("a", "crash", "b", "c")]
    done = subprocess.run(
        command(*names, "--no-verify", "-j", jobs),
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": f"{tmp_path / 'site'}:{ENVIRONMENT['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "bnfold: crash.onnx: the process that folded it crashed (SIGSEGV)\n"
    assert done.stdout.splitlines()[-2:] == ["failed: crash.onnx", "4 models: 3 written, 1 failed"]


def test_what_is_there_is_told_so(tmp_path: Path) -> None:
    for name in ("zoo/a.onnx", "zoo/deep/b.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        write(convolution(), tmp_path / name)
    (tmp_path / "zoo" / "out").mkdir()
    words = ("zoo/**/*.onnx", "-d", "zoo/out", "--no-verify", "--skip-existing")
    assert run(*words, cwd=tmp_path).text.splitlines()[-1] == "2 models: 2 written"
    again = run(*words, "--report", "r.json", cwd=tmp_path)
    assert "there already" in again.text
    lines = again.text.splitlines()
    assert lines[-3:-1] == [
        "passed over: 2 folded models of an earlier run",
        "2 models: 2 there already",
    ]
    told = json.loads((tmp_path / "r.json").read_text())
    assert [entry["existing"] for entry in told] == [True, True]
    one = run("zoo/a.onnx", *words[1:], cwd=tmp_path)
    assert "there already" in one.text
