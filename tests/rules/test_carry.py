"""The law of the CARRY table: op(A_in(x)) = A_out(op(x)), for every row, up and down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import carry_steps
import numpy as np
import onnx
import pytest
import rowcases
from building import Network
from dice import Dice
from evaluation import assert_close, run_node
from onnx import helper

from bnfold.reasons import Refusal
from bnfold.rules.affine import Affine
from bnfold.rules.carry import CARRY
from bnfold.rules.operator import Operator, Value
from bnfold.rules.passage import Blind, Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evaluation import Array

_SEEDS = 60
_ROWS = sorted(name for name, row in CARRY.items() if not isinstance(row, Blind))


@dataclass
class Applied:
    """A node with the numbers that it reads and makes, and the same as a rule sees it."""

    node: onnx.NodeProto
    opset: int
    values: dict[str, Array]
    op: Operator
    data: int

    @property
    def results(self) -> list[Array]:
        return [self.values[name] for name in self.node.output]

    def again(self, inputs: Mapping[int, Affine], stated: Affine | None) -> list[Array]:
        """The results after affines on inputs, and on the numbers that the node states itself."""
        values, node = dict(self.values), onnx.NodeProto()
        node.CopyFrom(self.node)
        for index, affine in inputs.items():
            name = f"changed_{index}"
            values[name] = affine.apply(values[node.input[index]])
            node.input[index] = name
        if stated is not None:
            _restate(node, self.opset, values, stated)
        return run_node(node, self.opset, values)


_STATED = {"Pad": {"value": (2, 0.0)}, "Clip": {"min": (1, -np.inf), "max": (2, np.inf)}}
"""The attributes of numbers that a node states, the inputs of newer opsets, and the defaults."""


def _restate(node: onnx.NodeProto, opset: int, values: dict[str, Array], affine: Affine) -> None:
    places = _STATED[node.op_type]
    with np.errstate(invalid="ignore"):
        ends = [affine.apply(_stated(node, name, values)) for name in places]
    new = [np.unique(end) for end in (np.minimum.reduce(ends), np.maximum.reduce(ends))]
    if any(end.size > 1 or np.isnan(end).any() for end in new):
        pytest.skip("a fold refuses numbers that differ")
    for (name, (index, _)), number in zip(places.items(), new, strict=False):
        if opset < 11:
            kept = [attribute for attribute in node.attribute if attribute.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, number.item())])
        else:
            node.input.extend([""] * (index + 1 - len(node.input)))
            node.input[index] = name
            values[name] = number[0]


def _stated(node: onnx.NodeProto, name: str, values: Mapping[str, Array]) -> Array:
    index, default = _STATED[node.op_type][name]
    stated = [attribute.f for attribute in node.attribute if attribute.name == name]
    if len(node.input) > index and node.input[index]:
        return values[node.input[index]]
    return np.asarray(stated[0] if stated else default, dtype=np.float64)


def draw(op_type: str, dice: Dice) -> Applied:
    site, step = rowcases.draw_site(dice, op_type)
    net = Network(dice, site.opset)
    data = [net.feed(shape) for shape in (site.shape, *step.more)]
    rowcases.place(net, step, data)
    node = net.nodes[-1]
    values = {name: Value(name, value.shape, net.elem_type) for name, value in net.values.items()}
    for name in set(node.input) - set(data) - {""}:
        array = net.values[name]
        values[name] = Value(name, array.shape, net.elem_type, partial(np.asarray, array))
    op = Operator(
        op_type,
        site.opset,
        tuple(values.get(name) for name in node.input),
        tuple(values[name] for name in node.output),
        {a.name: helper.get_attribute_value(a) for a in node.attribute},
    )
    return Applied(node, site.opset, net.values, op, len(data))


def draw_affine(dice: Dice, shape: tuple[int, ...]) -> Affine:
    """An affine that varies along some axes, of a kind that some rows take."""
    axes = dice.some(range(len(shape)))[: dice.integer(0, 2)]
    extents = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    kind = dice.choose(["any", "positive", "scale", "shift"])
    scale = np.ones(extents) if kind == "shift" else dice.factors(extents, positive=kind != "any")
    shift = np.zeros(extents) if kind == "scale" else dice.numbers(extents)
    return Affine.of(scale, shift)


def _check(applied: Applied, passage: Passage, expected: Mapping[int, Affine]) -> None:
    found = applied.again(passage.inputs, passage.stated)
    wanted = [
        expected[index].apply(result) if index in expected else result
        for index, result in enumerate(applied.results)
    ]
    assert_close(wanted, found, elem_type=_precision(applied))


def _precision(applied: Applied) -> int:
    """A number that is stated in an attribute is a float32."""
    is_attribute = applied.op.op_type in _STATED and applied.opset < 11
    return onnx.TensorProto.FLOAT if is_attribute else onnx.TensorProto.DOUBLE


def _law_up(op_type: str, dice: Dice) -> bool:
    """Check one answer upwards; return whether there was one."""
    applied = draw(op_type, dice)
    output = dice.integer(0, len(applied.results) - 1)
    affine = draw_affine(dice, applied.results[output].shape)
    try:
        way = dice.choose(list(CARRY[op_type].ways_up(applied.op, affine)) or [0])
        passage = CARRY[op_type].up(applied.op, output, affine, way)
    except Refusal:
        return False
    _check(applied, passage, {output: affine})
    return True


def _law_down(op_type: str, dice: Dice) -> bool:
    """Check one answer downwards; return whether there was one."""
    applied = draw(op_type, dice)
    every = range(applied.data) if CARRY[op_type].every_input else range(1)
    indices = dice.some(list(every), least=1)
    affines = {i: draw_affine(dice, applied.values[applied.node.input[i]].shape) for i in indices}
    try:
        passage = CARRY[op_type].down(applied.op, affines)
    except Refusal:
        return False
    inputs = {**affines, **passage.inputs}
    _check(applied, Passage(inputs, passage.outputs, passage.stated), passage.outputs)
    return True


LAWS: Mapping[str, Callable[[str, Dice], bool]] = {"up": _law_up, "down": _law_down}


@pytest.mark.parametrize("op_type", _ROWS)
@pytest.mark.parametrize("law", LAWS)
def test_a_row_answers_by_the_law(op_type: str, law: str) -> None:
    answers = 0
    for seed in range(_SEEDS):
        try:
            answers += LAWS[law](op_type, Dice(op_type, law, seed))
        except pytest.skip.Exception:
            continue
        except AssertionError as error:
            raise AssertionError(f"{op_type} {law} {seed}: {error}") from error
    assert answers >= _SEEDS // 12, f"only {answers} answers"


def test_every_row_has_a_strategy() -> None:
    assert set(_ROWS) == set(carry_steps.STRATEGIES)
