"""Write the models of this folder again: ``python models/make.py [NAME…]``.

It needs click, numpy, onnx, onnxruntime, onnxscript, PyTorch, scikit-learn and timm. Everything is
drawn from fixed seeds. Training is deterministic on one machine and its version of PyTorch; on
another the trained weights may differ in their last digits.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import catalogue
import click
import digits
import exporting
import numpy as np
import onnx
import onnxruntime
import torch
from randomize import randomize

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path(__file__).resolve().parent
SEED: Final = 0
TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 5e-2}
TABLE: Final = re.compile(r"(?<=<!-- table -->\n).*(?=<!-- end of table -->)", re.DOTALL)
HEADER: Final = """\
| file | exporter | opset | BN | BN left | kB | where they stand |
|---|---|---|---|---|---|---|
"""
DIGITS_WHERE: Final = (
    "behind plain, depthwise and 1×1 convolutions; trained, {accuracy:.2%} of {held_out} right"
)


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--full-size",
    "full_size",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the published networks at their full size into this folder instead.",
)
def main(names: tuple[str, ...], full_size: Path | None) -> None:
    """Write the models of this folder again: all of them, or the NAMES, and README.md's table."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    if full_size is not None:
        _write_full_size(full_size, names)
        return
    if not names or "digits" in names:
        _write_digits()
    for row in catalogue.ROWS:
        if not names or row.name in names:
            _write_row(row)
    _write_table()


def _write_digits() -> None:
    """digits.onnx and digits_test.npz."""
    data = digits.Digits()
    network = digits.trained(data)
    example = torch.from_numpy(data.test_x[:2])
    _write(exporting.export(network, example, names=("image", "logits")), FOLDER / "digits.onnx")
    np.savez_compressed(FOLDER / "digits_test.npz", image=data.test_x, labels=data.test_labels)


def _write_row(row: catalogue.Row) -> None:
    """The file of one row, after ONNX Runtime and PyTorch agreed on it."""
    torch.manual_seed(SEED)
    network = randomize(row.network(), row.sample_shape, SEED)
    generator = torch.Generator().manual_seed(SEED)
    example = torch.randn(2, *row.sample_shape, generator=generator)
    if row.half:
        network, example = network.half(), example.half()
    model = exporting.export(network, example, row.exporter)
    _check(model, network, example)
    _write(model, FOLDER / f"{row.name}.onnx")


def _write_full_size(folder: Path, names: Sequence[str]) -> None:
    """The published networks, random weights, by the older exporter; 500 MB in all."""
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    for name, size in catalogue.FULL_SIZE.items():
        if names and name not in names:
            continue
        torch.manual_seed(SEED)
        network = randomize(timm.create_model(name), (3, size, size), SEED, samples=2)
        example = torch.randn(2, 3, size, size)
        _write(exporting.export(network, example), folder / f"{name}.onnx")


def _check(model: onnx.ModelProto, network: torch.nn.Module, example: torch.Tensor) -> None:
    """Refuse a model that computes something else in ONNX Runtime than in PyTorch."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"x": example.numpy()})
    with torch.no_grad():
        expected = network(example).numpy()
    tolerance = TOLERANCE[example.dtype]
    np.testing.assert_allclose(result, expected, tolerance, tolerance * np.abs(expected).max())


def _write(model: onnx.ModelProto, target: Path) -> None:
    target.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{target.name}: {_norms(model)} batch normalizations, {target.stat().st_size:,} bytes")


def _norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def _write_table() -> None:
    """The table of README.md: one line for each file, as it lies on disk."""
    lines = [_line("digits", "legacy", "0", DIGITS_WHERE.format(**_digits_facts()))]
    lines += [_line(row.name, row.exporter, _left(row), row.where) for row in catalogue.ROWS]
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(TABLE.sub(HEADER + "".join(lines), text), encoding="utf-8")


def _line(name: str, exporter: str, left: str, where: str) -> str:
    path = FOLDER / f"{name}.onnx"
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    opset = model.opset_import[0].version
    kilobytes = round(path.stat().st_size / 1000)
    cells = (path.name, exporter, opset, _norms(model), left, kilobytes, where)
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _left(row: catalogue.Row) -> str:
    if row.left == row.left_merged:
        return str(row.left)
    return f"{row.left} ({row.left_merged})"


def _digits_facts() -> dict[str, float]:
    """The accuracy of digits.onnx as it is on disk, on the samples beside it."""
    with np.load(FOLDER / "digits_test.npz") as samples:
        image, labels = samples["image"], samples["labels"]
    session = onnxruntime.InferenceSession(
        FOLDER / "digits.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"image": image})
    return {"accuracy": float((logits.argmax(1) == labels).mean()), "held_out": len(labels)}


if __name__ == "__main__":
    main()
