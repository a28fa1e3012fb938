"""Every row of the COMPOSITES table, in the spellings that exporters write, stays whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import pytest
import transformer
from evaluation import assert_same
from executed import LEVELS, executed
from invariants import check_invariants
from transformer import Writer

import bnfold
from bnfold.files import from_proto
from bnfold.graph.facts.composites import find_composites
from bnfold.graph.plan.planner import read_graph
from bnfold.rules.composites import COMPOSITES

if TYPE_CHECKING:
    from bnfold.graph.facts.composites import Composite

Spelling = Callable[[Writer, str], str]

WIDTH: Final = 8
ROOT: Final = 2**0.5


def c(w: Writer, value: float) -> str:
    return w.constant(value)


def _erf(w: Writer, x: str, *, divided: bool, swapped: bool) -> str:
    scaled = w.op("Div", x, c(w, ROOT)) if divided else w.op("Mul", c(w, 0.70710677), x)
    erf = w.op("Erf", scaled)
    return w.op("Add", c(w, 1), erf) if swapped else w.op("Add", erf, c(w, 1))


def half_first(w: Writer, x: str) -> str:
    return w.op("Mul", w.op("Mul", x, c(w, 0.5)), _erf(w, x, divided=False, swapped=False))


def half_in_the_middle(w: Writer, x: str) -> str:
    return w.op("Mul", w.op("Mul", c(w, 0.5), _erf(w, x, divided=True, swapped=True)), x)


def halved_by_division(w: Writer, x: str) -> str:
    return w.op("Div", w.op("Mul", _erf(w, x, divided=True, swapped=True), x), c(w, 2))


def gelu_in_float32(w: Writer, x: str) -> str:
    """As exported under autocast: erf is computed in another type."""
    wide = w.op("Cast", w.op("Div", x, c(w, ROOT)), to=onnx.TensorProto.DOUBLE)
    erf = w.op("Cast", w.op("Erf", wide), to=onnx.TensorProto.FLOAT)
    return w.op("Mul", w.op("Mul", x, w.op("Add", erf, c(w, 1))), c(w, 0.5))


def tanh_factored(w: Writer, x: str) -> str:
    """Return ½ x (1 + tanh(0.79788 x (1 + 0.044715 x x)))."""
    square = w.op("Mul", w.op("Mul", x, c(w, 0.044715)), x)
    inner = w.op("Mul", w.op("Mul", x, c(w, 0.7978845608)), w.op("Add", square, c(w, 1)))
    return w.op("Mul", w.op("Mul", c(w, 0.5), x), w.op("Add", c(w, 1), w.op("Tanh", inner)))


def tanh_cubed_by_hand(w: Writer, x: str) -> str:
    cube = w.op("Mul", x, w.op("Mul", x, x))
    inner = w.op("Mul", c(w, 0.7978846), w.op("Add", x, w.op("Mul", c(w, 0.044715), cube)))
    return w.op("Mul", x, w.op("Mul", c(w, 0.5), w.op("Add", c(w, 1), w.op("Tanh", inner))))


def clipped(w: Writer, x: str, low: float, high: float) -> str:
    return w.op("Clip", x, c(w, low), c(w, high))


def hard_swish_sixth_inside(w: Writer, x: str) -> str:
    relu6 = w.op("Min", w.op("Max", w.op("Add", x, c(w, 3)), c(w, 0)), c(w, 6))
    return w.op("Mul", w.op("Mul", relu6, c(w, 1 / 6)), x)


def hard_swish_relu(w: Writer, x: str) -> str:
    relu6 = w.op("Min", w.op("Relu", w.op("Add", c(w, 3), x)), c(w, 6))
    return w.op("Mul", x, w.op("Div", relu6, c(w, 6)))


def hard_swish_half(w: Writer, x: str) -> str:
    return w.op("Mul", x, hard_sigmoid_half(w, x))


def hard_sigmoid(w: Writer, x: str) -> str:
    return w.op("Div", clipped(w, w.op("Add", x, c(w, 3)), 0, 6), c(w, 6))


def hard_sigmoid_half(w: Writer, x: str) -> str:
    return clipped(w, w.op("Add", w.op("Div", x, c(w, 6)), c(w, 0.5)), 0, 1)


def soft_plus(w: Writer, x: str) -> str:
    return w.op("Log", w.op("Add", w.op("Exp", x), c(w, 1)))


def _deviation(w: Writer, centred: str, mean: Callable[[Writer, str], str]) -> str:
    variance = mean(w, w.op("Mul", centred, centred))
    return w.op("Sqrt", w.op("Add", c(w, 1e-5), variance))


def _parameters(w: Writer, normal: str, *, scale: bool = True, shift: bool = True) -> str:
    scaled = w.op("Mul", w.random(WIDTH, around=1), normal) if scale else normal
    return w.op("Add", scaled, w.random(WIDTH)) if shift else scaled


def layer_norm_twice_subtracted(w: Writer, x: str) -> str:
    """As PyTorch's exporter wrote it before 1.5: the mean is taken away twice."""
    average = transformer.mean(w, x)
    deviation = _deviation(w, w.op("Sub", x, average), transformer.mean)
    return _parameters(w, w.op("Div", w.op("Sub", x, average), deviation))


