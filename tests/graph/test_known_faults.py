"""Faults that other folders of batch normalizations have had; those with numbers are golden cases.

| fault | shown in |
|---|---|
| a grouped ConvTranspose scaled wrongly | golden linear/conv_transpose_grouped |
| alpha and beta of a Gemm ignored | golden linear/gemm_alpha_beta |
| a Gemm built on an input of rank 3 | golden linear/matmul_rank_3 |
| another epsilon than 1e-5 by default | golden modes/default_epsilon, and here |
| an epsilon of 0 replaced | golden, nearly everywhere |
| an empty name taken for a bias | golden linear/conv_empty_bias |
| readers inside subgraphs not counted | golden readers/captured |
| a [C] constant taken for one along the channels | golden affine/mul_over_width |
| nodes without names | golden, everywhere |
| a variance that its type cannot hold | here |
"""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants, checked, operators
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.reasons import Reason

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
_PARAMETERS = (
    "double[2] g = {2, 6}, double[2] b = {1, 2}, double[2] e = {1, 1}, double[2] v = {1, 4}"
)


def _folded(text: str) -> bnfold.Folding:
    return checked(f"{_HEAD}\n{text}")


def test_the_default_epsilon_survives_a_split_over_a_concat() -> None:
    folding = _folded("""
        g (double[1,1,2,2] x) => (double[1,2,2,2] z)
        <double[1,1,1,1] W = {1}, double[2] g = {1, 1}, double[2] b = {0, 0},
         double[2] e = {0, 0}, double[2] v = {0, 0}>
        {
          p = Conv (x, W)
          q = Conv (x, W)
          y = Concat <axis = 1> (p, q)
          z = BatchNormalization (y, g, b, e, v)
        }""")
    (weight,) = [numpy_helper.to_array(t).item() for t in folding.model.graph.initializer]
    assert weight == pytest.approx(1 / np.sqrt(np.float64(np.float32(1e-5))), rel=1e-15)


def test_other_readers_go_on_reading_what_they_read() -> None:
    folding = _folded(f"""
        g (double[1,2,2,2] x) => (double[1,2,2,2] z, double[1,2,2,2] u)
        <double[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          y = Conv (x, W)
          z = BatchNormalization (y, g, b, e, v)
          u = Sigmoid (y)
        }}""")
    assert operators(folding) == ["Conv", "BatchNormalization", "Sigmoid"]


def test_a_product_that_is_an_output_and_read_keeps_its_name() -> None:
    folding = _folded("""
        g (double[1,2,2,2] x) => (double[1,2,2,2] z, double[1,2,2,2] u)
        <double[2,2,1,1] W = {1, 2, 3, 4}, double[2,1,1] k = {2, 3}>
        {
          y = Conv (x, W)
          z = Mul (y, k)
          u = Relu (z)
        }""")
    assert operators(folding) == ["Conv", "Relu"]
    assert folding.model.graph.node[0].output[0] == "z"


def test_a_folded_model_is_not_folded_again_through_the_activation() -> None:
    folding = _folded(f"""
        g (double[1,2,2,2] x) => (double[1,2,2,2] z)
        <double[2,2,1,1] W = {{1, 2, 3, 4}}, double[2,2,1,1] V = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          y = Conv (x, W)
          n = BatchNormalization (y, g, b, e, v)
          r = Relu (n)
          z = Conv (r, V)
        }}""")
    assert operators(folding) == ["Conv", "Relu", "Conv"]


def test_a_variance_that_overflowed_its_type_is_not_divided_by() -> None:
    """In float16 a variance above 65504 is infinite; dividing by it would zero the output."""
    text = f"""{_HEAD}
        g (float16[1,2,2,2] x) => (float16[1,2,2,2] z)
        <float16[2,2,1,1] W = {{1, 2, 3, 4}}, float16[2] g = {{2, 6}}, float16[2] b = {{1, 2}},
         float16[2] e = {{1, 1}}, float16[2] v = {{1, 4}}>
        {{
          y = Conv (x, W)
          z = BatchNormalization (y, g, b, e, v)
        }}"""
    model = onnx.parser.parse_model(text)
    variance = next(tensor for tensor in model.graph.initializer if tensor.name == "v")
    with np.errstate(over="ignore"):
        infinite = np.asarray([1, 70000]).astype(np.float16)
    variance.CopyFrom(numpy_helper.from_array(infinite, "v"))
    folding = bnfold.fold(model)
    assert not folding.folds
    assert [kept.above.reason for kept in folding.kept] == [Reason.BAD_PARAMETERS.value]


def test_clones_of_a_shared_weight_have_names_of_their_own() -> None:
    convolutions = [
        helper.make_node(op_type, inputs, [output])
        for i in range(3)
        for op_type, inputs, output in (
            ("Conv", ["x", "W"], f"y{i}"),
            ("BatchNormalization", [f"y{i}", f"g{i}", "b", "b", "v"], f"z{i}"),
        )
    ]
    stored = {"W": np.ones((2, 2, 1, 1)), "W_2": np.ones(1), "b": np.zeros(2), "v": np.ones(2)}
    stored |= {f"g{i}": np.full(2, i + 2.0) for i in range(3)}
    values = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            convolutions,
            "shared",
            [values("x", TensorProto.DOUBLE, [1, 2, 2, 2])],
            [values(f"z{i}", TensorProto.DOUBLE, [1, 2, 2, 2]) for i in range(3)],
            [numpy_helper.from_array(value, name) for name, value in stored.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    folding = bnfold.fold(model)
    names = [tensor.name for tensor in folding.model.graph.initializer]
    assert len(names) == len(set(names))
    assert_same(model, folding.model)
    check_invariants(model, folding)
    assert folding.after.batch_normalizations == 0


def _long(blocks: int) -> onnx.ModelProto:
    """Blocks of a Conv, a normalization and a Relu, every one with weights of its own."""
    nodes, stored, last = [], [], "x"
    shapes = {"W": (2, 2, 1, 1), "g": (2,), "b": (2,), "e": (2,), "v": (2,)}
    for i in range(blocks):
        stored += [
            numpy_helper.from_array(np.ones(shape, np.float32), f"{name}{i}")
            for name, shape in shapes.items()
        ]
        parameters = [f"{name}{i}" for name in "gbev"]
        nodes += [
            helper.make_node("Conv", [last, f"W{i}"], [f"y{i}"]),
            helper.make_node("BatchNormalization", [f"y{i}", *parameters], [f"n{i}"]),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"]),
        ]
        last = f"r{i}"
    values = helper.make_tensor_value_info
    ends = [values(name, TensorProto.FLOAT, [1, 2, 2, 2]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "long", ends[:1], ends[1:], stored)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _seconds(blocks: int) -> float:
    model = _long(blocks)
    start = time.process_time()
    folding = bnfold.fold(model)
    took = time.process_time() - start
    assert folding.after.batch_normalizations == 0
    return took


@pytest.mark.slow
def test_time_grows_with_the_model_and_not_with_its_square() -> None:
    """Eight times the nodes take some eight times as long; a square would take 64 times.

    Where a busy machine made the long one look slow, it is measured once more.
    """
    assert any(_seconds(2400) < 24 * _seconds(300) for _ in range(2))
