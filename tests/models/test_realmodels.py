"""The networks of others are the ones that other tests count on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
import realmodels

if TYPE_CHECKING:
    from pathlib import Path


def norms_in(path: Path) -> int:
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


@pytest.mark.parametrize("name", realmodels.LIGHT)
def test_light(name: str) -> None:
    assert norms_in(realmodels.light(name)) == realmodels.LIGHT[name]


@pytest.mark.network
@pytest.mark.parametrize("name", realmodels.RAPIDOCR)
def test_rapidocr(name: str) -> None:
    assert norms_in(realmodels.rapidocr(name)) == realmodels.RAPIDOCR[name]


@pytest.mark.parametrize("name", realmodels.OTHERS)
def test_others(name: str) -> None:
    assert norms_in(realmodels.others(name)) == realmodels.OTHERS[name]


def test_others_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNFOLD_MODELS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="BNFOLD_MODELS"):
        realmodels.others("sinet.onnx")


def test_rapidocr_skips_without_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(realmodels, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(realmodels, "_download_rapidocr", realmodels._download_rapidocr.__wrapped__)
    for variable in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(pytest.skip.Exception, match="cannot be downloaded"):
        realmodels.rapidocr("ch_PP-OCRv4_det_infer.onnx")
