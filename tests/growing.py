"""Random networks out of all rows: chains, branches, joins, and what gets in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import affine_steps
import carry_steps
import linear_steps
import numpy as np
import onnx
import rowcases
from affine_steps import Limits
from building import AFFINE, Network
from dice import Dice
from onnx import TensorProto, helper
from steps import Site, Unsuited

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTEMPTS = 10
_LARGEST = 1500  # elements of a tensor
_HIGHEST = 6  # rank of a tensor
_CONDITION = "condition"
_LINEAR_DATA = {"Conv": 0, "ConvTranspose": 0, "Gemm": 0}


@dataclass(frozen=True)
class Live:
    """A tensor to go on from, and the axis of its channels."""

    tensor: str
    axis: int


def grow_valid(seed: int) -> tuple[Grower, onnx.ModelProto]:
    """A network that ONNX's checker accepts: its shape inference errs on some windows of pools."""
    for attempt in range(_ATTEMPTS):
        grower = Grower(seed, attempt)
        model = grower.grow()
        try:
            onnx.checker.check_model(model, full_check=True)
        except onnx.shape_inference.InferenceError:
            continue
        return grower, model
    raise AssertionError("no valid network")


class Grower:
    """A network that grows by random actions."""

    def __init__(self, seed: int, attempt: int = 0) -> None:
        self.dice = Dice("graph", seed, attempt)
        opset = self.dice.integer(rowcases.FIRST, rowcases.LAST)
        self.net = Network(self.dice, opset, batch=self.dice.chance(0.2))
        self.live: list[Live] = []
        self.outputs: list[str] = []
        actions: list[tuple[int, Callable[[Live], None]]] = [
            (8, self.read),
            (8, self.normalize),
            (6, self.scale),
            (12, self.carry),
            (2, self.squash),
            (2, self.share_weight),
            (4, self.repeat_affine),
            (1, self.branch_on),
            (1, self.measure),
            (1, self.show),
        ]
        self._actions = [action for weight, action in actions for _ in range(weight)]

    def grow(self) -> onnx.ModelProto:
        """Return a network."""
        for _ in range(self.dice.integer(1, 2)):
            shape, axis = rowcases.draw_shape(self.dice)
            if self.dice.chance(0.5):
                self._add(self.net.feed(shape), axis)
            else:
                self._add(linear_steps.any_source(self.net, shape, axis).tensor, axis)
        for _ in range(self.dice.integer(3, 16)):
            try:
                self.dice.choose(self._actions)(self._next())
            except Unsuited:
                continue
        read = {name for node in self.net.nodes for name in node.input}
        ends = [live.tensor for live in self.live if live.tensor not in read]
        inputs = {value.name for value in self.net.inputs}
        shown = [t for t in dict.fromkeys([*self.outputs, *ends]) if t not in inputs]
        return self.net.model(shown or [self.net.op("Sigmoid", self.live[0].tensor)])

    def _next(self) -> Live:
        """Mostly the newest tensor, so that chains grow long; sometimes any."""
        recent = self.dice.choose([1, 1, 1, 1, 3, len(self.live)])
        return self.dice.choose(self.live[-recent:])

    def _add(self, tensor: str, axis: int) -> None:
        value = self.net.values[tensor]
        if 0 < value.size <= _LARGEST and value.ndim <= _HIGHEST:
            self.live.append(Live(tensor, axis))
        else:
            self.outputs.append(tensor)

    # -- actions ------------------------------------------------------------------------------

    def read(self, live: Live) -> None:
        made = linear_steps.any_reader(self.net, live.tensor, live.axis)
        stays = any(node.op_type == "MatMul" for node in self.net.nodes[-3:])
        rank = len(self.net.shape(made.tensor))
        self._add(made.tensor, live.axis if stays else min(1, rank - 1))

    def normalize(self, live: Live) -> None:
        self._put(affine_steps.normalization, live)

    def scale(self, live: Live) -> None:
        self._put(self.dice.choose(list(affine_steps.STRATEGIES.values())), live)

    def _put(self, strategy: affine_steps.AffineStrategy, live: Live) -> None:
        easy = self.dice.chance(0.5)
        limits = Limits(live.axis, positive=easy, shiftless=easy and self.dice.chance(0.5))
        made = strategy(self.net, live.tensor, limits)
        if made is not None:
            self._add(made, live.axis)

    def carry(self, live: Live) -> None:
        op_type = self.dice.choose(list(carry_steps.STRATEGIES))
        newest = rowcases.NEWEST.get(op_type, rowcases.LAST)
        if not rowcases.OLDEST.get(op_type, rowcases.FIRST) <= self.net.opset <= newest:
            raise Unsuited
        shape = self.net.shape(live.tensor)
        site = Site(self.dice, self.net.opset, shape, live.axis)
        step = carry_steps.STRATEGIES[op_type](site)
        more = [(wanted, rowcases.further_axis(site, wanted)) for wanted in step.more]
        data = [live.tensor, *(self._of_shape(wanted, axis) for wanted, axis in more)]
        if step.more and self.dice.chance(0.5):
            data.reverse()
        for tensor in rowcases.place(self.net, step, data):
            rank = len(self.net.shape(tensor))
            self._add(tensor, min(1 if step.axis is None else step.axis, rank - 1))

    def _of_shape(self, shape: tuple[int, ...], axis: int) -> str:
        """A tensor that is there already, or a new one."""
        found = [live.tensor for live in self.live if self.net.shape(live.tensor) == shape]
        if found and self.dice.chance(0.6):
            return self.dice.choose(found)
        return linear_steps.any_source(self.net, shape, axis).tensor

    def squash(self, live: Live) -> None:
        self._add(self.net.op(self.dice.choose(["Sigmoid", "Tanh"]), live.tensor), live.axis)

    def share_weight(self, live: Live) -> None:
        """Do with a tensor what was done with another of its shape, with the same weights."""
        shape = self.net.shape(live.tensor)
        alike = [
            node
            for node in self.net.nodes
            if node.op_type in _LINEAR_DATA and self.net.shape(node.input[0]) == shape
        ]
        if not alike:
            raise Unsuited
        node = self.dice.choose(alike)
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._add(self.net.op(node.op_type, live.tensor, *node.input[1:], **given), 1)

    def repeat_affine(self, live: Live) -> None:
        """Put an affine behind a tensor that is already behind it, or behind another one."""
        shape = self.net.shape(live.tensor)
        same: list[tuple[onnx.NodeProto, int]] = []
        alike: list[tuple[onnx.NodeProto, int]] = []
        for node in self.net.nodes:
            data = self._data_of_affine(node)
            if data is not None and self.net.shape(node.input[data]) == shape:
                (same if node.input[data] == live.tensor else alike).append((node, data))
        if not same and not alike:
            raise Unsuited
        node, data = self.dice.choose(same if same and self.dice.chance(0.5) else alike or same)
        inputs = [*node.input]
        inputs[data] = live.tensor
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._add(self.net.op(node.op_type, *inputs, stem=AFFINE, **given), live.axis)

    def _data_of_affine(self, node: onnx.NodeProto) -> int | None:
        """The input of a node that is an affine of it; None if it is none."""
        stored = {tensor.name for tensor in self.net.initializers}
        data = [i for i, name in enumerate(node.input) if name not in stored]
        is_affine = node.op_type in ("BatchNormalization", "Mul", "Add", "Sub", "Div")
        return data[0] if is_affine and len(data) == 1 and len(node.input) > 1 else None

    def branch_on(self, live: Live) -> None:
        """Let the branches of an If read a tensor from outside."""
        if self.net.opset < 11:
            raise Unsuited
        net, name = self.net, self.net.name("if")
        if _CONDITION not in net.values:
            net.inputs.append(helper.make_tensor_value_info(_CONDITION, TensorProto.BOOL, []))
            net.values[_CONDITION] = np.asarray(True)  # noqa: FBT003 - numpy's
        branches = {}
        for branch, op_type in (("then_branch", "Tanh"), ("else_branch", "Sigmoid")):
            inner = f"{name}_{branch}"
            node = helper.make_node(op_type, [live.tensor], [inner])
            output = helper.make_tensor_value_info(inner, net.elem_type, None)
            branches[branch] = helper.make_graph([node], inner, [], [output])
        made = f"{name}_out"
        net.nodes.append(helper.make_node("If", [_CONDITION], [made], name=name, **branches))
        net.values[made] = np.tanh(net.values[live.tensor])
        self._add(made, live.axis)

    def measure(self, live: Live) -> None:
        self.outputs.append(self.net.op("Shape", live.tensor))

    def show(self, live: Live) -> None:
        self.outputs.append(live.tensor)

    @property
    def magnitude(self) -> float:
        """The largest number anywhere in the network; a bound that is infinite is none."""
        floats = [v for v in self.net.values.values() if v.dtype.kind == "f"]
        return max(float(np.max(np.abs(v), initial=0.0, where=np.isfinite(v))) for v in floats)
