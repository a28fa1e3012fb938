"""The order of nodes: each comes after what it reads, in its subgraphs too."""

from __future__ import annotations

import onnx
import pytest

from bnfold.errors import ModelError
from bnfold.onnx_model.order import in_order, put_in_order


def graph(nodes: str) -> onnx.GraphProto:
    return onnx.parser.parse_graph(f"g (float[2] x, bool q) => (float[2] y) {{ {nodes} }}")


def test_nodes_in_order_stay_where_they_are() -> None:
    assert in_order(graph("a = Relu (x) b = Neg (x) y = Add (a, b)").node) == [0, 1, 2]


def test_a_node_comes_after_what_its_subgraph_reads() -> None:
    text = """
        y = If (q) <then_branch = t () => (float[2] b) {{ b = Neg ({then}) }},
                    else_branch = e () => (float[2] {els}) {{ }}>
        a = Relu (x)"""
    assert in_order(graph(text.format(then="a", els="x")).node) == [1, 0]
    assert in_order(graph(text.format(then="x", els="a")).node) == [1, 0]


def test_a_name_inside_a_subgraph_is_its_own() -> None:
    text = """
        a = If (q) <then_branch = t () => (float[2] c) { b = Neg (x) c = Relu (b) },
                    else_branch = e () => (float[2] c) { c = Relu (x) }>
        b = Neg (a) y = Relu (b)"""
    assert in_order(graph(text).node) == [0, 1, 2]


def test_subgraphs_are_put_in_order_too() -> None:
    made = graph("""
        y = If (q) <then_branch = t () => (float[2] c) { c = Relu (b) b = Neg (a) },
                    else_branch = e () => (float[2] c) { c = Relu (a) }>
        a = Relu (x)""")
    put_in_order(made)
    assert [node.op_type for node in made.node] == ["Relu", "If"]
    assert [node.op_type for node in made.node[1].attribute[0].g.node] == ["Neg", "Relu"]


def test_a_circle_has_no_order() -> None:
    with pytest.raises(ModelError, match="circle"):
        in_order(graph("a = Relu (b) b = Neg (a) y = Neg (b)").node)
