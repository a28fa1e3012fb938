"""A small classifier of handwritten digits, really trained, with its batch normalizations in place.

The data are scikit-learn's digits: 1,797 images of 8 by 8 pixels with 17 grey levels.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT: Final = 360
EPOCHS: Final = 30
BATCH: Final = 64
PEAK_RATE: Final = 0.01


class Digits:
    """The data, split: ``train_x`` and ``test_x`` are (n, 1, 8, 8) in 0…1, the labels 0…9."""

    def __init__(self) -> None:
        """Load the data, which come with scikit-learn, and hold out 360 samples."""
        pixels, labels = load_digits(return_X_y=True)
        images = (pixels.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
        split = train_test_split(
            images, labels.astype(np.int64), test_size=HELD_OUT, random_state=0, stratify=labels
        )
        self.train_x: NDArray[np.float32] = split[0]
        self.test_x: NDArray[np.float32] = split[1]
        self.train_labels: NDArray[np.int64] = split[2]
        self.test_labels: NDArray[np.int64] = split[3]


def trained(data: Digits, seed: int = 0) -> nn.Module:
    """A network trained on ``data``, in inference mode."""
    torch.manual_seed(seed)
    network = _network()
    x, labels = torch.from_numpy(data.train_x), torch.from_numpy(data.train_labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs=EPOCHS, steps_per_epoch=len(x) // BATCH
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))[: len(x) // BATCH * BATCH]
        for batch in order.split(BATCH):
            loss = nn.functional.cross_entropy(network(_shifted(x[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _shifted(images: Tensor) -> Tensor:
    """The images, each moved by up to a pixel: there are few, so each is used more than once."""
    rows, columns = (int(n) for n in torch.randint(-1, 2, (2,)))
    return torch.roll(images, (rows, columns), (2, 3))


def _conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Sequential:
    """Conv→BN, the size kept at stride 1."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options)
    return nn.Sequential(OrderedDict({"conv": conv, "bn": nn.BatchNorm2d(outputs)}))


class _Residual(nn.Module):
    """x + BN(Conv(ReLU(BN(Conv(x))))), then ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def _network() -> nn.Module:
    """A stem, a depthwise separable convolution, two residual blocks: 8 batch normalizations."""
    layers = {
        "stem": _conv(1, 16),
        "stem_relu": nn.ReLU(),
        "depthwise": _conv(16, 16, groups=16),
        "depthwise_relu": nn.ReLU(),
        "pointwise": _conv(16, 24, size=1),
        "pointwise_relu": nn.ReLU(),
        "block1": _Residual(24),
        "pool": nn.MaxPool2d(2),
        "widen": _conv(24, 32),
        "widen_relu": nn.ReLU(),
        "block2": _Residual(32),
        "average": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(32, 10),
    }
    return nn.Sequential(OrderedDict(layers))
