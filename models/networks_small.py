"""Small networks written here, each around one place where a batch normalization can stand."""

# mypy: allow-subclassing-any
from __future__ import annotations

from collections import OrderedDict
from typing import Final

import torch
from torch import Tensor, nn

CLASSES: Final = 10


def _named(**layers: nn.Module) -> nn.Sequential:
    """A Sequential whose layers have names."""
    return nn.Sequential(OrderedDict(layers))


def _conv_bn(inputs: int, outputs: int, size: int = 3, **options: int | bool) -> nn.Sequential:
    """Conv→BN, the size kept at stride 1."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, **({"bias": False} | options))
    return _named(conv=conv, bn=nn.BatchNorm2d(outputs))


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels in another order: Reshape→Transpose→Reshape."""
    height, width = x.shape[2:]
    split = x.reshape(-1, groups, x.shape[1] // groups, height, width)
    return split.transpose(1, 2).reshape(-1, x.shape[1], height, width)


class _ShuffleUnit(nn.Module):
    """ShuffleNet V2's unit: split, convolve one half (or both, at stride 2), concat, shuffle."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.left = (
            nn.Sequential(
                _conv_bn(inputs, inputs, stride=2, groups=inputs),
                _conv_bn(inputs, half, 1),
                nn.ReLU(),
            )
            if stride > 1
            else nn.Identity()
        )
        right = inputs if stride > 1 else half
        self.right = nn.Sequential(
            _conv_bn(right, half, 1),
            nn.ReLU(),
            _conv_bn(half, half, stride=stride, groups=half),
            _conv_bn(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        joined = torch.cat((self.left(left), self.right(right)), dim=1)
        return _shuffle(joined, 2)


def shufflenet() -> nn.Module:
    """ShuffleNet V2: the BN are behind convolutions, around them Split, Concat and shuffles."""
    return _named(
        stem=_conv_bn(3, 8, stride=2),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(3, 2, 1),
        down=_ShuffleUnit(8, 16, stride=2),
        unit1=_ShuffleUnit(16, 16, stride=1),
        unit2=_ShuffleUnit(16, 16, stride=1),
        average=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(16, CLASSES),
    )


class _ShuffledNorm(nn.Module):
    """Grouped Conv→channel shuffle→BN→depthwise Conv, as in ShuffleNet V1 written BN-last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(width, width, 1, groups=4, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        shuffled = _shuffle(self.grouped(x), 4)
        return torch.relu(x + self.depthwise_bn(self.depthwise(self.bn(shuffled))))


class _SpaceAndDepth(nn.Module):
    """BN behind the operators that move channels and pixels but compute nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.unshuffled_bn = nn.BatchNorm2d(16)
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.padded_bn = nn.BatchNorm2d(16)
        self.up = nn.Conv2d(16, 32, 1)
        self.shuffled_bn = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 6, 3)
        self.pooled_bn = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.unshuffled_bn(nn.functional.pixel_unshuffle(self.patches(x), 2)))
        padded = nn.functional.pad(self.mix(x), (1, 1, 1, 1), mode="reflect")
        x = torch.relu(self.padded_bn(padded))
        x = torch.relu(self.shuffled_bn(nn.functional.pixel_shuffle(self.up(x), 2)))
        return self.pooled_bn(nn.functional.avg_pool2d(self.last(x), 2))


def rearranged() -> nn.Module:
    """BN behind channel shuffle, pixel shuffle and unshuffle, reflecting pad, average pooling."""
    return _named(
        head=_SpaceAndDepth(),
        widen=nn.Conv2d(6, 16, 1, bias=False),
        shuffled=_ShuffledNorm(16),
        average=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(16, CLASSES),
    )


class _Up(nn.Module):
    """ConvTranspose→BN→ReLU, joined with the encoder's map; then BN over the whole Concat."""

    def __init__(self, inputs: int, skip: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, groups=groups, bias=groups > 1)
        self.up_bn = nn.BatchNorm2d(outputs)
        self.conv = _conv_bn(outputs + skip, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = torch.relu(self.up_bn(self.up(x)))
        return torch.relu(self.conv(torch.cat((up, skip), dim=1)))


class _Unet(nn.Module):
    """Two levels down, two up; one ConvTranspose is plain, the other grouped and with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = _conv_bn(3, 8)
        self.down1 = _conv_bn(8, 12)
        self.down2 = _conv_bn(12, 16)
        self.up1 = _Up(16, 12, 12, groups=1)
        self.up2 = _Up(12, 8, 8, groups=2)
        self.mask = nn.ConvTranspose2d(8, 2, 3, padding=1)
        self.mask_bn = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        level0 = torch.relu(self.enter(x))
        level1 = torch.relu(self.down1(nn.functional.max_pool2d(level0, 2)))
        level2 = torch.relu(self.down2(nn.functional.max_pool2d(level1, 2)))
        up = self.up2(self.up1(level2, level1), level0)
        return torch.sigmoid(self.mask_bn(self.mask(up)))


def unet() -> nn.Module:
    """U-Net: BN behind ConvTranspose, plain and grouped, with and without a bias."""
    return _Unet()


class _Segmentation(nn.Module):
    """A SINet-like head: BN behind Resize, behind a Concat of convolutions, behind their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 8, stride=2)
        self.dilated = nn.ModuleList(
            nn.Conv2d(8, 4, 3, padding=rate, dilation=rate, bias=False) for rate in (1, 2, 4)
        )
        self.concat_bn = nn.BatchNorm2d(12)
        self.prelu = nn.PReLU(12)
        self.low = nn.Conv2d(12, 6, 1, bias=False)
        self.high = nn.Conv2d(8, 6, 1, bias=False)
        self.resized_bn = nn.BatchNorm2d(6)
        self.sum_bn = nn.BatchNorm2d(6)
        self.classes = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        context = torch.cat([conv(stem) for conv in self.dilated], dim=1)
        context = self.prelu(self.concat_bn(context))
        pooled = nn.functional.max_pool2d(context, 2)
        small = nn.functional.interpolate(
            self.low(pooled), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        joined = torch.relu(self.sum_bn(self.resized_bn(small) + self.high(stem)))
        return nn.functional.interpolate(self.classes(joined), scale_factor=2.0, mode="nearest")


def segmentation() -> nn.Module:
    """A segmentation head: Resize→BN, Concat→BN→PRelu, Add→BN."""
    return _Segmentation()


def waveform() -> nn.Module:
    """Convolutions over time: Conv1d→BN, grouped and strided, ConvTranspose1d→BN."""
    return _named(
        frame=nn.Conv1d(1, 8, 9, stride=4, bias=False),
        frame_bn=nn.BatchNorm1d(8),
        frame_relu=nn.LeakyReLU(0.1),
        grouped=nn.Conv1d(8, 8, 3, padding=1, groups=2),
        grouped_bn=nn.BatchNorm1d(8),
        grouped_relu=nn.ReLU(),
        up=nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1, groups=2),
        up_bn=nn.BatchNorm1d(4),
        up_tanh=nn.Tanh(),
        last=nn.Conv1d(4, 2, 1),
    )


def volume() -> nn.Module:
    """Convolutions over space: Conv3d→BN, depthwise too, ConvTranspose3d→BN."""
    return _named(
        stem=nn.Conv3d(1, 6, 3, padding=1, bias=False),
        stem_bn=nn.BatchNorm3d(6),
        stem_relu=nn.ReLU(),
        depthwise=nn.Conv3d(6, 6, 3, padding=1, groups=6, bias=False),
        depthwise_bn=nn.BatchNorm3d(6),
        pool=nn.AvgPool3d(2),
        pointwise=nn.Conv3d(6, 8, 1),
        pointwise_bn=nn.BatchNorm3d(8),
        pointwise_relu=nn.ReLU(),
        up=nn.ConvTranspose3d(8, 4, 2, stride=2, bias=False),
        up_bn=nn.BatchNorm3d(4),
    )


class _Tokens(nn.Module):
    """BN over the features of a sequence: (N, L, C) is transposed to (N, C, L) and back."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.embed_bn = nn.BatchNorm1d(12)
        self.mix = nn.Linear(12, 12, bias=False)
        self.mix_bn = nn.BatchNorm1d(12)
        self.head = nn.Linear(12, 8)
        self.head_bn = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.embed_bn(self.embed(x).transpose(1, 2)).transpose(1, 2))
        x = x + self.mix_bn(self.mix(x).transpose(1, 2)).transpose(1, 2)
        return self.out(self.head_bn(self.head(x.mean(1))))


def tokens() -> nn.Module:
    """Linear→Transpose→BN→Transpose over sequences; Linear→BN→Linear at the end."""
    return _Tokens()


def perceptron() -> nn.Module:
    """Linear→BN→ReLU, BN first of all, BN before a Linear, Linear→Dropout→BN."""
    return _named(
        input_bn=nn.BatchNorm1d(12),
        enter=nn.Linear(12, 24, bias=False),
        enter_bn=nn.BatchNorm1d(24),
        enter_relu=nn.ReLU(),
        hidden=nn.Linear(24, 16),
        dropout=nn.Dropout(0.2),
        hidden_bn=nn.BatchNorm1d(16),
        hidden_relu=nn.ReLU(),
        before_bn=nn.BatchNorm1d(16),
        out=nn.Linear(16, CLASSES),
    )


class _Kept(nn.Module):
    """Every place here is one where folding would be wrong, but for the stem's."""

    def __init__(self) -> None:
        super().__init__()
        self.input_bn = nn.BatchNorm2d(3)
        self.stem = _conv_bn(3, 8)
        self.shared = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.one_bn = nn.BatchNorm2d(8)
        self.other_bn = nn.BatchNorm2d(8)
        self.padded_bn = nn.BatchNorm2d(8)
        self.padded = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(self.input_bn(x)))
        shared = self.shared(x)
        x = torch.relu(self.one_bn(shared)) + torch.sigmoid(self.other_bn(shared))
        return self.padded(self.padded_bn(torch.relu(x)))


def kept() -> nn.Module:
    """BN that must stay: before zero padding, and two different ones behind one convolution."""
    return _Kept()
