"""What `--check --explain` prints, and when it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import onnx
import pytest
from click.testing import CliRunner
from commandline import convolution, model_in, write

from bnfold.command_line.explanation_text import explanation_lines
from bnfold.command_line.fold import fold
from bnfold.reports.explained import AttemptRecord, ExplainedRecord, StepRecord
from bnfold.reports.records import FoldRecord, NodeRecord, ObstacleRecord

if TYPE_CHECKING:
    from pathlib import Path

BN = NodeRecord("BatchNormalization", "bn", "y")
MUL = NodeRecord("Mul", "", "m")
CONV = NodeRecord("Conv", "conv", "c")
RELU = NodeRecord("Relu", "", "r")
END = ObstacleRecord("needs-zero-shift", "Relu 'r'", "Relu 'r': the operator lets no shift pass")
PASSES = StepRecord(RELU, "passes-up")


def lines(record: ExplainedRecord, *, verbose: bool = False) -> list[str]:
    return list(explanation_lines([record], verbose=verbose))


def test_attempts_are_told_in_order() -> None:
    record = ExplainedRecord(
        BN,
        "affine",
        None,
        None,
        (BN, MUL),
        (
            AttemptRecord("output", (BN, MUL), is_scale=False, steps=(), refused=END, times=3),
            AttemptRecord("output", (BN,), is_scale=False, steps=(PASSES,), refused=END),
            AttemptRecord(
                "output",
                (BN, MUL),
                is_scale=True,
                steps=(StepRecord(CONV, "absorbs"),),
                refused=None,
            ),
        ),
        (FoldRecord("output", (BN, MUL), (CONV,), ()),),
        (),
    )
    assert lines(record) == [
        "BatchNormalization 'bn', which makes 'y': it scales or shifts each channel",
        "  its run: BatchNormalization 'bn', Mul 'm'",
        "  up, BatchNormalization 'bn', Mul 'm', tried 3 times:",
        "    refused: Relu 'r': the operator lets no shift pass [needs-zero-shift]",
        "  up, BatchNormalization 'bn':",
        "    Relu 'r' lets it pass upwards",
        "    refused: Relu 'r': the operator lets no shift pass [needs-zero-shift]",
        "  up, BatchNormalization 'bn', Mul 'm', the scale alone:",
        "    Conv 'conv' absorbs it",
        "    done",
        "  so it is folded into Conv 'conv', together with Mul 'm'",
    ]


def test_of_many_steps_the_last_are_told_unless_all_are_asked_for() -> None:
    attempt = AttemptRecord("output", (BN,), is_scale=False, steps=(PASSES,) * 20, refused=END)
    record = ExplainedRecord(BN, "affine", None, None, (BN,), (attempt,), (), ())
    assert "    … 8 steps before (-v shows all)" in lines(record)
    assert len(lines(record, verbose=True)) == 23


@pytest.mark.parametrize(
    ("role", "obstacle", "partner", "said"),
    [
        ("bias", None, CONV, "it is the bias of Conv 'conv'"),
        ("carry", END, None, "it can let some scales or shifts pass (Relu 'r': the operator"),
        ("refused", END, None, "it is no per-channel arithmetic that could be folded"),
        ("unknown", None, None, "it is no per-channel arithmetic, and neither absorbs any"),
        ("idle", None, None, "nothing was tried: a runtime drops it"),
        ("affine", None, None, "nothing was tried: with --bn-only"),
        ("linear", None, None, "nothing was to be folded into it or through it"),
    ],
)
def test_what_a_node_is_is_told(
    role: str, obstacle: ObstacleRecord | None, partner: NodeRecord | None, said: str
) -> None:
    record = ExplainedRecord(MUL, role, obstacle, partner, (), (), (), ())
    assert said in "\n".join(lines(record))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (FoldRecord("merged", (BN, MUL), (BN, MUL), ()), "it is put together with Mul 'm'"),
        (FoldRecord("nothing", (BN,), (), ()), "so it is dropped"),
        (FoldRecord("computed", (BN,), (CONV,), ()), "it is computed, and stored"),
        (FoldRecord("output", (MUL,), (BN,), ()), "it takes up Mul 'm'"),
        (FoldRecord("output", (MUL,), (CONV,), (BN,)), "it lets Mul 'm' pass into Conv 'conv'"),
    ],
)
def test_every_part_in_a_fold_is_told(record: FoldRecord, said: str) -> None:
    explained = ExplainedRecord(BN, "affine", None, None, (BN,), (), (record,), ())
    assert lines(explained)[-1] == f"  {said}"


def test_the_command_line_explains_a_node(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    result = CliRunner().invoke(fold, [str(source), "--check", "--explain", "bn"])
    assert result.exit_code == 1
    text = click.unstyle(result.output).splitlines()
    assert text[1].endswith("would be folded into the operator before, 2 → 1 nodes")
    assert text[2:] == [
        "  BatchNormalization 'bn', which makes 'y': it scales or shifts each channel",
        "    up:",
        "      Conv 'conv' absorbs it",
        "      done",
        "    so it is folded into Conv 'conv'",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_names_in_a_function_are_those_of_the_file(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] W = {1,2,3,4}, float[2] s = {1,2}, float[2] m = {0,1}>
        { c = Conv (x, W)  d = local.norm (c, s, m)  e = Conv (d, W)  y = local.norm (e, s, m) }
        <domain: "local", opset_import: ["" : 17]>
        norm (X, S, M) => (Y) { r = Identity (X)  Y = BatchNormalization (r, S, M, M, S) }"""
    model = onnx.parser.parse_model(text)
    model.functions[0].node[1].name = "bn"
    write(model, tmp_path / "net.onnx")
    result = CliRunner().invoke(fold, [str(tmp_path / "net.onnx"), "--check", "--explain", "bn"])
    assert "1 local function inlined: local::norm (names in them end in __1" in result.output
    told = [line for line in result.output.splitlines() if "it scales or shifts" in line]
    assert [line.split(",")[0].strip() for line in told] == [
        "BatchNormalization 'bn__1'", "BatchNormalization 'bn__2'",
    ]  # fmt: skip
    result = CliRunner().invoke(fold, [str(tmp_path / "net.onnx"), "--check", "--explain", "r"])
    assert "Identity 'r__1'" in result.output


def test_names_are_made_printable(tmp_path: Path) -> None:
    source = write(convolution("\x1b[2Jbn"), tmp_path / "net.onnx")
    result = CliRunner().invoke(fold, [str(source), "--check", "--explain", "y"])
    assert "\x1b[2J" not in result.output
    assert "\\x1b[2Jbn" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.onnx", "--explain", "bn"), "--explain needs --check"),
        (("net.onnx", "other.onnx", "--check", "--explain", "bn"), "takes one model, not 2"),
        (("net.onnx", "--check", "-q", "--explain", "bn"), "--quiet and --explain exclude"),
        (("net.onnx", "--check", "--explain", "b"), "is called 'b'; is 'bn' meant?"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(convolution(), tmp_path / "net.onnx")
    model_in(tmp_path, as_name="other.onnx")
    result = CliRunner().invoke(fold, list(words))
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1
