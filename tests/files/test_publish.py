"""Saving that fails, is interrupted or killed: at every call to the system, one after the other.

Whatever happens, a reader finds a whole model, the old one or the new one, and no litter.
"""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from handmade import model, refer, save_external, tensor
from onnx import numpy_helper

import bnfold
from bnfold.errors import BnfoldError, RequestError
from bnfold.files import Recipe, Scaled, copy_model, open_model, reference, stage, tidy
from bnfold.files.atomic import Staged

CALLS = (
    (os, "open"),
    (os, "write"),
    (os, "copy_file_range"),
    (os, "fsync"),
    (os, "link"),
    (os, "fchmod"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "unlink"),  # the last: to clean up is possible, except for the dead
)
"""The calls that change something on the disk."""

OLD, NEW = 1.0, 3.0
WEIGHT = np.frombuffer(tensor("w").raw_data, np.float32)


def value_of(path: Path) -> float:
    """By what the model at `path` has multiplied its weight, which must be whole."""
    with open_model(path) as opened:
        values = opened.read(opened.proto.graph.initializer[0])
        factor = float(values[0] / WEIGHT[0])
        assert np.array_equal(values, WEIGHT * np.float32(factor))
    assert_loadable(path)
    return round(factor, 3)


def assert_loadable(path: Path) -> None:
    """Whether onnx and ONNX Runtime load a model, not only bnfold."""
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0])  # noqa: TID251
    assert np.isfinite(weight).all()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it says that nobody reads the weight
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def save_tripled(
    source: Path, target: Path, check: Callable[[Path], None] | None = None, **options: bool
) -> None:
    with open_model(source) as opened:
        proto = onnx.ModelProto()
        proto.CopyFrom(opened.proto)
        recipes: dict[str, Recipe] = {}
        old = opened.proto.graph.initializer[0]
        recipe = Scaled(opened, old, np.array([NEW]))
        proto.graph.initializer[0].CopyFrom(reference("w", recipe, recipes))
        with stage(opened, proto, recipes, target, **options) as staged:
            if check is not None:
                check(staged.path)
            staged.publish()


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


class Scenario:
    """A source, a target that may already be there, and how to save the one as the other."""

    def __init__(self, form: str, folder: Path) -> None:
        self.form, self.folder = form, folder
        self.source = folder / "source.onnx"
        self.target = folder / "target.onnx"
        made = model([tensor("w")])
        if form in ("external to new", "external to old", "external in place", "copy"):
            save_external(made, self.source, "source.onnx.data")
        else:
            self.source.write_bytes(made.SerializeToString())
        if form in ("inline to old", "inline to external"):
            self.target.write_bytes(made.SerializeToString())
        if form in ("external to old", "inline to external"):
            save_external(made, self.target, "target.onnx.data")
        if form == "external in place":
            self.target = self.source
        if form == "copy":
            self.target = folder / "copies" / "source.onnx"
            self.target.parent.mkdir()

    def made(self) -> set[str]:
        """The files that there are for the target in the end."""
        name = str(self.target.relative_to(self.folder))
        return {name, f"{name}.data"} if "external" in self.form or self.form == "copy" else {name}

    def results(self, before: set[str]) -> list[set[str]]:
        """The files that there may be in the end: the data may not have its usual name yet."""
        after = before | self.made()
        data = f"{self.target.name}.data"
        return [after, after - {data} | {f"{self.target.name}.1.data"}]

    def act(self, check: Callable[[Path], None] | None = None) -> None:
        if self.form == "copy":
            with open_model(self.source) as opened:
                copy_model(opened, self.target)
            return
        options = {"external_data": True} if self.form == "inline to external" else {}
        save_tripled(self.source, self.target, check, **options)


FORMS = (
    "inline to new",
    "inline to old",
    "inline to external",
    "external to new",
    "external to old",
    "external in place",
    "copy",
)


