"""The table of what changed, the files that were written, and how long it took."""

from dataclasses import replace
from pathlib import Path

import onnx
from commandline import MODELS, model_in, run_here

import bnfold
from bnfold.command_line.change_text import change_lines
from bnfold.reports.file_record import DataFile, FileRecord
from bnfold.reports.records import Counts, FoldRecord, NodeRecord
from bnfold.reports.report import Report, Seconds

FOLD = FoldRecord("output", (NodeRecord("BatchNormalization", "bn", "y"),), (), ())
REPORT = Report(
    FileRecord("in/net.onnx", size=1200, data_files=(DataFile("net.bin", 3_000_000),)),
    FileRecord("net.folded.onnx", size=900, data_files=(DataFile("net.folded.onnx.data", 2_000),)),
    written=True,
    before=Counts(130, 9, {"BatchNormalization": 9, "Conv": 9, "Relu": 112}),
    after=Counts(122, 0, {"Add": 1, "Conv": 9, "Relu": 112}),
    folds=(FOLD,),
    seconds=Seconds(fold=1.25, verify=12.0),
)


def lines(report: Report, *, verbose: bool = False) -> list[str]:
    return list(change_lines(report, verbose=verbose))


def test_operators_that_changed_all_nodes_and_bytes_with_data_files() -> None:
    assert lines(REPORT) == [
        "before → after",
        "  BatchNormalization       9 → 0",
        "  Add                      0 → 1",
        "  all nodes              130 → 122",
        "  size                3.0 MB → 2.9 kB",
        "written: net.folded.onnx (900 bytes), net.folded.onnx.data (2.0 kB)",
        "1.2 s to fold and 12.0 s to verify",
    ]


def test_of_many_operators_those_are_told_that_changed_most() -> None:
    before = {f"Op{number}": number for number in range(1, 10)}
    many = replace(REPORT, before=Counts(45, 0, before), after=Counts(0, 0, {}))
    assert lines(many)[1] == "  Op9                     9 → 0"
    assert lines(many)[6:9] == [
        "  Op4                     4 → 0",
        "  3 other operators       6 → 0",
        "  all nodes              45 → 0",
    ]
    assert "  Op1             1 → 0" in lines(many, verbose=True)


def test_of_a_check_only_what_is_known_is_told() -> None:
    check = replace(REPORT, target=None, written=False, checked_only=True, seconds=Seconds(1.0))
    assert lines(check)[-1] == "  all nodes           130 → 122"
    assert not lines(replace(check, folds=()))


def test_a_data_file_that_both_read_was_there_before(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString((MODELS / "visformer.onnx").read_bytes())
    onnx.save(  # noqa: TID251 - what others write is what is to be read
        model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin",
        size_threshold=100,
    )  # fmt: skip
    report = bnfold.fold_file(
        tmp_path / "net.onnx", tmp_path / "other.onnx", share_data=True, verify=None
    )
    (written,) = (line for line in lines(report) if line.startswith("written"))
    told = written.removeprefix("written: ").split(", ")
    names = [part.partition(" (")[0] for part in told if part != "as before)"]
    assert names == [str(tmp_path / name) for name in ("other.onnx", "net.bin", "other.onnx.data")]
    assert written.count("as before") == 1


def test_the_command_line_names_the_data_file(tmp_path: Path) -> None:
    model_in(tmp_path, "visformer", "net.onnx")
    done = run_here("net.onnx", "--external-data", "--no-verify", cwd=tmp_path)
    written = next(line for line in done.text.splitlines() if "written: " in line)
    for path in tmp_path.glob("net.folded.onnx*"):
        assert f"{path.name} (" in written
    assert "net.folded.onnx.data (" in written
    assert " s to fold" in done.text