def layer_norm_by_reciprocal(w: Writer, x: str) -> str:
    centred = w.op("Sub", x, transformer.mean(w, x))
    rate = w.op("Reciprocal", _deviation(w, centred, transformer.mean))
    return _parameters(w, w.op("Mul", centred, rate))


def layer_norm_bare(w: Writer, x: str) -> str:
    centred = w.op("Sub", x, transformer.mean(w, x))
    return w.op("Div", centred, _deviation(w, centred, transformer.mean))


def layer_norm_spread(w: Writer, x: str) -> str:
    """As TensorFlow writes it: x r + (β − E r)."""
    average = transformer.mean(w, x)
    deviation = _deviation(w, w.op("Sub", x, average), transformer.mean)
    rate = w.op("Mul", w.op("Reciprocal", deviation), w.random(WIDTH, around=1))
    shift = w.op("Sub", w.random(WIDTH), w.op("Mul", average, rate))
    return w.op("Add", w.op("Mul", x, rate), shift)


def layer_norm_in_double(w: Writer, x: str) -> str:
    wide = w.op("Cast", x, to=onnx.TensorProto.DOUBLE)
    centred = w.op("Sub", wide, transformer.mean(w, wide))
    variance = transformer.mean(w, w.op("Pow", centred, c(w, 2)))
    deviation = w.op("Sqrt", w.op("Add", variance, w.constant(1e-5, np.float64)))
    narrow = w.op("Cast", w.op("Div", centred, deviation), to=onnx.TensorProto.FLOAT)
    return _parameters(w, narrow)


def rms_norm(w: Writer, x: str) -> str:
    square = transformer.mean(w, w.op("Pow", x, c(w, 2)))
    rate = w.op("Reciprocal", w.op("Sqrt", w.op("Add", square, c(w, 1e-6))))
    return _parameters(w, w.op("Mul", x, rate), shift=False)


def rms_norm_by_power(w: Writer, x: str) -> str:
    square = w.op("Add", transformer.mean(w, w.op("Mul", x, x)), c(w, 1e-6))
    return _parameters(w, w.op("Mul", w.op("Pow", square, c(w, -0.5)), x), shift=False)


def _in_image(spelling: Spelling) -> Spelling:
    """Put what is of channels between Reshapes that make an image of eight channels."""

    def spelled(w: Writer, x: str) -> str:
        image = w.op("Reshape", x, w.integers(1, WIDTH, 2, 2))
        return w.op("Reshape", spelling(w, image), w.integers(1, 4, WIDTH))

    return spelled


def _on_channels(w: Writer, x: str) -> str:
    scaled = w.op("Mul", x, w.random(WIDTH, 1, 1, around=1))
    return w.op("Add", scaled, w.random(WIDTH, 1, 1))