def fail_at(
    patch: pytest.MonkeyPatch, number: int, failure: Callable[[], None]
) -> Callable[[], int]:
    """Let `failure` happen before the numbered call; return what counts the calls."""
    count, system_open = 0, os.open

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if call is system_open and not args[1] & os.O_WRONLY:
                return call(*args, **kwargs)  # to read is no change
            count += 1
            if count == number:
                failure()
            return call(*args, **kwargs)

        return wrapped

    calls = CALLS if failure is kill_myself else CALLS[:-1]
    for owner, name in calls:
        if hasattr(owner, name):
            patch.setattr(owner, name, wrap(getattr(owner, name)))
    return lambda: count


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("anonymous", [True, False])
@pytest.mark.parametrize("failure", [disk_full, interrupt])
@pytest.mark.parametrize("form", FORMS)
def test_a_failing_call_leaves_a_whole_model_and_no_litter(
    tmp_path: Path, form: str, failure: Callable[[], None], *, anonymous: bool
) -> None:
    number, failed = 0, True
    while failed:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        scenario = Scenario(form, folder)
        before = files(folder)
        with pytest.MonkeyPatch.context() as patch:
            if not anonymous:
                patch.delattr(os, "O_TMPFILE", raising=False)
            calls = fail_at(patch, number, failure)
            try:
                scenario.act()
            except (RequestError, KeyboardInterrupt) as error:
                assert failure is interrupt or "No space left" in str(error)  # noqa: PT017
            failed = calls() >= number
        assert value_of(scenario.source) in (OLD, NEW)
        if scenario.target.exists():
            assert value_of(scenario.target) in (OLD, NEW)
        assert files(folder) in (before, *scenario.results(before))
        shutil.rmtree(folder)
    assert number > 5


