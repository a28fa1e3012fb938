"""Reference values for population statistics, from PyTorch.

    python models/reference_statistics.py

writes tests/statistics/reference.npz: small networks with batch normalizations as ONNX models,
batches of data, and the running statistics that PyTorch's cumulative average (``momentum=None``)
gives over these batches, computed in float64. It takes PyTorch.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET: Final = Path(__file__).resolve().parents[1] / "tests" / "statistics" / "reference.npz"
SIZES: Final = (6, 6, 5, 3)
"""Samples in each batch; the last ones are smaller, as where data run out."""

LENGTHS: Final = {1: 8, 2: 8, 3: 4}
CONVS: Final = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: Final = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Network(nn.Module):
    """Plain and grouped convolutions, one normalization used twice, and one behind a Linear."""

    def __init__(self, dims: int) -> None:
        """Make one of so many spatial dimensions."""
        super().__init__()
        conv, norm = CONVS[dims], NORMS[dims]
        self.first = nn.Sequential(conv(2, 6, 3, padding=1, bias=False), norm(6), nn.ReLU())
        self.grouped = nn.Sequential(conv(6, 6, 3, groups=3, padding=1), norm(6, eps=1e-3))
        self.again = conv(6, 6, 1)
        self.shared = norm(6)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4) for (N, 2, d…)."""
        x = self.grouped(self.first(x))
        x = self.shared(self.again(torch.relu(self.shared(x))))
        return self.head(x.flatten(2).mean(2))


def reference(dims: int) -> dict[str, NDArray[Any]]:
    """The model, the batches, and the statistics of one network."""
    torch.manual_seed(dims)
    network = Network(dims)
    for module in normalizations(network).values():
        module.momentum = None
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    rng = np.random.default_rng(dims)
    shape = (2, *(LENGTHS[dims],) * dims)
    batches = [rng.normal(0.5, 2.0, (size, *shape)).astype(np.float32) for size in SIZES]
    found = {f"batch{i}": batch for i, batch in enumerate(batches)}
    found["model"] = np.frombuffer(exported(network, batches[0]), np.uint8)
    network = network.double().train()
    with torch.no_grad():
        for batch in batches:
            network(torch.from_numpy(batch).double())
    for name, module in normalizations(network).items():
        found[f"{name}.mean"] = module.running_mean.numpy()
        found[f"{name}.variance"] = module.running_var.numpy()
    return {f"{dims}d/{name}": array for name, array in found.items()}


def normalizations(network: nn.Module) -> dict[str, Any]:
    """The batch normalizations of a network, by name."""
    kinds = tuple(NORMS.values())
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


def exported(network: nn.Module, example: NDArray[np.float32]) -> bytes:
    """The network in inference mode as an ONNX model, its statistics those of no data."""
    file = io.BytesIO()
    torch.onnx.export(
        network.eval(),
        (torch.from_numpy(example),),
        file,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        opset_version=17,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamo=False,
    )
    return file.getvalue()


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    arrays: Any = {name: array for dims in CONVS for name, array in reference(dims).items()}
    np.savez_compressed(TARGET, **arrays)
    print(TARGET)
