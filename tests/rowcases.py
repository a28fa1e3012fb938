"""Networks for one row of a rule table: something linear, the row's operator, affines behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import affine_steps
import carry_steps
import linear_steps
import numpy as np
import onnx
from affine_steps import Limits
from building import AFFINE, Network
from dice import Dice
from steps import Shape, Site, Step, Unsuited

if TYPE_CHECKING:
    from collections.abc import Sequence

OLDEST = {
    "DeformConv": 19,
    "Einsum": 12,
    "GroupNormalization": 21,  # before, it has one scale for a group
    "LayerNormalization": 17,
    "MaxPool": 8,
    "RMSNormalization": 23,
    "Resize": 10,
    "Sum": 8,
    "Upsample": 7,
}
NEWEST = {"RMSNormalization": 23, "Upsample": 9}
FIRST, LAST = 7, 22
_ATTEMPTS = 400
_SIZES = (1, 2, 3, 4, 4, 6)


@dataclass
class Case:
    """A model and whether all of its affine nodes should go."""

    net: Network
    model: onnx.ModelProto
    foldable: bool


def draw_opset(dice: Dice, op_type: str) -> int:
    return dice.integer(OLDEST.get(op_type, FIRST), NEWEST.get(op_type, LAST))


def draw_shape(dice: Dice) -> tuple[Shape, int]:
    """A shape, and an axis on which linear operators put channels."""
    rank = dice.choose([2, 3, 4, 4, 4, 5])
    shape = [dice.choose(_SIZES) for _ in range(rank)]
    shape[0] = dice.integer(1, 2)
    return tuple(shape), dice.choose([1, 1, 1, rank - 1, rank - 2])


def draw_site(dice: Dice, op_type: str) -> tuple[Site, Step]:
    """A site that suits a row of the CARRY table, and the step of it."""
    for _ in range(_ATTEMPTS):
        shape, axis = draw_shape(dice)
        site = Site(dice, draw_opset(dice, op_type), shape, axis)
        try:
            return site, carry_steps.STRATEGIES[op_type](site)
        except Unsuited:
            continue
    raise AssertionError(f"no site suits {op_type}")


def further_axis(site: Site, shape: Shape) -> int:
    """The axis of the channels of a further data input."""
    return site.axis - site.rank + len(shape)


def place(net: Network, step: Step, data: Sequence[str]) -> list[str]:
    """Put a step's node behind its data inputs."""
    parameters = ["" if p is None else net.constant(np.asarray(p)) for p in step.parameters]
    inputs = [*data, *parameters]
    return net.node(step.op_type, inputs, outputs=step.outputs, **step.attributes)


def limits_of(step: Step, axis: int | None, *, uniform: bool) -> Limits:
    return Limits(axis, step.positive, step.shiftless, step.uniform or uniform)


def carried_up(op_type: str, seed: int, elem_type: int) -> Case:
    """Linear operators → the row's operator → affines."""
    dice = Dice(op_type, "up", seed)
    site, step = draw_site(dice, op_type)
    net = Network(dice, site.opset, elem_type, batch=dice.chance(0.2))
    shapes = [site.shape, *step.more]
    made = [linear_steps.any_source(net, shape, further_axis(site, shape)) for shape in shapes]
    outputs = place(net, step, [m.tensor for m in made])
    limits = limits_of(step, step.axis, uniform=step.uniform_up)
    ends = [affine_steps.any_affines(net, tensor, limits) for tensor in outputs]
    free = step.shiftless or all(m.takes_shift for m in made)
    fills = can_fill(net, step)
    return Case(net, net.model(ends), step.up and free and fills and not net.batch)


def carried_down(op_type: str, seed: int, elem_type: int) -> Case:
    """Affines → the row's operator → linear operators."""
    dice = Dice(op_type, "down", seed)
    site, step = draw_site(dice, op_type)
    net = Network(dice, site.opset, elem_type, batch=dice.chance(0.2))
    data = []
    for index, shape in enumerate([site.shape, *step.more]):
        limits = limits_of(step, further_axis(site, shape), uniform=step.uniform_down)
        if index and step.one_arm:
            data.append(net.feed(shape))
            continue
        if step.one_arm:
            limits = Limits(limits.axis, scaleless=True)
        data.append(affine_steps.any_affines(net, net.feed(shape), limits))
    outputs = place(net, step, data)
    made = [_read(net, tensor, step.axis) for tensor in outputs]
    free = all(m.absorbs and (step.shiftless or m.takes_shift) for m in made)
    fills = can_fill(net, step)
    model = net.model([m.tensor for m in made])
    return Case(net, model, step.down and free and fills and not net.batch)