def forked(act: Callable[[], None]) -> int:
    """Run `act` in a fork of this process; return its identifier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks where threads are
        child = os.fork()
    if child:
        return child
    try:
        act()
    finally:
        os._exit(0)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def assert_whole(scenario: Scenario, before: set[str]) -> None:
    """The models can be read, and any other run cleans up, and may succeed."""
    assert value_of(scenario.source) in (OLD, NEW)
    if scenario.target.exists():
        assert value_of(scenario.target) in (OLD, NEW)
    else:
        assert not scenario.made() & before
    tidy(scenario.target.parent)
    assert files(scenario.folder) in (before, *scenario.results(before))
    scenario.act()
    assert files(scenario.folder) == before | scenario.made(), "what a killed run left is gone"


@needs_fork
@pytest.mark.parametrize("form", FORMS)
def test_a_kill_before_any_call_leaves_a_whole_model(tmp_path: Path, form: str) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        scenario = Scenario(form, folder)
        before = files(folder)

        def act() -> None:
            with pytest.MonkeyPatch.context() as patch:
                fail_at(patch, number, kill_myself)  # noqa: B023 - runs at once, in the fork
                scenario.act()  # noqa: B023

        _, status = os.waitpid(forked(act), 0)
        killed = os.WIFSIGNALED(status)
        assert_whole(scenario, before)
        shutil.rmtree(folder)
    assert number > 5


def killed_with_both(folder: Path) -> Scenario:
    """Leave a folder as a run does that is killed when the new data is there, but not its model."""
    scenario = Scenario("external to old", folder)
    replace = Path.replace

    def killing(self: Path, target: Path) -> Path:
        if target.suffix == ".onnx":
            kill_myself()
        return replace(self, target)

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", killing)
            scenario.act()

    os.waitpid(forked(act), 0)
    hidden = [name for name in files(folder) if name.startswith(".")]
    assert sorted(name.rpartition("-")[2] for name in hidden) == ["journal", "partial"]
    assert (folder / "target.onnx.1.data").exists()
    assert value_of(scenario.target) == OLD
    return scenario


@needs_fork
@pytest.mark.parametrize(
    "mode", [{"check": True}, {"in_place": True}, {"target": "other.onnx"}, {"bn_only": True}]
)
def test_whatever_the_next_run_in_a_folder_does_it_cleans_up(
    tmp_path: Path, mode: dict[str, Any]
) -> None:
    killed_with_both(tmp_path)
    if "target" in mode:
        mode = {"target": tmp_path / mode["target"]}
    another = tmp_path / "another.onnx"
    another.write_bytes(model([tensor("w")]).SerializeToString())
    kept = {"source.onnx", "source.onnx.data", "target.onnx", "target.onnx.data", "another.onnx"}
    bnfold.fold_file(another, verify=None, **mode)
    assert kept <= files(tmp_path) <= kept | {"other.onnx", "another.folded.onnx"}


@needs_fork
def test_to_verify_in_a_folder_cleans_up_too(tmp_path: Path) -> None:
    scenario = killed_with_both(tmp_path)
    bnfold.verify(scenario.source, scenario.target)
    names = {"source.onnx", "source.onnx.data", "target.onnx", "target.onnx.data"}
    assert files(tmp_path) == names


@needs_fork
def test_what_a_journal_says_of_other_files_is_not_believed(tmp_path: Path) -> None:
    scenario = killed_with_both(tmp_path)
    (journal,) = tmp_path.glob(".*.bnfold-journal")
    told = json.loads(journal.read_text("ascii"))
    mine = tmp_path / "target.onnx.2.data"
    for name in ("mine.txt", "target.onnx.2.data"):
        (tmp_path / name).write_text("mine")
        status = (tmp_path / name).stat()
        told["data"][name] = [status.st_dev, status.st_ino]
    told["data"]["target.onnx.2.data"][1] += 1  # another file, which was there before
    journal.write_text(json.dumps(told))
    for number, text in enumerate(("", "[]", '{"model": "../m"}', '{"model": 1, "data": [1]}')):
        (tmp_path / f".m.0000000{number}.bnfold-journal").write_text(text)
    tidy(tmp_path)
    assert mine.read_text() == (tmp_path / "mine.txt").read_text() == "mine"
    assert value_of(scenario.target) == OLD
    assert not [name for name in files(tmp_path) if name.startswith(".")]
    assert not (tmp_path / "target.onnx.1.data").exists()


@needs_fork
def test_where_somebody_is_at_work_nothing_is_cleaned_up(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    killed_with_both(tmp_path)
    before = files(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    tidy(tmp_path)
    assert files(tmp_path) == before
    os.close(descriptor)
    tidy(tmp_path)
    assert files(tmp_path) < before


def test_the_data_keeps_the_name_it_has_if_it_cannot_have_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario("external in place", tmp_path)
    create = Staged.create

    def full(target: Path, *, like: Path | None = None) -> Staged:
        if like is not None and like.name == "source.onnx.1.data":
            disk_full()
        return create(target, like=like)

    with monkeypatch.context() as patch:
        patch.setattr(Staged, "create", full)
        scenario.act()
    assert value_of(scenario.target) == NEW
    assert files(tmp_path) == {"source.onnx", "source.onnx.1.data"}
    scenario.act()
    assert files(tmp_path) == {"source.onnx", "source.onnx.data"}


@needs_fork
@pytest.mark.parametrize("form", ["inline to old", "external to old", "external in place"])
def test_a_kill_at_a_random_moment_leaves_a_whole_model(tmp_path: Path, form: str) -> None:
    chance = random.Random(0)  # noqa: S311 - moments, not secrets
    start = time.perf_counter()
    Scenario(form, tmp_path).act()
    longest = time.perf_counter() - start
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        scenario = Scenario(form, folder)
        before = files(folder)
        child = forked(scenario.act)
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert_whole(scenario, before)


@pytest.mark.parametrize("form", FORMS[:-1])
def test_a_model_is_checked_before_it_takes_its_place(tmp_path: Path, form: str) -> None:
    scenario = Scenario(form, tmp_path)
    before = {path: (tmp_path / path).read_bytes() for path in files(tmp_path)}
    seen: list[float] = []

    def refuse(candidate: Path) -> None:
        assert candidate.parent == tmp_path, "data files are found beside it"
        seen.append(value_of(candidate))
        raise BnfoldError("it is wrong")

    with pytest.raises(BnfoldError, match="it is wrong"):
        scenario.act(refuse)
    assert {path: (tmp_path / path).read_bytes() for path in files(tmp_path)} == before
    scenario.act(lambda candidate: seen.append(value_of(candidate)))
    assert seen == [NEW, NEW]
    assert value_of(scenario.target) == NEW
    assert files(tmp_path) == set(before) | scenario.made()


@needs_fork
@pytest.mark.parametrize("form", FORMS[:-1])
def test_a_kill_while_the_model_is_checked_leaves_nothing(tmp_path: Path, form: str) -> None:
    scenario = Scenario(form, tmp_path)
    before = files(tmp_path)
    os.waitpid(forked(lambda: scenario.act(lambda _: kill_myself())), 0)
    deadline = time.monotonic() + 10
    while files(tmp_path) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert files(tmp_path) == before


FULL = """
import sys
from pathlib import Path
from bnfold.errors import RequestError
from bnfold.files import open_model, save_model

