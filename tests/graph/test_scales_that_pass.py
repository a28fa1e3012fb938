"""A scale that an operator has no room for passes it, and what the operator adds is scaled.

Such are the rows of a matrix that is multiplied from the right, with a bias behind: D (x W + b) is
(D x) W + D b.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from commandline import files, run_here, write
from evaluation import assert_same, feeds_of
from invariants import check_invariants
from onnx import numpy_helper

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_ROWS, _COLUMNS = 6, 5
_SHAPES = {
    "kernel": (_ROWS, 3, 1),
    "behind": (4, _ROWS, 1),
    "left": (_ROWS, 3),
    "weight": (_COLUMNS, _COLUMNS),
    "weight2": (_COLUMNS, _COLUMNS),
    "columns": (_COLUMNS,),
    "columns2": (_COLUMNS,),
    "rows": (_ROWS, 1),
    "more_rows": (_ROWS, 1),
    "each": (_ROWS, _COLUMNS),
    "number": (),
    **dict.fromkeys(("g", "beta", "e", "v"), (_ROWS,)),
}


def _model(body: str, given: str = "1, 3, 5", made: str = "1, 6, 5") -> onnx.ModelProto:
    """A model from a body in which constants bear the names above."""
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    text = f"{head} scaled (float[{given}] x) => (float[{made}] y) {{ {body} }}"
    model = onnx.parser.parse_model(text)
    read = sorted({name for node in model.graph.node for name in node.input} & _SHAPES.keys())
    dice = np.random.default_rng(17)
    for name in read:
        values = dice.uniform(0.5, 2, _SHAPES[name]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def _operators(model: onnx.ModelProto) -> str:
    return " ".join(node.op_type for node in model.graph.node)


def _check(model: onnx.ModelProto, left: str, folder: Path) -> bnfold.Folding:
    """Fold a model in memory, and as the command line does it."""
    folding = bnfold.fold(model)
    assert_same(model, folding.model, feeds_of(model), onnx.TensorProto.FLOAT, 100.0)
    check_invariants(model, folding)
    assert _operators(folding.model) == left
    write(model, folder / "net.onnx")
    result = run_here("net.onnx", "--provider", "cpu", cwd=folder)
    assert result.code == 0, result.text
    assert "net.folded.onnx" in files(folder)
    return folding


@pytest.mark.parametrize("bias", ["columns", "rows", "each", "number"])
@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_a_scale_of_rows_passes_a_product_and_its_bias(
    bias: str, activation: str, tmp_path: Path
) -> None:
    model = _model(f"""
        h = Conv (x, kernel) r = Relu (h) m = MatMul (r, weight) a = Add (m, {bias})
        q = {activation} (a) s = Mul (q, more_rows) y = Sigmoid (s)""")
    _check(model, f"Conv Relu MatMul Add {activation} Sigmoid", tmp_path)


@pytest.mark.parametrize("bias", ["columns", "rows", "each", "number"])
def test_a_scale_of_rows_passes_a_bias_right_before_it(bias: str, tmp_path: Path) -> None:
    model = _model(f"""
        h = Conv (x, kernel) r = Relu (h) m = MatMul (r, weight) a = Add (m, {bias})
        s = Mul (a, more_rows) y = Sigmoid (s)""")
    _check(model, "Conv Relu MatMul Add Sigmoid", tmp_path)


def test_a_normalization_of_rows_goes_into_the_constant_of_the_bias(tmp_path: Path) -> None:
    model = _model("""
        h = Conv (x, kernel) m = MatMul (h, weight) a = Add (m, columns)
        n = BatchNormalization (a, g, beta, e, v) y = Sigmoid (n)""")
    folding = _check(model, "Conv MatMul Add Sigmoid", tmp_path)
    shapes = [tuple(tensor.dims) for tensor in folding.model.graph.initializer]
    assert (1, _ROWS, _COLUMNS) in shapes


def test_a_bias_takes_scales_of_columns_before_and_behind_one_of_rows(tmp_path: Path) -> None:
    model = _model("""
        h = Conv (x, kernel) m = MatMul (h, weight) a = Add (m, columns) c = Mul (a, columns)
        r = Relu (c) s = Mul (r, rows) t = Relu (s) d = Mul (t, columns) y = Sigmoid (d)""")
    _check(model, "Conv MatMul Add Relu Relu Sigmoid", tmp_path)


def test_what_a_shift_of_the_input_adds_to_a_bias_is_scaled_too(tmp_path: Path) -> None:
    model = _model("""
        h = Conv (x, kernel) p = Relu (h) z = Add (p, columns) m = MatMul (z, weight)
        a = Add (m, columns) r = Relu (a) s = Mul (r, rows) y = Sigmoid (s)""")
    _check(model, "Conv Relu MatMul Add Relu Sigmoid", tmp_path)


def test_a_scale_of_rows_passes_a_product_and_its_bias_downwards(tmp_path: Path) -> None:
    model = _model(
        """
        h = Sigmoid (x) s = Mul (h, rows) m = MatMul (s, weight) a = Add (m, columns)
        r = Relu (a) y = Conv (r, behind)""",
        "1, 6, 5",
        "1, 4, 5",
    )
    _check(model, "Sigmoid MatMul Add Relu Conv", tmp_path)


def test_a_matrix_between_two_products_takes_rows_from_both_sides(tmp_path: Path) -> None:
    model = _model(
        """
        h = MatMul (left, x) z = Add (h, rows) m = MatMul (z, weight) a = Add (m, columns)
        r = Relu (a) s = Mul (r, more_rows) y = Sigmoid (s)""",
        "3, 5",
        "6, 5",
    )
    _check(model, "MatMul Add MatMul Add Relu Sigmoid", tmp_path)


@pytest.mark.parametrize("adds", ["Add (r, rows)", "Add (rows, r)", "Sub (r, rows)"])
def test_a_scale_passes_an_add_that_has_no_room_for_it(adds: str, tmp_path: Path) -> None:
    model = _model(f"""
        h = Conv (x, kernel) r = Relu (h) a = {adds} q = Relu (a) s = Mul (q, more_rows)
        y = Sigmoid (s)""")
    _check(model, "Conv Relu Add Relu Sigmoid", tmp_path)


@pytest.mark.parametrize(
    ("adds", "left"),
    [
        ("p = Relu (s) a = Add (p, more_rows)", "Sigmoid Relu Add Relu Conv"),
        ("a = Add (s, more_rows)", "Sigmoid Add Relu Conv"),
    ],
    ids=["farther down", "right behind"],
)
def test_a_scale_passes_an_add_downwards(adds: str, left: str, tmp_path: Path) -> None:
    body = f"h = Sigmoid (x) s = Mul (h, rows) {adds} q = Relu (a) y = Conv (q, behind)"
    _check(_model(body, "1, 6, 5", "1, 4, 5"), left, tmp_path)


def test_of_an_add_and_a_mul_the_scale_goes_up(tmp_path: Path) -> None:
    model = _model("""
        h = Conv (x, kernel) r = Relu (h) a = Add (r, rows) s = Mul (a, more_rows)
        y = Sigmoid (s)""")
    folding = _check(model, "Conv Relu Add Sigmoid", tmp_path)
    (fold,) = folding.folds
    assert [node.op_type for node in fold.taken] == ["Mul"]
    (kept,) = folding.kept
    assert kept.nodes[0].op_type == "Add"


def test_the_bias_of_a_sum_of_products_is_scaled(tmp_path: Path) -> None:
    model = _model("""
        h = Conv (x, kernel) p = MatMul (h, weight) q = MatMul (h, weight2) a = Add (p, columns)
        b = Add (q, columns2) z = Add (a, b) r = Relu (z) s = Mul (r, rows) y = Sigmoid (s)""")
    _check(model, "Conv MatMul Add Relu Sigmoid", tmp_path)


@pytest.mark.parametrize(("adds", "stays"), [(8, 0), (9, 1)])
def test_a_scale_passes_so_many_adds_that_planning_stays_linear(
    adds: int, stays: int, tmp_path: Path
) -> None:
    tensors = [f"t{i}" for i in range(adds + 1)]
    chain = " ".join(
        f"{after}a = Add ({before}, rows) {after} = Relu ({after}a)"
        for before, after in pairwise(tensors)
    )
    model = _model(f"""
        h = Conv (x, kernel) t0 = Relu (h) {chain} s = Mul ({tensors[-1]}, more_rows)
        y = Sigmoid (s)""")
    left = ["Conv", "Relu", *["Add", "Relu"] * adds, *["Mul"] * stays, "Sigmoid"]
    _check(model, " ".join(left), tmp_path)


def test_one_normalization_is_not_taken_apart_for_an_add(tmp_path: Path) -> None:
    """ONNX Runtime runs a normalization in its blocked layout, and an Add of channels does not."""
    body = """
        k = Conv (x, kernel)
        n = BatchNormalization (k, g, beta, e, v)
        m = Mul (n, rows)
        s = Add (m, more_rows)
        r = Relu (s)
        c = Conv (r, behind)
        o = Tanh (k)
        t = Concat <axis = 1> (c, o)
        y = Relu (t)
    """
    model = _model(body, made="1, 10, 5")
    folding = _check(model, "Conv BatchNormalization Relu Conv Tanh Concat Relu", tmp_path)
    assert folding.after.batch_normalizations == 1
