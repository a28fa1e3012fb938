"""What static quantization loses, with and without folding before.

    python benchmarks/quantization.py

Three networks of models/ are quantized by onnxruntime.quantization (QDQ, int8 weights and
activations, ranges by MinMax) as they are and folded by bnfold, with one scale for a weight and
with one for each output channel. The quantized networks run at ORT_ENABLE_BASIC, where each node
computes in float32 between QuantizeLinear and DequantizeLinear, and at ORT_ENABLE_ALL, on kernels
for integers.

* digits.onnx is trained: how many of the 360 held-out images are classified right, and the ratio of
  signal to quantization noise (SQNR) of the logits. Its ranges are those of 100 other images, which
  scikit-learn has.
* perceptron.onnx and mobilenet.onnx have random parameters that look trained, and are where folding
  hurts: a normalization in front of a Linear, and depthwise convolutions with one scale for all
  channels. Their inputs are normal random numbers; SQNR alone.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from measure import HERE, provenance, table
from numpy.typing import NDArray

import bnfold
from bnfold.files import open_model

MODELS: Final = HERE.parent / "models"
LEVELS: Final = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
AS_WRITTEN: Final = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
AS_EXPORTED: Final = "as exported"
WAYS: Final = (
    AS_EXPORTED,
    "folded",
    "--for-quantization",
    "--for-quantization --per-tensor",
)
"""The ways to prepare a network, as a table calls them."""

_MARKS: Final = ("QuantizeLinear", "DequantizeLinear")
_CALIBRATION: Final = 100
_BATCH: Final = 20

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """What a network is quantized and judged with.

    Attributes:
        name: The name of the network's input.
        calibration: Inputs that the ranges of activations are taken from.
        test: Inputs that it is judged by.
        labels: The class of each of these; None where there are no classes.
    """

    name: str
    calibration: Floats
    test: Floats
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Result:
    """A quantized network.

    Attributes:
        nodes: How many QuantizeLinear and DequantizeLinear it has.
        ratio: The SQNR of its output in dB, by level.
        accuracy: The share of right classes, by level; empty where there are no classes.
    """

    nodes: int
    ratio: Mapping[str, float]
    accuracy: Mapping[str, float]


def digits() -> Data:
    """Return the held-out images, and some that are not among them.

    Raises:
        SystemExit: scikit-learn, which carries the images, is not installed.
    """
    held_out = np.load(MODELS / "digits_test.npz")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("quantization.py: pip install scikit-learn, which carries the digits")
    pixels = load_digits(return_X_y=True)[0].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    seen = {image.tobytes() for image in held_out["image"]}
    others = np.stack([image for image in pixels if image.tobytes() not in seen])
    return Data("image", others[:_CALIBRATION], held_out["image"], held_out["labels"])


def random_data(model: Path) -> Data:
    """Return normal random inputs for a network with one input."""
    with open_model(model) as opened:
        given = opened.proto.graph.input[0]
    sizes = [dim.dim_value for dim in given.type.tensor_type.shape.dim][1:]
    draw = np.random.default_rng(5)
    numbers = draw.normal(size=(2 * _CALIBRATION, *sizes)).astype(np.float32)
    return Data(given.name, numbers[:_CALIBRATION], numbers[_CALIBRATION:])


def prepared(model: Path, folder: Path, way: str) -> tuple[Path, int]:
    """Return where a network is, prepared in a way, and how many normalizations it has."""
    if way == AS_EXPORTED:
        with open_model(model) as opened:
            nodes = opened.proto.graph.node
            return model, sum(node.op_type == "BatchNormalization" for node in nodes)
    report = bnfold.fold_file(
        model,
        folder / "folded.onnx",
        verify=None,
        for_quantization="--for-quantization" in way,
        per_tensor="--per-tensor" in way,
    )
    return folder / "folded.onnx", report.after.batch_normalizations


def quantized(model: Path, target: Path, data: Data, *, per_channel: bool) -> int:
    """Quantize a network; return how many QuantizeLinear and DequantizeLinear it has then."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Yields the calibration data batch by batch."""

        def __init__(self) -> None:
            starts = range(0, len(data.calibration), _BATCH)
            self._feeds = iter([{data.name: data.calibration[s : s + _BATCH]} for s in starts])

        def get_next(self) -> Mapping[str, Floats] | None:
            return next(self._feeds, None)

    logging.disable(logging.WARNING)  # it recommends a preparation that folds by itself
    quantize_static(
        str(model), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel
    )
    logging.disable(logging.NOTSET)
    with open_model(target) as opened:
        return sum(n.op_type in _MARKS for n in opened.proto.graph.node)


def outputs(model: Path, data: Data, level: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return the first output of a network for the test data."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    made: NDArray[np.float32] = session.run(None, {data.name: data.test})[0]
    return made.astype(np.float64)


def judged(model: Path, data: Data, right: NDArray[np.float64], nodes: int) -> Result:
    """Run a quantized network, and compare its output with the right one."""
    ratio, accuracy = {}, {}
    for name, level in LEVELS.items():
        made = outputs(model, data, level)
        ratio[name] = float(10 * np.log10((right**2).sum() / ((made - right) ** 2).sum()))
        if data.labels is not None:
            accuracy[name] = float((made.argmax(axis=1) == data.labels).mean())
    return Result(nodes, ratio, accuracy)


def rows(model: Path, data: Data, folder: Path) -> Iterator[Sequence[str]]:
    """Yield the rows of a network's table; that of a trained one is short, as nothing hurts it."""
    right = outputs(model, data, AS_WRITTEN)
    for name in WAYS if data.labels is None else WAYS[:2]:
        path, normalizations = prepared(model, folder, name)
        for per_channel in (False, True):
            target = folder / "quantized.onnx"
            nodes = quantized(path, target, data, per_channel=per_channel)
            result = judged(target, data, right, nodes)
            row = [name, "channel" if per_channel else "tensor", str(normalizations), str(nodes)]
            for level in LEVELS:
                if result.accuracy:
                    row.append(f"{result.accuracy[level]:.2%}")
                row.append(f"{result.ratio[level]:.1f} dB")
            yield row


def head(*, classes: bool) -> Iterator[str]:
    """Yield the head of a network's table."""
    yield from ("", "a scale per", "normalizations", "Q/DQ nodes")
    for level in LEVELS:
        if classes:
            yield f"right ({level})"
        yield f"SQNR ({level})"


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    argparse.ArgumentParser(
        prog="quantization.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        for network in ("digits", "perceptron", "mobilenet"):
            model = MODELS / f"{network}.onnx"
            data = digits() if network == "digits" else random_data(model)
            told = list(rows(model, data, Path(name)))
            print(f"{model.name}\n")
            print(table(list(head(classes=data.labels is not None)), told), end="\n\n")
    print(provenance())


if __name__ == "__main__":
    main()
