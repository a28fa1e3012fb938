"""Many models in whatever executor there is."""

import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commandline import MODELS, convolution, files, load, model_in, normalizations, write
from onnx import TensorProto, helper, numpy_helper
from poison import Poisoned

import bnfold
from bnfold.many.records import FOLDER
from bnfold.many.task import Task, fold_one
from bnfold.options import FileOptions
from bnfold.processes.pool import Processes
from bnfold.reports.report import Exit

QUICK: Any = {"verify": None}


def zoo(folder: Path, *names: str) -> list[tuple[Path, Path]]:
    """Make models, and say where they go."""
    (folder / "out").mkdir()
    return [
        (write(convolution(), folder / f"{name}.onnx"), folder / "out" / f"{name}.onnx")
        for name in names
    ]


def by_name(outcomes: Iterator[bnfold.Outcome]) -> dict[str, bnfold.Outcome]:
    found = [*outcomes]
    named = {outcome.source.stem: outcome for outcome in found}
    assert len(named) == len(found), "each has one outcome"
    return named


def require_folded(outcome: bnfold.Outcome) -> None:
    assert outcome.ok, outcome.error
    assert outcome.written
    assert outcome.target is not None
    assert normalizations(load(outcome.target)) == 0


# Executors of all kinds


def test_processes_of_its_own(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, *"abcd")
    outcomes = by_name(bnfold.fold_many(pairs, jobs=2, **QUICK))
    assert set(outcomes) == set("abcd")
    for outcome in outcomes.values():
        require_folded(outcome)
    assert files(tmp_path / "out") == {f"{name}.onnx" for name in "abcd"}


def test_any_executor_and_it_stays_open(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, *"abc")
    with ThreadPoolExecutor(2) as executor:
        for outcome in bnfold.fold_many(pairs, executor=executor, **QUICK):
            require_folded(outcome)
        assert executor.submit(int, "7").result() == 7
    assert files(tmp_path / "out") == {f"{name}.onnx" for name in "abc"}, "no record is left"


def test_files_are_called_as_the_user_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo(tmp_path, "a")
    (tmp_path / "bad.onnx").write_text("no model")
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        found = by_name(
            bnfold.fold_many(
                [("a.onnx", None), ("bad.onnx", "out/bad.onnx"), ("gone.onnx", None)],
                executor=executor,
                **QUICK,
            )
        )
    report = found["a"].report
    assert report is not None
    assert report.target is not None
    assert (report.source.path, report.target.path) == ("a.onnx", "a.folded.onnx")
    assert found["bad"].error.startswith("bad.onnx: ")
    assert found["bad"].target == Path("out/bad.onnx")
    assert found["gone"].error == "gone.onnx: No such file or directory"


def test_what_travels_is_small(tmp_path: Path) -> None:
    source = model_in(tmp_path, "mixnet")
    task = Task(source, None, FileOptions()).from_anywhere()
    assert len(pickle.dumps(task)) < 2000
    outcome = fold_one(task)
    assert outcome.report is not None
    assert len(outcome.report.folds) > 10
    assert len(pickle.dumps(outcome)) < 3000 * len(outcome.report.folds)


# One model must not harm the others


def test_a_model_that_kills_an_executor_is_found_out(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, "a", "poison", "b", "c", "poison2", "d")
    Poisoned.made = 0
    outcomes = by_name(bnfold.fold_many(pairs, executor=Poisoned, **QUICK))
    for name in "abcd":
        require_folded(outcomes[name])
    for name in ("poison", "poison2"):
        assert outcomes[name].lost
        assert outcomes[name].exit_code is Exit.BAD_REQUEST
        assert "the process that folded it died: A process in the process pool" in (
            outcomes[name].error
        )
    assert 2 <= Poisoned.made <= 5


def test_what_a_broken_executor_leaves_is_told_as_lost(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, "a", "poison", *"bcdefg")
    with Poisoned() as executor:
        outcomes = by_name(bnfold.fold_many(pairs, executor=executor, ahead=2, **QUICK))
    assert set(outcomes) == {"a", "poison", *"bcdefg"}
    for outcome in outcomes.values():
        assert outcome.ok or (outcome.lost and "it was not " in outcome.error)
    assert outcomes["poison"].lost
    assert not (tmp_path / "out" / "poison.onnx").exists()
    again = by_name(bnfold.fold_many([p for p in pairs if p[0].stem != "poison"], **QUICK))
    assert all(outcome.ok for outcome in again.values())


