"""Parameters that look trained, for networks that are not.

An untrained BN is the identity and would hide every mistake. Here each gets weights and biases as
trained networks have them (some negative, some almost zero), statistics that are those of its real
input, so that activations stay of order one at any depth, and a jitter on top.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NEGATIVE: Final = 0.05
TINY: Final = 0.05
SAMPLES: Final = 16


def randomize(
    network: nn.Module, sample_shape: tuple[int, ...], seed: int, samples: int = SAMPLES
) -> nn.Module:
    """The network itself, its parameters drawn from ``seed``, in inference mode.

    Args:
        network: any network of one input.
        sample_shape: the shape of one input sample, without the batch.
        seed: of everything that is drawn.
        samples: how many inputs the statistics are taken from.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            _fill(name, parameter, generator)
        for norm in norms:
            _fill_norm(norm, generator)
        network.train()
        network(torch.randn(samples, *sample_shape, generator=generator))
        for norm in norms:
            _jitter(norm, generator)
    return network.eval()


def _fill(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Weights of unit gain; vectors, which are biases and scales, of order a half."""
    if parameter.ndim > 1 and "scale" not in name and "gamma" not in name:
        fan_in = parameter[0].numel()
        parameter.normal_(0, fan_in**-0.5, generator=generator)
        return
    offset = 0.5 if "scale" in name or "gamma" in name else 0.0
    parameter.normal_(offset, 0.2, generator=generator)


def _fill_norm(norm: _BatchNorm, generator: torch.Generator) -> None:
    """γ log-normal around one with a few negative and a few tiny values, β of order a half."""
    norm.momentum = 1.0
    weight = torch.randn(norm.num_features, generator=generator).mul_(0.4).exp_()
    chance = torch.rand(norm.num_features, generator=generator)
    weight[chance < NEGATIVE] *= -1
    weight[chance > 1 - TINY] *= 1e-6
    norm.weight.copy_(weight)
    norm.bias.normal_(0, 0.4, generator=generator)


def _jitter(norm: _BatchNorm, generator: torch.Generator) -> None:
    """Statistics near, but not at, those of the one batch: E ± 0.2 σ, Var · e^±0.5."""
    shape = (norm.num_features,)
    sigma = norm.running_var.sqrt()
    norm.running_mean += 0.2 * sigma * torch.randn(shape, generator=generator)
    norm.running_var *= (0.5 * torch.randn(shape, generator=generator)).exp()
    norm.momentum = 0.1