folder, source = map(Path, sys.argv[1:])
old = folder / "m.onnx"
old.write_bytes(b"old")
for external in (False, True):
    with open_model(source) as opened:
        try:
            save_model(opened, opened.proto, {}, old, external_data=external)
        except RequestError as error:
            print(error)
    assert old.read_bytes() == b"old"
    assert [p.name for p in folder.iterdir()] == ["m.onnx"]
"""


ANOTHER = """
import sys
from pathlib import Path
from bnfold.files import copy_model, open_model
with open_model(Path(sys.argv[1])) as opened:
    copy_model(opened, Path(sys.argv[2]), external_data=True)
"""


@pytest.mark.parametrize("form", ["external to new", "external to old"])
@pytest.mark.parametrize("step", range(1, 4))
def test_processes_that_write_the_same_model_wait_for_each_other(
    form: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the one's model may be left with the other's data."""
    case = Scenario(form, tmp_path)
    others = save_external(model([tensor("w", seed=7)]), tmp_path / "others.onnx", "others.bin")
    command = [sys.executable, "-c", ANOTHER, str(others), str(case.target)]
    replace, started, calls = Path.replace, [], 0

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == step:
            started.append(subprocess.Popen(command))
            with contextlib.suppress(subprocess.TimeoutExpired):
                started[0].wait(2)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    case.act()
    for process in started:
        assert process.wait(60) == 0
    with open_model(case.target) as opened:
        found = opened.read(opened.proto.graph.initializer[0])
    expected = tensor("w", seed=7).raw_data if started else (WEIGHT * np.float32(NEW)).tobytes()
    assert found.tobytes() == expected