def can_fill(net: Network, step: Step) -> bool:
    """Whether a Pad may fill with any number: before opset 11 its value is a float32."""
    return not (step.uniform and net.opset < 11 and net.elem_type == onnx.TensorProto.DOUBLE)


def _read(net: Network, tensor: str, axis: int | None) -> linear_steps.Made:
    """Read a tensor by something linear, or else leave it as an output that no fold can change."""
    try:
        return linear_steps.any_reader(net, tensor, 1 if axis is None else axis)
    except Unsuited:
        return linear_steps.Made(net.op("Sigmoid", tensor), takes_shift=False, absorbs=False)


def linear_output(op_type: str, seed: int, elem_type: int) -> Case:
    """The linear row → affines."""
    dice = Dice(op_type, "output", seed)
    net = Network(dice, draw_opset(dice, op_type), elem_type, batch=dice.chance(0.2))
    source = {**linear_steps.SOURCES, **linear_steps.NORMALIZATIONS}[op_type]
    made, axis = _linear(net, lambda shape, axis: source(net, shape, axis))
    shiftless = not made.takes_shift and dice.chance(0.5)
    end = affine_steps.any_affines(net, made.tensor, Limits(axis, shiftless=shiftless))
    free = made.takes_shift or shiftless
    return Case(net, net.model([end]), free and (axis > 0 or not net.batch))


def linear_input(op_type: str, seed: int, elem_type: int) -> Case:
    """Affines → the linear row."""
    dice = Dice(op_type, "input", seed)
    net = Network(dice, draw_opset(dice, op_type), elem_type, batch=dice.chance(0.2))
    shiftless = dice.chance(0.3)

    def build(shape: Shape, axis: int) -> linear_steps.Made:
        limits = Limits(axis, shiftless=shiftless)
        if op_type in ("Conv", "ConvTranspose") and (axis != 1 or len(shape) < 3):
            raise Unsuited
        if op_type == "DeformConv" and (axis != 1 or len(shape) != 4):
            raise Unsuited
        if op_type == "Gemm" and len(shape) != 2:
            raise Unsuited
        if op_type == "MatMul" and axis < len(shape) - 2:
            raise Unsuited
        if op_type in linear_steps.CELLS and (axis, len(shape)) != (2, 3):
            raise Unsuited
        data = affine_steps.any_affines(net, net.feed(shape), limits)
        return {**linear_steps.READERS, **linear_steps.CELLS}[op_type](net, data, axis)

    made, axis = _linear(net, build)
    known = axis > 0 or not net.batch
    return Case(net, net.model([made.tensor]), known and (made.takes_shift or shiftless))


def _linear(net: Network, build: object) -> tuple[linear_steps.Made, int]:
    assert callable(build)
    for _ in range(_ATTEMPTS):
        shape, axis = draw_shape(net.dice)
        try:
            made = build(shape, axis)
        except Unsuited:
            continue
        assert isinstance(made, linear_steps.Made)
        return made, axis
    raise AssertionError("no shape suits")


def affine_row(op_type: str, seed: int, elem_type: int) -> Case:
    """Something linear → the affine row, or the affine row → something linear."""
    dice = Dice(op_type, "affine", seed)
    net = Network(dice, draw_opset(dice, op_type), elem_type, batch=dice.chance(0.2))
    strategy = affine_steps.STRATEGIES[op_type]
    for _ in range(_ATTEMPTS):
        shape, axis = draw_shape(dice)
        try:
            made = linear_steps.any_source(net, shape, axis)
        except Unsuited:
            continue
        linear = net.nodes[-1]
        end = strategy(net, made.tensor, Limits(axis))
        if end is not None:
            is_bias = op_type in ("Add", "Sub") and linear.op_type == "MatMul"
            return Case(net, net.model([end]), made.takes_shift and not is_bias)
    raise AssertionError(f"no shape suits {op_type}")


def left(model: onnx.ModelProto) -> list[str]:
    """The affine nodes that are still in a model, an Add that is the bias of a MatMul apart."""
    products = {node.output[0] for node in model.graph.node if node.op_type == "MatMul"}
    stay = [node for node in model.graph.node if node.name.startswith(AFFINE)]
    return [n.name for n in stay if n.op_type != "Add" or not products.intersection(n.input)]
