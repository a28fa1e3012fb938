"""What the text says of weights that folding makes worse as int8."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from commandline import MODELS, model_in, run_here

import bnfold
from bnfold.command_line.int8_text import int8_lines
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import Counts, NodeRecord
from bnfold.reports.report import Report
from bnfold.reports.weights import Int8Record, WeightRecord


def of(per_tensor: float, per_channel: float) -> Int8Record:
    return Int8Record(per_tensor, per_channel, 0.1, 1.0, (0.1, 1.0))


def reported(*weights: tuple[Int8Record | None, Int8Record]) -> Report:
    records = (
        WeightRecord(NodeRecord("Conv", f"conv{number}", "y"), "W", (2, 1), 0, before, after)
        for number, (before, after) in enumerate(weights)
    )
    nothing = Report(
        FileRecord("net.onnx"), None, written=False, before=Counts(1, 0), after=Counts(1, 0)
    )
    return replace(nothing, weights=tuple(records))


def test_each_way_to_quantize_has_its_line_and_its_advice() -> None:
    report = reported((of(40, 44), of(36.5, 44)), (of(42, 45), of(30, 40.9)), (None, of(1, 1)))
    tensor, channel = int8_lines(report)
    assert tensor == (
        "as int8 per tensor, 2 of 3 weights lose over 3 dB by folding, most Conv 'conv1' "
        "(42.0 → 30.0 dB): quantize per channel"
    )
    assert channel == (
        "as int8 per channel, 1 of 3 weights loses over 3 dB by folding, most Conv 'conv1' "
        "(45.0 → 40.9 dB): --for-quantization leaves what costs that much"
    )


@pytest.mark.parametrize(
    "weights", [(), ((of(40, 44), of(37, 46)),), ((of(inf, inf), of(inf, inf)),)]
)
def test_what_loses_little_is_not_told(weights: tuple[tuple[Int8Record, Int8Record], ...]) -> None:
    assert not list(int8_lines(reported(*weights)))


def test_what_was_exact_before_is_told() -> None:
    (line, _) = int8_lines(reported((of(inf, inf), of(50, 60))))
    assert "1 of 1 weight loses" in line
    assert "(exact → 50.0 dB)" in line


def test_the_command_line_tells_it_of_real_networks(tmp_path: Path) -> None:
    model_in(tmp_path, "visformer")
    words = ("visformer.onnx", "--check", "--report", "r.json")
    told = " ".join(run_here(*words, cwd=tmp_path).text.split())
    qkv = "Conv '/stage2/stage2.0/attn/qkv/Conv'"
    assert f"4 of 10 weights lose over 3 dB by folding, most {qkv} (40.6 → 33.4 dB)" in told
    assert "int8" not in run_here("visformer.onnx", "--check", cwd=tmp_path).text
    report = bnfold.fold_file(MODELS / "digits.onnx", check=True, int8=True)
    assert not list(int8_lines(report))