def test_executors_that_only_break_come_to_an_end(tmp_path: Path) -> None:
    class Broken(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            raise BrokenExecutor("it is out of order")

    pairs = zoo(tmp_path, *"abc")
    outcomes = by_name(bnfold.fold_many(pairs, executor=lambda: Broken(1), **QUICK))
    assert all(o.lost and "it is out of order" in o.error for o in outcomes.values())
    assert len(outcomes) == 3

    def none() -> Executor:
        raise OSError("no machine is free")

    outcomes = by_name(bnfold.fold_many(pairs, executor=none, **QUICK))
    assert all(o.lost and "no machine is free" in o.error for o in outcomes.values())


def test_an_executor_that_was_shut_down_loses_nothing(tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    outcomes = by_name(bnfold.fold_many(zoo(tmp_path, *"ab"), executor=executor, **QUICK))
    assert all(outcome.lost for outcome in outcomes.values())
    assert set(outcomes) == set("ab")


def test_pairs_that_touch_the_same_file_are_refused(tmp_path: Path) -> None:
    (a, to_a), (b, to_b) = zoo(tmp_path, "a", "b")
    pairs: list[tuple[str | Path, Path | None]] = [
        (a, to_a),
        (b, to_a),
        (to_a, to_b),
        (b, a),
        ("", to_b),
        (tmp_path, None),
    ]
    outcomes = [*bnfold.fold_many(pairs, jobs=1, **QUICK)]
    assert len(outcomes) == len(pairs)
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, False, False]
    assert "would be written here" in outcomes[1].error
    assert "is read and written" in outcomes[2].error


# Cancelling


class Gate(ThreadPoolExecutor):
    """An executor in which each model waits to be let through."""

    def __init__(self) -> None:
        super().__init__(1)
        self.opened = threading.Semaphore(0)
        self.asked = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked += 1

        def when_opened() -> Any:
            self.opened.acquire()
            return fn(*args, **kwargs)

        return super().submit(when_opened)


def test_closing_cancels_the_rest_and_waits_for_what_runs(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, *"abcdef")
    with Gate() as gate:
        outcomes = bnfold.fold_many(pairs, executor=gate, ahead=3, **QUICK)
        gate.opened.release()
        assert next(outcomes).source.stem == "a"
        gate.opened.release()
        outcomes.close()
        made = files(tmp_path / "out") - {FOLDER, f"{FOLDER}/b.onnx.json"}
        for _ in pairs:
            gate.opened.release()
    assert made <= {"a.onnx", "b.onnx"}
    assert made == files(tmp_path / "out") - {FOLDER, f"{FOLDER}/b.onnx.json"}


def test_pairs_are_fetched_as_they_are_needed(tmp_path: Path) -> None:
    fetched = []

    def pairs() -> Iterator[tuple[Path, Path | None]]:
        source = write(convolution(), tmp_path / "net.onnx")
        for number in range(100):
            fetched.append(number)
            yield source, tmp_path / f"{number}.onnx"

    with Gate() as gate:
        outcomes = bnfold.fold_many(pairs(), executor=gate, ahead=3, **QUICK)
        assert not fetched
        for done in range(1, 6):
            gate.opened.release()
            next(outcomes)
            assert len(fetched) <= done + 3
        gate.opened.release()
        outcomes.close()
    assert len(fetched) <= 8


def test_closing_ends_processes_of_its_own(tmp_path: Path) -> None:
    outcomes = bnfold.fold_many(zoo(tmp_path, *"abcdefgh"), jobs=1, **QUICK)
    next(outcomes)
    outcomes.close()
    made = files(tmp_path / "out")
    assert len(made) < 8
    for name in made:
        assert normalizations(load(tmp_path / "out" / name)) == 0


def test_options_that_make_no_sense_are_refused_at_once(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, "a")
    with pytest.raises(bnfold.RequestError, match="nonsense"):
        bnfold.fold_many(pairs, take_apart=["nonsense"])
    with pytest.raises(TypeError, match="VerifyOptions"):
        bnfold.fold_many(pairs, verify=True)  # type: ignore[arg-type]
    for wrong in (["net.onnx"], [("net.onnx",)]):
        with pytest.raises(TypeError, match=r"pairs are \(source, target\)"):
            next(bnfold.fold_many(wrong))  # type: ignore[arg-type]
    for words in ({"jobs": 0}, {"ahead": 0}, {"jobs": -1}):
        with pytest.raises(ValueError, match="1 or more"):
            bnfold.fold_many(pairs, **words)  # type: ignore[arg-type]


# What is there already


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, *"abcd")
    first = by_name(bnfold.fold_many(pairs, jobs=1, skip_existing=True, **QUICK))
    assert all(outcome.written for outcome in first.values())
    write(convolution(channels=5), pairs[0][0])  # another source
    with pairs[1][1].open("r+b") as file:
        file.truncate(100)  # not whole
    pairs[2][1].unlink()
    status = pairs[3][1].stat()
    again = by_name(bnfold.fold_many(pairs, jobs=1, skip_existing=True, **QUICK))
    assert {name: outcome.written for name, outcome in again.items()} == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip
    assert os.path.samestat(pairs[3][1].stat(), status)
    existing = again["d"].existing
    assert existing is not None
    told, then = again["d"].entry.to_dict(), first["d"].entry.to_dict()
    assert (told["existing"], told["written"]) == (True, False)
    assert {**told, "written": True} == {**then, "existing": True}
    assert again["d"].ok
    other = by_name(bnfold.fold_many(pairs, skip_existing=True, jobs=1, bn_only=True, **QUICK))
    assert all(outcome.written for outcome in other.values()), "with other options"
    verified = by_name(bnfold.fold_many(pairs[:1], skip_existing=True, jobs=1, bn_only=True))
    assert verified["a"].written, "it was not verified before"


