"""Branches of one tensor that are added up: the blocks of published networks, and traps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from blocks import BLOCKS, CHANNELS_LAST, ChannelsLast, Net, all_blocks, block_model
from building import Network
from commandline import load, run
from dice import Dice
from evaluation import assert_same, feeds_of
from executed import assert_no_more_is_executed
from invariants import check_invariants
from onnx import TensorProto
from proving import NoProvider

import bnfold
from bnfold.verification import verifier
from bnfold.verification.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_SIZE = 9


def counted(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def linear(model: onnx.ModelProto) -> int:
    return sum(count for op_type, count in counted(model).items() if op_type in _LINEAR)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("elem_type", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_a_block_becomes_one_operator(name: str, elem_type: int) -> None:
    model = block_model(name, elem_type=elem_type)
    folding = bnfold.fold(model)
    assert folding.after.batch_normalizations == 0
    assert linear(folding.model) == BLOCKS[name][1]
    assert_same(model, folding.model, feeds_of(model, size=_SIZE), elem_type, 10.0)
    check_invariants(model, folding)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANNELS_LAST)
@pytest.mark.parametrize("shared", [True, False], ids=["one Transpose", "one for each"])
def test_transposes_around_branches_do_not_matter(name: str, *, shared: bool) -> None:
    """Channels last: each branch turns x, or they share what does, and turns its result back."""
    model = block_model(name, ChannelsLast, size=_SIZE, shared=shared)
    folding = bnfold.fold(model)
    assert folding.after.batch_normalizations == 0
    assert linear(folding.model) == BLOCKS[name][1]
    assert not any(kept.beside for kept in folding.kept)
    assert_same(model, folding.model, feeds_of(model, size=_SIZE), TensorProto.FLOAT, 10.0)
    check_invariants(model, folding)
    assert_no_more_is_executed(model, folding.model)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["one Transpose", "one for each"])
def test_the_command_line_proves_transposed_blocks(tmp_path: Path, *, shared: bool) -> None:
    model = all_blocks(ChannelsLast, CHANNELS_LAST, size=_SIZE, shared=shared)
    onnx.save(model, tmp_path / "blocks.onnx")  # noqa: TID251 - the test's own file
    done = run("blocks.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    assert "verification passed" in done.text
    folded = load(tmp_path / "blocks.folded.onnx")
    assert linear(folded) == sum(BLOCKS[name][1] for name in CHANNELS_LAST)


@pytest.mark.slow
def test_the_command_line_proves_all_blocks(tmp_path: Path) -> None:
    model = all_blocks(size=_SIZE)
    onnx.save(model, tmp_path / "blocks.onnx")  # noqa: TID251 - the test's own file
    done = run("blocks.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    folded = load(tmp_path / "blocks.folded.onnx")
    assert "verification passed" in done.text
    assert "BatchNormalization" not in counted(folded)
    assert linear(folded) == sum(count for _, count in BLOCKS.values())
    done = run("blocks.onnx", "-o", "apart.onnx", "--no-merge", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    apart = load(tmp_path / "apart.onnx")
    assert linear(apart) == linear(model)


_AFFINES: Mapping[str, tuple[Callable[[Net, str], str], dict[str, int]]] = {
    "x + BN(x)": (lambda n, x: n.op("Add", x, n.bn(x)), {"BatchNormalization": 1}),
    "x - BN(x)": (lambda n, x: n.op("Sub", x, n.bn(x)), {"BatchNormalization": 1}),
    "BN(x) + BN(x)": (lambda n, x: n.op("Add", n.bn(x), n.bn(x)), {"BatchNormalization": 1}),
    "k x + BN(x) + x": (
        lambda n, x: n.op("Sum", n.op("Mul", x, n.number(0.5)), n.bn(x), x),
        {"BatchNormalization": 1},
    ),
    "k x - x": (lambda n, x: n.op("Sub", n.op("Mul", x, n.number(0.5)), x), {"Mul": 1}),
    "z - BN(x) + x": (
        lambda n, x: n.add(n.op("Sub", n.op("Relu", x), n.bn(x)), x),
        {"Relu": 1, "BatchNormalization": 1, "Sub": 1},
    ),
    "x + (x + t)": (  # 2 x + t needs as many nodes
        lambda n, x: n.op("Add", x, n.op("Add", x, n.number(0.5))),
        {"Add": 2},
    ),
    "x + BN(x) between Transposes": (
        lambda n, x: n.op("Add", x, n.turn(n.bn(n.turn(x)))),
        {"Transpose": 2, "BatchNormalization": 1},
    ),
    "Conv(x + BN(x))": (lambda n, x: n.conv(n.op("Add", x, n.bn(x)), 1), {"Conv": 1}),
}


@pytest.mark.parametrize("name", _AFFINES)
@pytest.mark.parametrize("elem_type", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_affines_of_one_tensor_become_one(name: str, elem_type: int) -> None:
    make, left = _AFFINES[name]
    net = Net(elem_type=elem_type)
    net.output(net.op("Tanh", make(net, net.op("Sigmoid", net.feed()))))
    model = net.model()
    folding = bnfold.fold(model)
    assert counted(folding.model) == {"Sigmoid": 1, **left, "Tanh": 1}
    assert not any(kept.beside for kept in folding.kept)
    assert_same(model, folding.model, feeds_of(model, size=_SIZE), elem_type, 10.0)
    check_invariants(model, folding)


@pytest.mark.slow
def test_the_command_line_proves_sums_of_affines(tmp_path: Path) -> None:
    net = Net(size=_SIZE)
    x = net.op("Sigmoid", net.feed())
    for make, _ in _AFFINES.values():
        x = net.op("Tanh", make(net, x))
    net.output(x)
    onnx.save(net.model(), tmp_path / "sums.onnx")  # noqa: TID251 - the test's own file
    done = run("sums.onnx", cwd=tmp_path)
    assert done.code == 0, done.text + done.err
    assert "verification passed" in done.text


# -- random sums -------------------------------------------------------------------------------


class _Sum:
    """A random sum of branches of two tensors, in one to three dimensions."""

    def __init__(
        self, seed: int, elem_type: int = TensorProto.DOUBLE, *, turns: bool = False
    ) -> None:
        self.dice = Dice("sums", seed)
        self.turns = turns
        self.turned: dict[tuple[str, bool], str] = {}
        self.net = Network(self.dice, self.dice.choose([13, 17, 20]), elem_type)
        self.axes = self.dice.integer(1, 3)
        self.channels = self.dice.choose([2, 4, 6])
        shape = (2, self.channels, *(self.dice.integer(4, 5) for _ in range(self.axes)))
        self.sources = [self.net.feed(shape) for _ in range(2)]

    def conv(self, x: str) -> str:
        dice, axes = self.dice, self.axes
        taps = [dice.choose([1, 2, 3]) for _ in range(axes)]
        steps = [dice.choose([1, 1, 2]) for _ in range(axes)]
        extent = [(k - 1) * d + 1 for k, d in zip(taps, steps, strict=True)]
        begin = [dice.integer(0, e - 1) for e in extent]
        end = [e - 1 - b for e, b in zip(extent, begin, strict=True)]
        groups = dice.choose([g for g in (1, 2, self.channels) if not self.channels % g])
        shape = (self.channels, self.channels // groups, *taps)
        inputs = [x, self.net.constant(dice.numbers(shape), "weight")]
        if dice.chance(0.4):
            inputs.append(self.net.constant(dice.numbers((self.channels,)), "bias"))
        return self.net.op(
            "Conv", *inputs, pads=[*begin, *end], dilations=steps, group=groups, kernel_shape=taps
        )

    def affine(self, x: str) -> str:
        c, net, dice = self.channels, self.net, self.dice
        kind = dice.choose(["bn", "Mul", "Div", "Add", "Neg", "scalar"])
        if kind == "bn":
            parts = [dice.factors((c,)), dice.numbers((c,)), dice.numbers((c,)),
                     dice.factors((c,), positive=True)]  # fmt: skip
            return net.op("BatchNormalization", x, *(net.constant(p) for p in parts))
        if kind == "Neg":
            return net.op("Neg", x)
        shape = () if kind == "scalar" else (c, *[1] * self.axes)
        constant = net.constant(dice.factors(shape))
        return net.op("Mul" if kind == "scalar" else kind, x, constant)

    def between_transposes(self, x: str) -> str:
        """A branch that lets the spatial axes change places, or lets the channels be the last."""
        rank = 2 + self.axes
        last = self.dice.chance(0.3)
        order = [0, *range(2, rank), 1] if last else [0, 1, *reversed(range(2, rank))]
        back = np.argsort(order).tolist()
        if (x, last) not in self.turned or self.dice.chance(0.5):
            self.turned[x, last] = self.net.op("Transpose", x, perm=order)
        x = self.turned[x, last]
        if last:
            x = self.net.op("Mul", x, self.net.constant(self.dice.factors((self.channels,))))
            return self.net.op("Transpose", x, perm=back)
        if self.dice.chance(0.7):
            x = self.conv(x)
        x = self.affine(x) if self.dice.chance(0.3) else x
        x = self.net.op("Transpose", x, perm=back)
        return self.affine(x) if self.dice.chance(0.3) else x

    def leaf(self) -> str:
        x = self.sources[0] if self.dice.chance(0.8) else self.sources[1]
        if self.turns and self.dice.chance(0.5):
            return self.between_transposes(x)
        if self.dice.chance(0.6):
            x = self.conv(x)
        for _ in range(self.dice.integer(0, 2)):
            x = self.affine(x)
        return x

    def tree(self, size: int) -> str:
        if size == 1:
            return self.leaf()
        if size > 2 and self.dice.chance(0.2):
            made = self.net.op("Sum", *(self.leaf() for _ in range(size)))
        else:
            first = self.dice.integer(1, size - 1)
            op_type = self.dice.choose(["Add", "Add", "Sub"])
            made = self.net.op(op_type, self.tree(first), self.tree(size - first))
        return self.affine(made) if self.dice.chance(0.25) else made


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("turns", [False, True], ids=["plain", "Transposes"])
def test_random_sums(seed: int, *, turns: bool) -> None:
    case = _Sum(seed, turns=turns)
    made = case.tree(case.dice.integer(2, 6))
    model = case.net.model([made])
    folding = bnfold.fold(model)
    assert_same(model, folding.model, case.net.feeds())
    check_invariants(model, folding)


@pytest.mark.parametrize("seed", range(100, 120))
@pytest.mark.parametrize("turns", [False, True], ids=["plain", "Transposes"])
def test_random_sums_are_proved(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, turns: bool
) -> None:
    """As the command line does it, but for running the models."""
    monkeypatch.setattr(verifier, "Worker", NoProvider)
    case = _Sum(seed, TensorProto.FLOAT, turns=turns)
    model = case.net.model([case.tree(case.dice.integer(2, 6))])
    onnx.save(model, tmp_path / "sum.onnx")  # noqa: TID251 - the test's own file
    report = bnfold.fold_file(tmp_path / "sum.onnx")
    if report.folds:
        assert report.verification is not None
        assert report.verification.verdict is Verdict.PASSED_BY_PROOF


@pytest.mark.slow
@pytest.mark.parametrize("turns", [False, True], ids=["plain", "Transposes"])
def test_most_random_sums_are_merged(*, turns: bool) -> None:
    merged = 0
    for seed in range(60):
        case = _Sum(seed, turns=turns)
        model = case.net.model([case.tree(case.dice.integer(2, 6))])
        merged += linear(bnfold.fold(model).model) < linear(model)
    assert merged > (15 if turns else 20)  # other Transposes, other branches
