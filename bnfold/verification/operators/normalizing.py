"""Normalizations by a tensor's own statistics: y = γ n + β with n = (x − E) / √(Var + ε).

E and Var are taken over the last axes of x, over its spatial axes, or over groups of channels; a
normalization by the root mean square takes E as 0. γ and β are laid along the last axes or along
the channels.

Where x is off by u m, n is off by u (m + mean m + |n| mean(|n| m)) / √(Var + ε) to first order:
that is the magnitude of n, m being that of x.
"""

from collections.abc import Callable
from math import prod

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.magnitude import Compute, TrackedInputs, magnitudes
from bnfold.verification.operators.node import (
    Attributes,
    Call,
    Inputs,
    UnsupportedError,
    attributes_of,
    needed,
    optional,
)


@frozen
class Layout:
    """Over which elements of x the statistics are taken.

    Attributes:
        view: The shape as which x is looked at.
        axes: The axes of that view.
        on_channels: Whether γ and β lie along axis 1 of x, and not along its last axes.
        centred: Whether the mean is taken away.
    """

    view: tuple[int, ...]
    axes: tuple[int, ...]
    on_channels: bool = True
    centred: bool = True


Lay = Callable[[tuple[int, ...], Attributes], Layout]
"""Says of the shape of x, and of what a node states, over which elements statistics are taken."""


def last_axes(shape: tuple[int, ...], attributes: Attributes) -> Layout:
    """LayerNormalization."""
    first = int(attributes.get("axis", -1)) % len(shape)
    return Layout(shape, tuple(range(first, len(shape))), on_channels=False)


def root_mean_square(shape: tuple[int, ...], attributes: Attributes) -> Layout:
    """RMSNormalization."""
    layout = last_axes(shape, attributes)
    return Layout(layout.view, layout.axes, on_channels=False, centred=False)


def spatial(shape: tuple[int, ...], attributes: Attributes) -> Layout:
    """InstanceNormalization."""
    del attributes
    return Layout(shape, tuple(range(2, len(shape))))


def groups(shape: tuple[int, ...], attributes: Attributes) -> Layout:
    """GroupNormalization."""
    samples, channels, *rest = shape
    count = int(attributes["num_groups"])
    view = (samples, count, channels // count, *rest)
    return Layout(view, tuple(range(2, len(view))))


def normalized_by(lay: Lay) -> Callable[[Call], Array | None]:
    """Return the kernel of a normalization; the statistics as outputs are left to others."""

    def kernel(call: Call) -> Array | None:
        X = needed(call.inputs, 0)
        if call.outputs > 1:
            return None
        layout = lay(X.shape, call.attributes)
        n, _ = _normalized(X, layout, call.attributes)
        gamma, beta = _parameters(call.inputs, layout, X.shape)
        return gamma * n + beta

    return kernel


def magnitude_by(lay: Lay) -> Callable[[Compute, onnx.NodeProto, TrackedInputs], list[Array]]:
    """Return the rule of a normalization: |γ| |n| as the module says, and |β|."""

    def rule(compute: Compute, node: onnx.NodeProto, inputs: TrackedInputs) -> list[Array]:
        del compute
        data = inputs[0]
        assert data is not None  # noqa: S101 - the values have been computed from it
        if any(tracked is not None and not tracked.constant for tracked in inputs[1:]):
            raise UnsupportedError(f"{node.op_type} with parameters that vary")
        attributes = attributes_of(node)
        layout = lay(data.value.shape, attributes)
        n, deviation = _normalized(data.value, layout, attributes)
        m, n = data.magnitude.reshape(layout.view), np.abs(n).reshape(layout.view)
        mean = m.mean(layout.axes, keepdims=True) if layout.centred else 0.0
        size = (m + mean + n * (n * m).mean(layout.axes, keepdims=True)) / deviation
        gamma, beta = _parameters(magnitudes(inputs), layout, data.value.shape)
        return [gamma * size.reshape(data.value.shape) + beta]

    return rule


def _normalized(X: Array, layout: Layout, attributes: Attributes) -> tuple[Array, Array]:
    """Return n in the shape of X, and √(Var + ε) in that of the view."""
    x = X.reshape(layout.view)
    if layout.centred:
        x = x - x.mean(layout.axes, keepdims=True)
    epsilon = float(np.float32(attributes.get("epsilon", 1e-5)))
    deviation = np.sqrt((x * x).mean(layout.axes, keepdims=True) + epsilon)
    return (x / deviation).reshape(X.shape), deviation


def _parameters(
    inputs: Inputs, layout: Layout, shape: tuple[int, ...]
) -> tuple[Array, Array | float]:
    """Return γ and β so that they broadcast to x."""
    gamma, beta = needed(inputs, 1), optional(inputs, 2)
    if not layout.on_channels:
        return gamma, 0.0 if beta is None else beta
    laid = [1] * len(shape)
    laid[1] = -1
    channels = prod(shape[1:2])

    def by_channel(values: Array) -> Array:  # of a group, all its channels have the same
        return np.repeat(values.reshape(-1), channels // values.size).reshape(laid)

    return by_channel(gamma), 0.0 if beta is None else by_channel(beta)
