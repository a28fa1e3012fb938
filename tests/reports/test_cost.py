"""What a model costs before and after its branches are one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from blocks import block_model

import bnfold

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [8, None])
def test_the_cost_of_a_block(tmp_path: Path, size: int | None) -> None:
    source = tmp_path / "block.onnx"
    source.write_bytes(block_model("RepVGG", size=size).SerializeToString())
    report = bnfold.fold_file(source, verify=None)
    before, after = report.cost_before, report.cost_after
    assert before is not None
    assert after is not None
    assert (before.convolutions, after.convolutions) == (2, 1)
    places = None if size is None else size * size
    assert before.multiply_accumulates == (None if places is None else places * 36 * (9 + 1))
    assert after.multiply_accumulates == (None if places is None else places * 36 * 9)
    assert before.weight_bytes == 4 * (36 * 10 + 3 * 4 * 6)
    assert after.weight_bytes == 4 * (36 * 9 + 6)
    assert onnx.load(tmp_path / "block.folded.onnx").graph.node[0].op_type == "Conv"  # noqa: TID251
