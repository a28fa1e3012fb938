"""Real networks, folded from file to file and verified, as a user does it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import realmodels
from commandline import run

import bnfold
from bnfold.verification import Verdict, VerifyOptions

CPU = VerifyOptions(("cpu",), time=0)

LEFT: dict[str, tuple[Callable[[str], Path], int, int]] = {
    "light_resnet50.onnx": (realmodels.light, 53, 0),
    "light_inception_v2.onnx": (realmodels.light, 69, 0),
    "light_densenet121.onnx": (realmodels.light, 121, 7),
    "light_shufflenet.onnx": (realmodels.light, 49, 0),
    "deeplab_nchw.onnx": (realmodels.others, 54, 0),
    "ultraface_rfb_320.onnx": (realmodels.others, 35, 0),
    "gtcrn.onnx": (realmodels.others, 11, 0),
    "sinet.onnx": (realmodels.others, 58, 11),
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": (realmodels.rapidocr, 35, 0),
    "ch_PP-OCRv4_rec_infer.onnx": (realmodels.rapidocr, 6, 0),
    "ch_PP-OCRv4_det_infer.onnx": (realmodels.rapidocr, 3, 0),
}
"""Where a network comes from, its batch normalizations, and how many of them must be left."""


@pytest.mark.network
@pytest.mark.parametrize("name", LEFT)
def test_real_network(tmp_path: Path, name: str) -> None:
    find, before, after = LEFT[name]
    target = tmp_path / "folded.onnx"
    report = bnfold.fold_file(find(name), target, verify=CPU)
    assert report.before.batch_normalizations == before
    assert report.after.batch_normalizations == after
    assert sum(kept.is_normalization for kept in report.kept) == after
    assert report.verification is not None
    assert report.verification.verdict in (Verdict.PASSED, Verdict.PASSED_BY_PROOF)
    assert report.verification.structure.proved
    again = bnfold.fold_file(target, tmp_path / "again.onnx", verify=None)
    assert not again.folds
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()


def folded_by_command(folder: Path, networks: Sequence[Path]) -> list[dict[str, Any]]:
    """Fold and verify networks as one command; return its reports."""
    record = folder / "report.jsonl"
    words = ("--provider", "cpu", "--time", "0", "-q", "-d", folder, "--report", record)
    done = run(*words, *networks, cwd=folder)
    assert done.code == 0, done.err
    return [json.loads(line) for line in record.read_text().splitlines()]


@pytest.mark.parametrize("part", range(6))
def test_the_networks_of_the_project_pass_on_the_command_line(tmp_path: Path, part: int) -> None:
    networks = realmodels.all_committed()[part::6]
    reports = folded_by_command(tmp_path, networks)
    assert len(reports) == len(networks)
    for report in reports:
        if report["verification"] is not None:  # there was something to fold
            assert report["verification"]["ok"], report["source"]
            assert report["verification"]["structure"]["proved"], report["source"]


@pytest.mark.parametrize("name", realmodels.OTHERS)
def test_networks_of_others_pass_on_the_command_line(tmp_path: Path, name: str) -> None:
    [report] = folded_by_command(tmp_path, [realmodels.others(name)])
    assert report["verification"]["ok"]
    assert report["verification"]["structure"]["proved"]