@_in_image
def instance_norm(w: Writer, x: str) -> str:
    def mean(w: Writer, x: str) -> str:
        return w.op("ReduceMean", x, axes=[2, 3])

    centred = w.op("Sub", x, mean(w, x))
    return _on_channels(w, w.op("Div", centred, _deviation(w, centred, mean)))


@_in_image
def group_norm(w: Writer, x: str) -> str:
    groups = w.op("Reshape", x, w.integers(0, 4, -1))
    ones, zeros = w.constant(np.ones(4)), w.constant(np.zeros(4))
    normal = w.op("InstanceNormalization", groups, ones, zeros)
    return _on_channels(w, w.op("Reshape", normal, w.integers(1, WIDTH, 2, 2)))


def l2_norm(w: Writer, x: str) -> str:
    norm = w.op("Clip", w.op("ReduceL2", x, axes=[-1]), c(w, 1e-12))
    return w.op("Div", x, norm)


def l2_norm_by_hand(w: Writer, x: str) -> str:
    norm = w.op("Sqrt", w.op("ReduceSumSquare", x, axes=[-1]))
    return w.op("Div", x, w.op("Max", norm, c(w, 1e-12)))


def _attention(scaled: transformer.Scaled) -> Spelling:
    return lambda w, x: transformer.attention(w, x, WIDTH, 2, 4, scaled)


def attention_in_order(w: Writer, x: str) -> str:
    """No token looks ahead; both sides are scaled by a root that is computed, as by PyTorch."""
    query, key = (w.op("MatMul", x, w.random(WIDTH, WIDTH)) for _ in range(2))
    root = [w.op("Sqrt", c(w, 8**-0.5)) for _ in range(2)]
    turned = w.op("Mul", w.op("Transpose", key, perm=[0, 2, 1]), root[1])
    scores = w.op("MatMul", w.op("Mul", query, root[0]), turned)
    earlier = w.constant(np.tril(np.ones((4, 4))), np.bool_)
    shown = w.op("Softmax", w.op("Where", earlier, scores, c(w, -1e9)), axis=-1)
    return w.op("MatMul", shown, x)


def tanh_by_integer_power(w: Writer, x: str) -> str:
    cube = w.op("Mul", w.op("Pow", x, w.constant(3, np.int64)), c(w, 0.044715))
    inner = w.op("Mul", w.op("Add", cube, x), w.op("Sqrt", c(w, 2 / np.pi)))
    return w.op("Mul", w.op("Mul", x, c(w, 0.5)), w.op("Add", w.op("Tanh", inner), c(w, 1)))


def layer_norm_by_power(w: Writer, x: str) -> str:
    centred = w.op("Sub", x, transformer.mean(w, x))
    variance = w.op("Add", transformer.mean(w, w.op("Pow", centred, c(w, 2))), c(w, 1e-5))
    return _parameters(w, w.op("Mul", centred, w.op("Pow", variance, c(w, -0.5))))


def rms_norm_by_division(w: Writer, x: str) -> str:
    square = w.op("Add", transformer.mean(w, w.op("Pow", x, c(w, 2))), c(w, 1e-6))
    rate = w.op("Div", c(w, 1), w.op("Sqrt", square))
    return _parameters(w, w.op("Mul", x, rate), shift=False)


def l2_norm_expanded(w: Writer, x: str) -> str:
    norm = w.op("Clip", w.op("ReduceL2", x, axes=[-1]), c(w, 1e-12))
    return w.op("Div", x, w.op("Expand", norm, w.op("Shape", x)))


def fake_quantization(w: Writer, x: str) -> str:
    steps = w.op("Round", w.op("Div", x, c(w, 0.1)))
    return w.op("Mul", clipped(w, steps, -128, 127), c(w, 0.1))


