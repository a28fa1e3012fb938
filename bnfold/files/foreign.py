"""Recognize files that people give in place of an ONNX model, by their first bytes."""

from typing import Final

LONGEST: Final = 64
"""So many bytes are enough to recognize a file."""

_LFS = "this is a Git LFS pointer, not the model; `git lfs pull` fetches it"
_TORCH = (
    "this is a PyTorch file, not an ONNX model; load the network in PyTorch, call eval(), and "
    "write it with torch.onnx.export"
)
_KERAS = "this is an HDF5 file (Keras), not an ONNX model; tf2onnx or model.export() make one of it"
_TFLITE = (
    "this is a TensorFlow Lite model, not an ONNX model; export the original network instead "
    "(tf2onnx), or convert it with tflite2onnx"
)
_PAGE = (
    "this is a web page, not a model; the download went wrong: it needs the address of the file "
    "itself, or a login"
)

_BEGINNINGS: Final = (
    (0, b"version https://git-lfs", _LFS),
    (0, b"\x89HDF\r\n", _KERAS),
    (4, b"TFL3", _TFLITE),
    (4, b"ORTM", "this is ONNX Runtime's .ort format; give the .onnx file that it was made from"),
    (0, b"\x80\x02", _TORCH),
    (0, b"\x80\x04", _TORCH),
    (8, b'{"', "this is a safetensors file: weights without a graph; export the network as ONNX"),
    (0, b"\x1f\x8b", "this is a gzip file; unpack it first"),
)  # fmt: skip


_TEXT = (
    "it is text; where it is a model as text, onnx.load reads it from a .textproto, .json or "
    ".onnxtxt file, and onnx.save writes .onnx"
)


def not_onnx(beginning: bytes, reason: str) -> str:
    """Return why a file that begins so is no model, where reading it as one ended with `reason`.

    A model may begin with printable characters, too, so nobody is told before that it is text.
    """
    is_text = all(byte in _PRINTED for byte in beginning)
    return f"this is not an ONNX model: {_TEXT if is_text else reason}"


_PRINTED: Final = frozenset(bytes(range(32, 127)) + b"\t\n\r")


def foreign(beginning: bytes) -> str:
    """Return what a file is that begins so, and what to do; an empty text for what may be ONNX."""
    for offset, magic, what in _BEGINNINGS:
        if beginning[offset : offset + len(magic)] == magic:
            return what
    if beginning.startswith(b"PK\x03\x04"):
        is_torch = b"/data.pkl" in beginning or b"/version" in beginning
        return _TORCH if is_torch else "this is a zip file; unpack it first"
    text = beginning.lstrip().lower()
    return _PAGE if text.startswith((b"<!doctype", b"<html")) else ""
