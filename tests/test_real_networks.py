"""Real networks, folded from file to file and verified, as a user does it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import realmodels

import bnfold
from bnfold.verification import Verdict, VerifyOptions

CPU = VerifyOptions(("cpu",))

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