SPELLINGS: Final[Mapping[str, Sequence[Spelling]]] = {
    "GELU": [
        transformer.gelu,
        half_first,
        half_in_the_middle,
        halved_by_division,
        gelu_in_float32,
    ],
    "GELU by tanh": [
        transformer.tanh_gelu,
        tanh_factored,
        tanh_cubed_by_hand,
        tanh_by_integer_power,
    ],
    "SiLU": [lambda w, x: w.op("Mul", w.op("Sigmoid", x), x)],
    "QuickGELU": [transformer.quick_gelu],
    "Mish": [
        lambda w, x: w.op("Mul", x, w.op("Tanh", soft_plus(w, x))),
        lambda w, x: w.op("Mul", x, w.op("Tanh", w.op("Softplus", x))),
    ],
    "softplus": [soft_plus],
    "hard-swish": [
        transformer.hard_swish,
        hard_swish_sixth_inside,
        hard_swish_relu,
        hard_swish_half,
        lambda w, x: w.op("Mul", x, w.op("HardSigmoid", x, alpha=1 / 6)),
    ],
    "hard-sigmoid": [hard_sigmoid, hard_sigmoid_half],
    "layer normalization": [
        lambda w, x: transformer.layer_norm(w, x, WIDTH),
        layer_norm_twice_subtracted,
        layer_norm_by_reciprocal,
        layer_norm_by_power,
        layer_norm_bare,
        layer_norm_spread,
        layer_norm_in_double,
    ],
    "RMS normalization": [rms_norm, rms_norm_by_power, rms_norm_by_division],
    "instance normalization": [instance_norm],
    "group normalization": [group_norm],
    "L2 normalization": [l2_norm, l2_norm_by_hand, l2_norm_expanded],
    "attention scores": [
        _attention("scores"),
        _attention("query"),
        _attention("both"),
        attention_in_order,
    ],
    "fake quantization": [fake_quantization],
}
"""The spellings of each row."""

each_spelling = pytest.mark.parametrize(
    ("name", "spelling"), [(name, s) for name, listed in SPELLINGS.items() for s in listed]
)


def made(spelling: Spelling, *, before: str = "", behind: str = "") -> onnx.ModelProto:
    """A composite between two matrix products, with affine nodes before or behind it."""
    w = Writer(13)

    def affines(x: str, op_types: str) -> str:
        for op_type in op_types.split():
            x = w.op(op_type, x, w.random(WIDTH, around=1))
        return x

    x = affines(transformer.linear(w, "x", WIDTH, WIDTH), before)
    y = affines(spelling(w, x), behind)
    return w.model({"x": (1, 4, WIDTH)}, w.op("MatMul", y, w.random(WIDTH, WIDTH)))


def composites_of(model: onnx.ModelProto) -> tuple[Composite, ...]:
    with from_proto(model) as opened:
        return find_composites(read_graph(opened))


def test_every_row_has_spellings() -> None:
    assert [row.name for row in COMPOSITES if row.name not in SPELLINGS] == []


@each_spelling
def test_it_is_found_and_stays_whole(name: str, spelling: Spelling) -> None:
    model = made(spelling)
    assert name in [composite.name for composite in composites_of(model)]
    folding = bnfold.fold(model)
    assert [fold.to_dict() for fold in folding.folds] == []


@each_spelling
def test_what_lies_around_it_is_folded(name: str, spelling: Spelling) -> None:
    model = made(spelling, before="Mul Add", behind="Mul")
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    own = spelling is layer_norm_bare  # the Mul behind it is its scale
    assert folding.after.nodes == folding.before.nodes - (2 if own else 3)
    assert name in [composite.name for composite in composites_of(folding.model)]
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, WIDTH)).astype(np.float32)}
    if "Cast" not in {node.op_type for node in model.graph.node}:  # they round on the way
        assert_same(model, folding.model, feeds, onnx.TensorProto.FLOAT)
        for level in LEVELS:
            before, after = (executed(m, level, feeds) for m in (model, folding.model))
            assert after.total() <= before.total(), level