def test_a_folder_that_stays_locked_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    case = Scenario("external to old", tmp_path)
    monkeypatch.setattr("bnfold.files.leftovers._PATIENCE", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(RequestError, match=r"target.onnx: another process is writing into this"):
        case.act()
    assert value_of(case.target) == OLD
    os.close(descriptor)
    case.act()
    assert value_of(case.target) == NEW


def test_where_folders_cannot_be_locked_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    case = Scenario("external to old", tmp_path)
    monkeypatch.setattr("bnfold.files.leftovers.lock", refuse)
    case.act()
    assert value_of(case.target) == NEW


def test_a_file_on_its_way_is_no_more_open_than_the_one_it_replaces(tmp_path: Path) -> None:
    case = Scenario("external to old", tmp_path)
    case.target.chmod(0o600)
    data = case.target.with_name("target.onnx.data")
    data.chmod(0o640)

    def check(candidate: Path) -> None:
        with open_model(candidate) as opened:
            (location,) = opened.locations
        assert candidate.stat().st_mode & 0o777 == 0o600
        assert candidate.with_name(location).stat().st_mode & 0o777 == 0o640

    case.act(check)


def test_a_model_whose_name_is_long_has_its_data_beside_it(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(model([tensor("w")]).SerializeToString())
    target = tmp_path / ("m" * 245 + ".onnx")
    for _ in range(2):
        save_tripled(source, target, external_data=True)
        assert value_of(target) == NEW
    assert files(tmp_path) == {"m.onnx", target.name, f"{target.name}.data"}


@pytest.mark.skipif(not shutil.which("unshare"), reason="a file system is mounted with unshare")
def test_a_disk_that_is_really_full_leaves_the_old_model(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    source = tmp_path / "m.onnx"
    source.write_bytes(model([tensor("w", 1 << 20)]).SerializeToString())
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f"mount -t tmpfs -o size=2m tmpfs {small}"
    if subprocess.run([*private, mount], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    command = [*private, f'{mount}; exec "$@"', "sh", sys.executable, "-c", FULL]
    done = subprocess.run(
        [*command, str(small), str(source)], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("m.onnx: No space left on device\n") == 2


def test_a_model_never_overwrites_what_it_is_read_from(tmp_path: Path) -> None:
    source = save_external(model([tensor("w")]), tmp_path / "a.onnx", "b.onnx.data")
    with pytest.raises(RequestError, match="this is a data file of the model"):
        save_tripled(source, tmp_path / "b.onnx.data")
    with pytest.raises(RequestError, match="has its data in this file"):
        save_tripled(source, tmp_path / "b.onnx")
    inline = tmp_path / "c.onnx.data"
    inline.write_bytes(model([tensor("w")]).SerializeToString())
    with pytest.raises(RequestError, match="the model that is being read"):
        save_tripled(inline, tmp_path / "c.onnx", external_data=True)
    source = save_external(model([tensor("w")]), tmp_path / "d.onnx", "d.onnx.data")
    with pytest.raises(RequestError, match="has its data in this file"):
        save_tripled(source, source, share_data=True)
    assert value_of(tmp_path / "a.onnx") == value_of(inline) == value_of(source) == OLD


def test_the_data_of_another_model_is_not_replaced(tmp_path: Path) -> None:
    """Models that share data, as `share_data` makes them, or two of which one was renamed."""
    source = save_external(model([tensor("w")]), tmp_path / "m.onnx", "m.onnx.data")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "folder.onnx").mkdir()
    strange = model([refer("w", [1], "a\0b")])
    (tmp_path / "strange.onnx").write_bytes(strange.SerializeToString())
    save_tripled(source, source)
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(source.read_bytes())
    inline = tmp_path / "inline"
    inline.write_bytes(model([tensor("w")]).SerializeToString())
    for model_in_place in (source, inline):
        with pytest.raises(RequestError, match=r"m.onnx.data: kept.onnx has its data in this"):
            save_tripled(model_in_place, source, external_data=True)
    assert value_of(kept) == value_of(source) == NEW
    kept.unlink()
    save_tripled(source, source)


@pytest.mark.parametrize("kind", ["above", "otherwise called", "too new"])
def test_whoever_reads_a_data_file_keeps_it(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    source = folder / "m.onnx"
    source.write_bytes(model([tensor("w")]).SerializeToString())
    data = folder / "x.onnx.data"
    other = save_external(model([tensor("w")]), folder / "y.onnx", "x.onnx.data")
    if kind == "above":
        proto = onnx.ModelProto.FromString(other.read_bytes())
        proto.graph.initializer[0].external_data[0].value = "folder/x.onnx.data"
        other.unlink()
        other = tmp_path / "y.onnx"
        other.write_bytes(proto.SerializeToString())
    elif kind == "otherwise called":
        other = other.rename(folder / "y.pb")
    else:
        proto = onnx.ModelProto.FromString(other.read_bytes())
        proto.ir_version = 10_000
        other.write_bytes(proto.SerializeToString())
    before = data.read_bytes()
    with pytest.raises(RequestError, match=rf"x.onnx.data: .*{other.name} has its data in this"):
        save_tripled(source, folder / "x.onnx", external_data=True)
    assert data.read_bytes() == before
    other.unlink()
    save_tripled(source, folder / "x.onnx", external_data=True)
    assert value_of(folder / "x.onnx") == NEW


def test_an_odd_data_file_in_the_way_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(model([tensor("w")]).SerializeToString())
    (tmp_path / "out.onnx.data").mkdir()
    with pytest.raises(RequestError, match=r"out.onnx.data: this is not a regular file"):
        save_tripled(source, tmp_path / "out.onnx", external_data=True)
    (tmp_path / "kept.onnx.data").touch()
    with monkeypatch.context() as patch:  # root may write anything, so it is asked to pretend
        patch.setattr(os, "access", lambda path, _: Path(path).suffix != ".data")
        with pytest.raises(RequestError, match=r"kept.onnx.data: the file is write-protected"):
            save_tripled(source, tmp_path / "kept.onnx", external_data=True)
    (tmp_path / "other.onnx.data").symlink_to("m.onnx")
    with pytest.raises(RequestError, match=r"other.onnx.data: this is not a regular file"):
        save_tripled(source, tmp_path / "other.onnx", external_data=True)


def test_a_linked_target_takes_an_inline_model_only(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(model([tensor("w")]).SerializeToString())
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.onnx").symlink_to("sub/real.onnx")
    save_tripled(source, tmp_path / "link.onnx")
    assert value_of(tmp_path / "sub" / "real.onnx") == NEW
    with pytest.raises(RequestError, match="a symbolic link's target"):
        save_tripled(source, tmp_path / "link.onnx", external_data=True)


def test_a_hugging_face_cache_is_not_written_to(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1").write_bytes(model([tensor("w")]).SerializeToString())
    (snapshot / "m.onnx").symlink_to("../../blobs/1")
    with pytest.raises(RequestError, match="Hugging Face cache"):
        save_tripled(snapshot / "m.onnx", snapshot / "m.onnx")
    save_tripled(snapshot / "m.onnx", snapshot / "m.folded.onnx")
