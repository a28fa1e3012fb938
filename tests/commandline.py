"""Runs bnfold as a process of its own, on models from models/ and on small ones made here."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.command_line.main import main

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(bnfold.__file__).parent.parent)}


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "bnfold", *map(str, words)]


def run(*words: str | Path, cwd: Path, stdin: bytes = b"") -> Result:
    """Run `bnfold` in a folder."""
    return run_command(command(*words), cwd=cwd, stdin=stdin)


def run_here(*words: str | Path, cwd: Path) -> Result:
    """Do the same in this process, which has imported all already: 0.01 s of CPU instead of 0.2 s.

    For what the words alone decide: this knows nothing of pipes, signals and terminals.
    """
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(list(map(str, words)))
    said = []
    for stream in (out, err):
        stream.seek(0)
        said.append(stream.buffer.read())
    return Result(int(ended.value.code or 0), said[0], said[1].decode())


def run_command(words: list[str], *, cwd: Path, stdin: bytes = b"") -> Result:
    done = subprocess.run(
        words, cwd=cwd, input=stdin, capture_output=True, check=False, env=ENVIRONMENT, timeout=120
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


def model_in(folder: Path, name: str = "digits", as_name: str = "") -> Path:
    """Copy a model of models/ into a folder."""
    return Path(shutil.copy(MODELS / f"{name}.onnx", folder / (as_name or f"{name}.onnx")))


def load(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def normalizations(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def convolution(name: str = "bn", *, channels: int = 4) -> onnx.ModelProto:
    """Return Conv → BatchNormalization; `name` is that of the latter."""
    dice = np.random.default_rng(7)
    values = {
        "W": dice.normal(size=(channels, 3, 3, 3)),
        "gamma": dice.uniform(0.5, 2.0, channels),
        "beta": dice.normal(size=channels),
        "mean": dice.normal(size=channels),
        "variance": dice.uniform(0.5, 2.0, channels),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
            helper.make_node(
                "BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["y"], name=name
            ),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 6, 6])],
        [numpy_helper.from_array(v.astype(np.float32), key) for key, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def tampered(path: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write the model at `path` with its first convolution's weight changed."""
    model = load(path)
    weight = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), weight))
    return write(model, target)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def accuracy(model: onnx.ModelProto) -> float:
    """Return the share of the test digits that models/digits.onnx, or what became of it, reads."""
    import onnxruntime

    with np.load(MODELS / "digits_test.npz") as data:
        image, labels = data["image"], data["labels"]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = np.asarray(session.run(None, {"image": image})[0])
    return float(np.mean(logits.argmax(axis=1) == labels))
