"""PyTorch networks become ONNX files here, with their batch normalizations left in.

Both of PyTorch's exporters are used, because they write the same network differently:

* ``legacy`` traces TorchScript. With ``TrainingMode.PRESERVE`` and without constant folding it
  keeps every BatchNormalization; a Linear on two dimensions is a Gemm, any other MatMul→Add.
* ``dynamo`` is the current exporter as it comes, with its graph optimizer. That one folds the BN
  that stand right behind a Conv, ConvTranspose or Gemm, so what is left is what it could not fold.
* ``dynamo-raw`` is the current exporter without the optimizer: a convolution without a bias gets
  one of zeros, computed as Shape→…→Expand; a Linear is Transpose→MatMul→Add.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Final, Literal

import onnx
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

Exporter = Literal["legacy", "dynamo", "dynamo-raw"]

LEGACY_OPSET: Final = 17
DYNAMO_OPSET: Final = 20


def export(
    network: torch.nn.Module,
    example: torch.Tensor,
    exporter: Exporter = "legacy",
    names: tuple[str, str] = ("x", "y"),
) -> onnx.ModelProto:
    """The network in inference mode as an ONNX model whose batch dimension is named ``batch``.

    Args:
        network: takes one tensor and returns one.
        example: an input of the shape the model is to have, batch first, of at least two samples
            (the current exporter takes a size of one for a constant).
        exporter: which of PyTorch's exporters writes it.
        names: the names of the model's input and output.
    """
    network.eval()
    model = (
        _export_legacy(network, example, names)
        if exporter == "legacy"
        else _export_dynamo(network, example, names, optimize=exporter == "dynamo")
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _export_legacy(
    network: torch.nn.Module, example: torch.Tensor, names: tuple[str, str]
) -> onnx.ModelProto:
    target = io.BytesIO()
    with _quiet():
        torch.onnx.export(
            network,
            (example,),
            target,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=LEGACY_OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={names[0]: {0: "batch"}, names[1]: {0: "batch"}},
        )
    model = onnx.ModelProto()
    model.ParseFromString(target.getvalue())
    return model


def _export_dynamo(
    network: torch.nn.Module, example: torch.Tensor, names: tuple[str, str], *, optimize: bool
) -> onnx.ModelProto:
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            optimize=optimize,
            opset_version=DYNAMO_OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_shapes=({0: "batch"},),
            external_data=False,
        )
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the current exporter records of the Python that made the graph.

    Its stack traces hold the paths of one machine, and all of it is larger than the weights. The
    names of the modules that a node comes from stay.
    """
    kept = "pkg.torch.onnx.name_scopes"
    for node in model.graph.node:
        entries = [entry for entry in node.metadata_props if entry.key == kept]
        del node.metadata_props[:]
        node.metadata_props.extend(entries)
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' progress lines and notices of deprecation."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