def test_what_was_replaced_in_place_is_not_done_again(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "a.onnx")
    for written in (True, False):
        words: Any = {"in_place": True, "skip_existing": True, "jobs": 1, **QUICK}
        (outcome,) = bnfold.fold_many([(source, None)], **words)
        assert outcome.written is written
        assert outcome.ok


@pytest.mark.skipif(os.name != "posix", reason="where names are bytes")
def test_names_that_are_no_text_have_records(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / os.fsdecode(b"d\xff.onnx"))
    for written in (True, False):
        words: Any = {"skip_existing": True, "jobs": 1, **QUICK}
        (outcome,) = bnfold.fold_many([(source, None)], **words)
        assert (outcome.ok, outcome.error, outcome.written) == (True, "", written)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"run": 1, "how": "x"}', "\0", "{" * 9999])
def test_a_record_that_says_nothing_is_none(tmp_path: Path, record: str) -> None:
    pairs = zoo(tmp_path, "a")
    (tmp_path / "out" / FOLDER).mkdir()
    (tmp_path / "out" / FOLDER / "a.onnx.json").write_text(record)
    (outcome,) = bnfold.fold_many(pairs, jobs=1, skip_existing=True, **QUICK)
    assert outcome.written


def test_data_files_count_too(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    bnfold.fold_file(source, tmp_path / "net.onnx", verify=None, external_data=True)
    (tmp_path / "out").mkdir()
    pairs = [(tmp_path / "net.onnx", tmp_path / "out" / "net.onnx")]
    words: Any = {"jobs": 1, "skip_existing": True, **QUICK}
    assert [o.written for o in bnfold.fold_many(pairs, **words)] == [True]
    assert [o.written for o in bnfold.fold_many(pairs, **words)] == [False]
    for number, folder in enumerate((tmp_path, tmp_path / "out")):
        with (folder / "net.onnx.data").open("r+b") as file:
            file.seek(4096)
            file.write(bytes([number]) * 4)
        assert [o.written for o in bnfold.fold_many(pairs, **words)] == [True]
        assert [o.written for o in bnfold.fold_many(pairs, **words)] == [False]


def test_what_an_executor_does_twice_is_written_once(tmp_path: Path) -> None:
    """As Dask does when a worker dies that still has the results of what it did."""

    class Twice(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(lambda: (fn(*args, **kwargs), fn(*args, **kwargs))[1])

    (tmp_path / "out").mkdir()
    pairs = [(MODELS / "digits.onnx", tmp_path / "out" / "digits.onnx")]
    with Twice(1) as executor:
        (outcome,) = bnfold.fold_many(pairs, executor=executor, **QUICK)
    assert outcome.written
    assert outcome.existing is not None, "the second time nothing was written"
    told = outcome.entry.to_dict()
    assert (told["written"], told["existing"]) == (True, False)
    assert files(tmp_path / "out") == {"digits.onnx"}


def endless() -> onnx.ModelProto:
    """Return Conv → BatchNormalization and, beside it, a Loop of 2**60 turns."""
    model = convolution()
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v", 1, None)],
        [value("on", TensorProto.BOOL, []), value("w", 1, None)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**60), "turns"))
    model.graph.node.append(helper.make_node("Loop", ["turns", "", "x"], ["z"], body=body))
    model.graph.output.append(value("z", 1, None))
    return model


@pytest.mark.full
def test_a_model_that_takes_too_long_holds_no_other_up(tmp_path: Path) -> None:
    pairs = zoo(tmp_path, "a", "slow", "b", "c")
    write(endless(), pairs[1][0])
    how = bnfold.VerifyOptions(providers=("cpu",), timeout=10.0, time=0)
    for jobs in (1, 2):
        outcomes = by_name(bnfold.fold_many(pairs, jobs=jobs, verify=how))
        for name in "abc":
            require_folded(outcomes[name])
        assert outcomes["slow"].exit_code is Exit.NOT_VERIFIED
        assert "did not finish" in outcomes["slow"].error
        assert not pairs[1][1].exists()


def resident(process: int) -> int:
    """Return how many bytes of memory a process holds."""
    (line,) = [
        line
        for line in Path(f"/proc/{process}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return int(line.split()[1]) << 10


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_models(tmp_path: Path) -> None:
    """Neither that of the process that folds, nor that of the one that leads."""
    source = model_in(tmp_path, "mobilenet")
    pairs = [(source, tmp_path / f"{number}.onnx") for number in range(200)]
    held = []
    with Processes(1) as executor:
        for number, outcome in enumerate(bnfold.fold_many(pairs, executor=executor, **QUICK)):
            assert outcome.ok, outcome.error
            if number in (39, 199):
                (hand,) = executor._hands
                assert hand.process is not None
                held.append((resident(hand.process.pid), resident(os.getpid())))
    for early, late in zip(*held, strict=True):
        assert late - early < 8 << 20, "160 models more"