@pytest.mark.parametrize(
    "spelling",
    [
        SPELLINGS["layer normalization"][0],
        layer_norm_twice_subtracted,
        layer_norm_by_reciprocal,
        layer_norm_spread,
    ],
)
def test_a_normalization_takes_an_affine_into_its_own_parameters(spelling: Spelling) -> None:
    w = Writer(13)
    y = w.op("Add", w.op("Mul", spelling(w, "x"), w.random(WIDTH)), w.random(WIDTH))
    model = w.model({"x": (1, 4, WIDTH)}, w.op("Tanh", y))
    folding = bnfold.fold(model)
    check_invariants(model, folding)
    assert folding.after.nodes == folding.before.nodes - 2
    [composite] = composites_of(folding.model)
    assert composite.scale is not None
    assert composite.shift is not None
    shapes = {t.name: list(t.dims) for t in folding.model.graph.initializer}
    assert sum(dims == [WIDTH] for dims in shapes.values()) == 2  # vectors, as runtimes look for
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, WIDTH)).astype(np.float32)}
    assert_same(model, folding.model, feeds, onnx.TensorProto.FLOAT)


def test_another_axis_is_not_taken_into_the_parameters() -> None:
    w = Writer(13)
    y = w.op("Mul", transformer.layer_norm(w, "x", WIDTH), w.random(4, 1))
    model = w.model({"x": (1, 4, WIDTH)}, w.op("Tanh", y))
    assert not bnfold.fold(model).folds


@pytest.mark.parametrize("opset", [18, 20])
def test_the_channels_of_a_group_share_one_scale(opset: int) -> None:
    def norm(scale: list[float]) -> onnx.ModelProto:
        w = Writer(opset)
        parameters = w.random(2, around=1), w.random(2)
        y = w.op("GroupNormalization", "x", *parameters, num_groups=2)
        y = w.op("Mul", y, w.constant(np.reshape(scale, (4, 1))))
        return w.model({"x": (1, 4, WIDTH)}, w.op("Tanh", y))

    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, WIDTH)).astype(np.float32)}
    alike = norm([2, 2, 3, 3])
    folding = bnfold.fold(alike)
    assert folding.after.nodes == 2
    assert_same(alike, folding.model, feeds, onnx.TensorProto.FLOAT)
    assert not bnfold.fold(norm([2, 3, 3, 3])).folds


def _read_inside(w: Writer, x: str) -> str:
    erf = _erf(w, x, divided=True, swapped=False)
    gelu = w.op("Mul", w.op("Mul", x, erf), c(w, 0.5))
    return w.op("Add", gelu, erf)


@pytest.mark.parametrize(
    "spelling",
    [
        _read_inside,
        lambda w, x: w.op("Mul", w.op("Mul", x, w.op("Erf", x)), c(w, 0.5)),
        lambda w, x: w.op("Div", clipped(w, w.op("Add", x, c(w, 2)), 0, 6), c(w, 6)),
        lambda w, x: w.op("Mul", w.op("Sigmoid", w.op("Tanh", x)), x),
    ],
)
def test_what_only_looks_like_one_is_none(spelling: Spelling) -> None:
    assert composites_of(made(spelling)) == ()


def test_no_two_composites_have_a_node_in_common() -> None:
    found = composites_of(transformer.blocks(13, count=3))
    nodes = [node for composite in found for node in composite.nodes]
    assert len(nodes) == len(set(nodes))
    assert len(found) == 3 * 4


@pytest.mark.parametrize("names", [("hard-swish",), ("Hard-Swish",), ("all",), ("ALL", "all")])
def test_a_composite_is_taken_apart_where_that_is_asked_for(names: tuple[str, ...]) -> None:
    model = made(transformer.hard_swish)
    assert not bnfold.fold(model).folds
    folding = bnfold.fold(model, take_apart=names)
    check_invariants(model, folding)
    assert folding.after.nodes == folding.before.nodes - 1


def test_a_composite_that_there_is_not_is_refused() -> None:
    with pytest.raises(bnfold.RequestError, match="'swoosh'; there are GELU"):
        bnfold.fold(made(transformer.gelu), take_apart=["swoosh"])
