"""What this folder holds: one row for each file, with what is known of its batch normalizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import networks_small as small
import networks_timm as published

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporting import Exporter
    from torch import nn

IMAGE: Final = (3, 32, 32)
LARGE: Final = (3, 64, 64)


@dataclass(frozen=True, slots=True)
class Row:
    """One file.

    Attributes:
        name: the file's name without its suffix.
        network: builds the network.
        sample_shape: the shape of one input sample.
        where: where its batch normalizations stand, and what the file is for.
        left: how many a perfect fold leaves; derived by hand from the graph.
        left_merged: how many it leaves when a BN beside a convolution that reads the same tensor is
            added to that convolution's weight.
        exporter: which of PyTorch's exporters writes it.
        half: whether it is stored, and computes, in float16.
    """

    name: str
    network: Callable[[], nn.Module]
    sample_shape: tuple[int, ...]
    where: str
    left: int = 0
    left_merged: int = 0
    exporter: Exporter = "legacy"
    half: bool = False


_MIXNET: Final = "behind a Concat of convolutions of 1×1, and of depthwise ones of 3×3 to 9×9"
_LEVIT: Final = "Linear→Flatten→BN→Reshape to the shape of the Linear; mean→BN→Linear"
_VISFORMER: Final = "BN→Conv without padding in residual blocks; BN→average→Flatten→Linear"
_SWIFT: Final = "depthwise Conv→BN→Conv; sum→BN→Conv; sum→BN→mean→two Linear"
_FASTVIT: Final = (
    "branches beside a BN of the same tensor, one of them subtracted; BN→Reshape→Transpose→MatMul"
)
_REARRANGED: Final = (
    "behind PixelShuffle, channel shuffle, reflecting Pad, AveragePool; behind PixelUnshuffle one "
    "convolution's channel becomes four, so that BN stays"
)
_SEGMENTATION: Final = "Conv→Resize→BN, Concat of dilated convolutions→BN→PRelu, sum of both→BN"
_TOKENS: Final = "Linear on three dimensions→Transpose→BN→Transpose, with and without a bias"
_PERCEPTRON: Final = "Linear→BN, Linear→Dropout→BN, BN→Linear, the model's input→BN→Linear"
_SHUFFLENET: Final = "behind plain and depthwise convolutions, around them Split, Concat, shuffles"
_UNET: Final = "behind ConvTranspose, plain, grouped and padded, with and without a bias"
_NFNET: Final = "of the weights of convolutions, which are constants: those are standardized"
_REPVGG: Final = "BN(Conv 3×3) + BN(Conv 1×1) + BN of the tensor itself"

ROWS: Final = (
    Row("mixnet", published.mixnet, IMAGE, _MIXNET),
    Row("mixnet_dynamo", published.mixnet, IMAGE, _MIXNET, exporter="dynamo"),
    Row("mobilenet", published.mobilenet, IMAGE, "behind plain and depthwise convolutions"),
    Row("levit", published.levit, IMAGE, _LEVIT),
    Row("levit_dynamo", published.levit, IMAGE, _LEVIT, exporter="dynamo"),
    Row("visformer", published.visformer, LARGE, _VISFORMER),
    Row("visformer_dynamo", published.visformer, LARGE, _VISFORMER, exporter="dynamo"),
    Row("repvgg", published.repvgg, IMAGE, _REPVGG, left=3),
    Row("repvgg_raw", published.repvgg, IMAGE, _REPVGG, left=3, exporter="dynamo-raw"),
    Row(
        "mobileone",
        published.mobileone,
        IMAGE,
        "several depthwise branches, a scale branch and a BN of the tensor itself, summed",
        left=2,
    ),
    Row("fastvit_dynamo", published.fastvit, LARGE, _FASTVIT, left=5, exporter="dynamo"),
    Row("pnasnet", published.pnasnet, IMAGE, "Concat of two convolutions, one of a padded map→BN"),
    Row("swiftformer", published.swiftformer, IMAGE, _SWIFT),
    Row("swiftformer_dynamo", published.swiftformer, IMAGE, _SWIFT, exporter="dynamo"),
    Row(
        "densenet",
        published.densenet,
        IMAGE,
        "Conv→BN→Relu folds; BN→Relu behind a Concat that others read stays",
        left=10,
        left_merged=10,
    ),
    Row("resnet", published.resnet, IMAGE, "behind every convolution, also of the shortcuts"),
    Row(
        "resnet_float16",
        published.resnet,
        IMAGE,
        "the same in float16, all parameters too",
        half=True,
    ),
    Row("nfnet", published.nfnet, IMAGE, _NFNET),
    Row("nfnet_raw", published.nfnet, IMAGE, _NFNET, exporter="dynamo-raw"),
    Row("shufflenet", small.shufflenet, IMAGE, _SHUFFLENET),
    Row("shufflenet_raw", small.shufflenet, IMAGE, _SHUFFLENET, exporter="dynamo-raw"),
    Row("rearranged", small.rearranged, IMAGE, _REARRANGED, left=1, left_merged=1),
    Row(
        "rearranged_dynamo",
        small.rearranged,
        IMAGE,
        _REARRANGED,
        left=1,
        left_merged=1,
        exporter="dynamo",
    ),
    Row("unet", small.unet, IMAGE, _UNET),
    Row("unet_raw", small.unet, IMAGE, _UNET, exporter="dynamo-raw"),
    Row("segmentation", small.segmentation, IMAGE, _SEGMENTATION),
    Row("segmentation_dynamo", small.segmentation, IMAGE, _SEGMENTATION, exporter="dynamo"),
    Row("segmentation_raw", small.segmentation, IMAGE, _SEGMENTATION, exporter="dynamo-raw"),
    Row("waveform", small.waveform, (1, 64), "1-D: Conv→BN, grouped too; grouped ConvTranspose→BN"),
    Row("volume", small.volume, (1, 8, 8, 8), "3-D: Conv→BN, depthwise too; ConvTranspose→BN"),
    Row("tokens", small.tokens, (5, 6), _TOKENS),
    Row("tokens_dynamo", small.tokens, (5, 6), _TOKENS, exporter="dynamo"),
    Row("tokens_raw", small.tokens, (5, 6), _TOKENS, exporter="dynamo-raw"),
    Row("perceptron", small.perceptron, (12,), _PERCEPTRON),
    Row("perceptron_dynamo", small.perceptron, (12,), _PERCEPTRON, exporter="dynamo"),
    Row("perceptron_raw", small.perceptron, (12,), _PERCEPTRON, exporter="dynamo-raw"),
    Row(
        "kept",
        small.kept,
        IMAGE,
        "before zero padding twice, and two unequal ones behind one convolution; one that folds",
        left=4,
        left_merged=4,
    ),
)

FULL_SIZE: Final = {
    "mixnet_s": 224,
    "levit_128": 224,
    "visformer_tiny": 224,
    "repvgg_a0": 224,
    "mobileone_s0": 224,
    "fastvit_t8": 256,
    "pnasnet5large": 331,
    "swiftformer_xs": 224,
    "densenet121": 224,
}
