"""Narrow versions of published networks, built from timm's own classes.

Only widths and depths are smaller than in the originals; how the layers are joined is timm's.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSES: Final = 10


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives every name under ``torchvision`` an empty class.

    timm imports torchvision for its data loaders and one batch normalization; nothing here uses
    either, and torchvision is not built for every platform that PyTorch is.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__["__getattr__"] = self._attribute
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""

    @staticmethod
    def _attribute(name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        sizes = ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")
        return type(name, (nn.Module,), {size: size.lower() for size in sizes})


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_StandIn())

from timm.layers import ConvNormAct  # noqa: E402 (the stand-in comes first)
from timm.models import byobnet, efficientnet, mobilenetv3  # noqa: E402
from timm.models import densenet as densenet_  # noqa: E402
from timm.models import fastvit as fastvit_  # noqa: E402
from timm.models import levit as levit_  # noqa: E402
from timm.models import nfnet as nfnet_  # noqa: E402
from timm.models import pnasnet as pnasnet_  # noqa: E402
from timm.models import resnet as resnet_  # noqa: E402
from timm.models import swiftformer as swiftformer_  # noqa: E402
from timm.models import visformer as visformer_  # noqa: E402
from timm.models._efficientnet_builder import decode_arch_def, round_channels  # noqa: E402

_few_channels = functools.partial(round_channels, multiplier=1.0, divisor=4)


def mixnet() -> nn.Module:
    """MixNet: a stage of each kind that mixnet_s has, mixed kernel sizes 3 to 9."""
    stages = [
        ["ds_r1_k3_s1_e1_c8"],
        ["ir_r1_k3_a1.1_p1.1_s2_e3_c8", "ir_r1_k3_a1.1_p1.1_s1_e3_c8"],
        ["ir_r1_k3.5.7_s2_e3_c8_se0.5_nsw", "ir_r1_k3.5_a1.1_p1.1_s1_e3_c8_se0.5_nsw"],
        ["ir_r1_k3.5.7.9_p1.1_s1_e4_c12_se0.25_nsw"],
    ]
    return efficientnet.EfficientNet(
        decode_arch_def(stages),
        num_classes=CLASSES,
        num_features=24,
        stem_size=8,
        round_chs_fn=_few_channels,
    )


def mobilenet() -> nn.Module:
    """MobileNetV3: depthwise convolutions, squeeze and excitation, hard swish."""
    stages = [
        ["ds_r1_k3_s1_e1_c8_se0.25_nre"],
        ["ir_r1_k3_s2_e3_c8_nre", "ir_r1_k3_s1_e3_c8_nre"],
        ["ir_r1_k5_s2_e3_c12_se0.25", "ir_r1_k5_s1_e3_c12_se0.25"],
        ["cn_r1_k1_s1_c16"],
    ]
    return mobilenetv3.MobileNetV3(
        decode_arch_def(stages),
        num_classes=CLASSES,
        num_features=24,
        stem_size=8,
        round_chs_fn=_few_channels,
    )


def levit() -> nn.Module:
    """LeViT: Linear→flatten→BN→reshape everywhere, and a BN before the classifier."""
    return levit_.Levit(
        img_size=32,
        embed_dim=(16, 12),
        key_dim=4,
        num_heads=(2, 2),
        depth=(1, 1),
        mlp_ratio=1.0,
        num_classes=CLASSES,
    )


def visformer() -> nn.Module:
    """Visformer: BN before the convolutions of every block, which have no padding."""
    return visformer_.Visformer(
        img_size=64,
        init_channels=4,
        embed_dim=12,
        depth=(1, 1, 1),
        num_heads=2,
        mlp_ratio=2.0,
        group=3,
        attn_stage="011",
        spatial_conv="100",
        norm_layer=nn.BatchNorm2d,
        embed_norm=nn.BatchNorm2d,
        num_classes=CLASSES,
    )


def repvgg() -> nn.Module:
    """RepVGG as it is trained: BN(Conv3(x)) + BN(Conv1(x)) + BN(x) in every block."""
    blocks = (
        byobnet.ByoBlockCfg(type="rep", d=3, c=8, s=2),
        byobnet.ByoBlockCfg(type="rep", d=2, c=12, s=2),
    )
    cfg = byobnet.ByoModelCfg(blocks=blocks, stem_type="rep", stem_chs=8)
    return byobnet.ByobNet(cfg, num_classes=CLASSES)


def mobileone() -> nn.Module:
    """MobileOne as it is trained: several depthwise branches, a scale branch, an identity BN."""
    blocks = (
        byobnet.ByoBlockCfg(type="one", d=2, c=8, s=2, gs=1, block_kwargs={"num_conv_branches": 3}),
        byobnet.ByoBlockCfg(
            type="one", d=2, c=12, s=2, gs=1, block_kwargs={"num_conv_branches": 2}
        ),
    )
    cfg = byobnet.ByoModelCfg(blocks=blocks, stem_type="one", stem_chs=8)
    return byobnet.ByobNet(cfg, num_classes=CLASSES)


def fastvit() -> nn.Module:
    """FastViT: x + scale·(BN(branches of x) − BN(x)) mixers, BN before attention."""
    positions = functools.partial(fastvit_.RepConditionalPosEnc, spatial_shape=(7, 7))
    return fastvit_.FastVit(
        layers=(1, 1),
        embed_dims=(4, 32),
        mlp_ratios=(2, 1),
        cls_ratio=1.0,
        token_mixers=("repmixer", "attention"),
        downsamples=(False, True),
        pos_embs=(None, positions),
        num_classes=CLASSES,
    )


class _Pnasnet(nn.Module):
    """The stem and the first cell of PNASNet-5, a few channels wide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_0 = ConvNormAct(3, 8, kernel_size=3, stride=2, padding=0, apply_act=False)
        self.cell_stem_0 = pnasnet_.CellStem0(8, 4, 8, 4)
        self.cell_0 = pnasnet_.Cell(8, 6, 20, 6, match_prev_layer_dims=True)
        self.head = nn.Linear(30, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_0(x)
        stem_0 = self.cell_stem_0(x)
        cell_0 = self.cell_0(x, stem_0)
        return self.head(torch.relu(cell_0).mean((2, 3)))


def pnasnet() -> nn.Module:
    """PNASNet-5: separable branches, BN after a Concat of two strided, padded poolings."""
    return _Pnasnet()


def swiftformer() -> nn.Module:
    """SwiftFormer: BN between a depthwise and a pointwise convolution, and after a sum."""
    return swiftformer_.SwiftFormer(
        layers=[2, 1],
        embed_dims=[8, 12],
        downsamples=[False, True],
        mlp_ratios=2,
        num_classes=CLASSES,
        layer_scale_init_value=0.1,
    )


def densenet() -> nn.Module:
    """DenseNet: BN→ReLU→Conv over growing concatenations."""
    return densenet_.DenseNet(growth_rate=4, block_config=(2, 3, 2), bn_size=2, num_classes=CLASSES)


def resnet() -> nn.Module:
    """ResNet with a deep stem, bottleneck blocks and projected shortcuts."""
    return resnet_.ResNet(
        resnet_.Bottleneck,
        (1, 1, 1, 1),
        channels=(4, 4, 8, 8),
        stem_width=4,
        stem_type="deep",
        num_classes=CLASSES,
    )


def nfnet() -> nn.Module:
    """NFNet: every convolution's weight is standardized, as a batch normalization computes it."""
    cfg = nfnet_.NfCfg(
        depths=(1, 1),
        channels=(8, 12),
        stem_type="deep_quad",
        stem_chs=8,
        group_size=2,
        bottle_ratio=0.5,
        extra_conv=True,
        num_features=16,
        act_layer="gelu",
        attn_layer="se",
        attn_kwargs={"rd_ratio": 0.5},
    )
    return nfnet_.NormFreeNet(cfg, num_classes=CLASSES)
