"""What the table says of an operator as a linear map is what the operator computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.files.opened import from_proto
from bnfold.verification.operators import kernels
from bnfold.verification.operators.table import TABLE
from bnfold.verification.proof.computing import Weights, value_of, weights_of
from bnfold.verification.proof.cone import Cone, cut
from bnfold.verification.proof.linear_walk import results
from bnfold.verification.proof.scopes import graph_scope

if TYPE_CHECKING:
    from bnfold.verification.dtypes import Array
    from bnfold.verification.operators.linear_map import Kernel, Map, Way

_NO_RULE = {
    "Cast": "it may round to integers",
    "CastLike": "it may round to integers",
    "DeformConv": "its offsets vary",
    "Einsum": "its equation may be any product",
}

_SHAPES = {
    "P": (4, 4, 1), "K": (6, 2, 3), "T": (4, 3, 3), "M": (4, 5), "N": (5, 4), "b": (6,), "u": (5,),
    "s": (4, 1), "r": (4,), "g": (4,), "v": (4,),
}  # fmt: skip
_INTEGERS = {"front": [0, 0, 1, 0, 0, 2], "one": [1], "seven": [7], "two": [2]}
_CONVOLVED = "c = Conv (x, P)"
_TURN = "Transpose <perm=[0,2,1]>"

_CASES = {
    "Conv": "a = Mul (x, s) y = Conv <dilations=[2], strides=[2], group=2, pads=[2,1]> (a, K, b)",
    "ConvTranspose": "a = Mul (x, s) y = ConvTranspose <strides=[2], group=2> (a, T, b)",
    "Gemm": "a = Mul (m, r) d = Add (a, r) y = Gemm <alpha=2.0, beta=3.0, transB=1> (d, N, u)",
    "MatMul": "a = Add (m, r) y = MatMul (a, M)",
    "AveragePool": """c = Conv (x, P) a = AveragePool <kernel_shape=[3], pads=[1,1],
                      count_include_pad=1> (x) y = Add (a, c)""",
    "BatchNormalization": f"{_CONVOLVED} y = BatchNormalization (c, g, r, g, v)",
    "Add": f"{_CONVOLVED} y = Add (c, x)",
    "Sub": f"{_CONVOLVED} y = Sub (s, c)",
    "Sum": f"{_CONVOLVED} y = Sum (c, s, x)",
    "Mul": f"{_CONVOLVED} y = Mul (s, c)",
    "Div": f"{_CONVOLVED} y = Div (c, s)",
    "Neg": f"{_CONVOLVED} a = Add (c, s) y = Neg (a)",
    "Identity": f"{_CONVOLVED} y = Identity (c)",
    "Dropout": f"{_CONVOLVED} y = Dropout (c)",
    "Transpose": f"""t = {_TURN} (x) a = Mul (t, r) p = Sub (r, a) {_CONVOLVED} d = {_TURN} (c)
                     e = Add (p, d) f = {_TURN} (e) h = BatchNormalization (f, g, r, g, v)
                     y = Transpose (h)""",
    "Slice": f"{_CONVOLVED} y = Slice (c, one, seven, two)",
    "Pad": "a = Pad (x, front) y = Conv <pads=[1,0], group=2> (a, K)",
}


def test_every_linear_operator_and_every_affine_has_a_rule() -> None:
    silent = {
        name
        for name, row in TABLE.items()
        if (row.is_linear or row.is_affine) and row.linear_map is None
    }
    assert silent == _NO_RULE.keys(), "without `linear_map` in the verifier's table"


def test_every_rule_has_a_case() -> None:
    assert {name for name, row in TABLE.items() if row.linear_map} == _CASES.keys()


@pytest.mark.parametrize("op_type", _CASES)
def test_a_rule_tells_what_the_operator_computes(op_type: str) -> None:
    cone, weights = _cone(_CASES[op_type])
    ((what, made),) = results(cone, weights.values)
    assert what == ""
    rng = np.random.default_rng(1)
    feeds = {name: rng.standard_normal((2, 4, 9)[: 3 - (name == "m")]) for name in cone.leaves}
    expected = value_of(cone, weights, feeds)
    found = _applied(made, feeds, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "nodes",
    [
        f"{_CONVOLVED} a = {_TURN} (c) p = {_TURN} (x) y = Add (a, p)",
        f"a = {_TURN} (x) p = Mul (r, a) q = {_TURN} (p) y = Conv (q, P)",
        f"{_CONVOLVED} a = Transpose (c) p = Div (a, s) y = Neg (p)",
        """a = Transpose <perm=[1,0]> (m) p = Mul (a, s) d = Transpose <perm=[1,0]> (p)
           y = MatMul (d, M)""",
    ],
)
def test_transposes_around_linear_maps(nodes: str) -> None:
    cone, weights = _cone(nodes)
    ((_, made),) = results(cone, weights.values)
    rng = np.random.default_rng(1)
    feeds = {name: rng.standard_normal((2, 4, 9)[: 3 - (name == "m")]) for name in cone.leaves}
    expected = value_of(cone, weights, feeds)
    np.testing.assert_allclose(_applied(made, feeds, expected.shape), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "nodes",
    [
        f"{_CONVOLVED} d = Mul (c, w) y = Neg (d)",
        f"{_CONVOLVED} a = {_TURN} (c) p = Conv (a, Q) y = Neg (p)",
    ],
)
def test_what_mixes_axes_that_are_turned_is_no_linear_map_of_channels(nodes: str) -> None:
    cone, weights = _cone(nodes, {"Q": (3, 9, 1), "w": (9,)})
    assert len(results(cone, weights.values)) > 1


def test_a_normalization_of_no_matrix_is_no_affine_of_the_last_axis() -> None:
    """Behind a product of three axes its channels lie on the second, behind a Gemm on the last."""
    nodes = """p = MatMul (x, Q) n = BatchNormalization (p, g, r, g, v) f = Flatten (n)
               y = Gemm (f, W)"""
    cone, weights = _cone(nodes, {"Q": (9, 4), "W": (16, 3)})
    assert [what for what, _ in results(cone, weights.values)] == [
        "BatchNormalization", "Flatten", "",
    ]  # fmt: skip
    nodes = "a = Gemm (m, M) p = MatMul (a, N) y = BatchNormalization (p, g, r, g, v)"
    cone, weights = _cone(nodes)
    assert [what for what, _ in results(cone, weights.values)] == ["MatMul", ""]


def _cone(nodes: str, more: dict[str, tuple[int, ...]] | None = None) -> tuple[Cone, Weights]:
    rng = np.random.default_rng(0)
    numbers = {n: rng.uniform(0.5, 1.5, shape) for n, shape in {**_SHAPES, **(more or {})}.items()}
    inputs = "double[2,4] m" if "(m, " in nodes else "double[2,4,9] x"
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (double[n] y) {{ {nodes} }}""")
    stored = numbers | {n: np.asarray(v, np.int64) for n, v in _INTEGERS.items()}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in stored.items())
    cone = cut(graph_scope(from_proto(model), model.graph), "y", lambda _: False, 100)
    assert cone is not None
    return cone, weights_of(cone)


def _applied(made: Map, feeds: dict[str, Array], shape: tuple[int, ...]) -> Array:
    tail = (1,) * (len(shape) - 2)
    order = made.order or tuple(range(len(shape)))
    shape = tuple(shape[order.index(axis)] for axis in range(len(shape)))
    total = np.zeros(shape) + made.bias.reshape(-1, *tail)
    for way, kernel in made.kernels.items():
        x = feeds[way.leaf]
        total += _one(way, kernel, x.transpose(way.order) if way.order else x, shape)
    return total.transpose(order)


def _one(way: Way, kernel: Kernel, x: Array, shape: tuple[int, ...]) -> Array:
    (dense,) = kernel.of(1, x.shape[1]).values
    if dense.ndim == 2:
        return np.asarray(x @ dense.T)
    (begin,), (stride,), taps = kernel.begin, way.strides, dense.shape[-1]
    if way.transposed:
        return kernels.conv_transpose([x, dense.swapaxes(0, 1)], {"strides": [stride]})
    read = (shape[-1] - 1) * stride + taps
    wide = np.pad(x, [(0, 0), (0, 0), (max(begin, 0), read)])[..., max(-begin, 0) :]
    return kernels.conv([wide[..., :read], dense], {"strides": [stride]})
