"""What is not valid ONNX is refused with what is wrong, before anything is planned."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commandline import run_here
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.errors import ModelError
from bnfold.onnx_model.validity import require_valid

_NUMBERS = np.random.default_rng(0)


def _net(conv: dict[str, Any] | None = None, **more: Any) -> onnx.ModelProto:
    """Return Conv → (one more node) → BatchNormalization."""
    stored = {"W": (4, 3, 3, 3), "g": (4,), "b": (4,), "m": (4,), "v": (4,)} | more.pop(
        "shapes", {}
    )
    nodes = [helper.make_node("Conv", ["x", "W"], ["c"], "conv", **(conv or {}))]
    read = "c"
    if more:
        nodes.append(helper.make_node(inputs=["c"], outputs=["p"], name="more", **more))
        read = "p"
    nodes.append(helper.make_node("BatchNormalization", [read, *"gbmv"], ["y"], "bn"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(_NUMBERS.uniform(1, 2, shape).astype(np.float32), name)
            for name, shape in stored.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _inputs(node: int, *names: str) -> onnx.ModelProto:
    model = _net()
    del model.graph.node[node].input[:]
    model.graph.node[node].input.extend(names)
    return model


def _nameless() -> onnx.ModelProto:
    model = _net()
    model.graph.node[0].op_type = ""
    return model


def _in_a_branch() -> onnx.ModelProto:
    """Return a model with a broken node in both branches of an If."""
    body = helper.make_graph(
        [helper.make_node("MaxPool", ["x"], ["p"], "inner", kernel_shape=[2, 2], pads=[1])],
        "body",
        [],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
    )
    choice = helper.make_node("If", ["c"], ["z"], "choice", then_branch=body, else_branch=body)
    model = _net()
    model.graph.node.append(choice)
    return model


_WRONG: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "pads of one number": (lambda: _net({"pads": [1]}), "conv.* pads has incorrect size"),
    "pads of three": (lambda: _net({"pads": [1, 1, 1]}), "conv.* pads has incorrect size"),
    "negative pads": (lambda: _net({"pads": [-1] * 4}), "pads must not contain negative"),
    "negative strides": (lambda: _net({"strides": [-1, 1]}), "strides must only contain positive"),
    "no strides": (lambda: _net({"strides": [0, 1]}), "strides must only contain positive"),
    "one stride": (lambda: _net({"strides": [1]}), "strides has incorrect size"),
    "dilations": (lambda: _net({"dilations": [0, 0]}), "dilations must only contain positive"),
    "kernel_shape": (lambda: _net({"kernel_shape": [5, 5]}), r"kernel_shape is \[5, 5\]"),
    "auto_pad": (lambda: _net({"auto_pad": "FULL"}), "auto_pad is 'FULL'"),
    "no groups": (lambda: _net({"group": 0}), r"\[4, 3, 3, 3\], in 0 groups"),
    "groups": (lambda: _net({"group": 2}), "input has 3 channels, its weight 6"),
    "type": (lambda: _net({"pads": [1.0] * 4}), "Mismatched attribute type in 'conv : pads'"),
    "unknown attribute": (lambda: _net({"padding": 1}), "Unrecognized attribute: padding"),
    "no weight": (lambda: _inputs(0, "x"), "Conv 'conv'.* input size 1 not in range"),
    "no statistics": (lambda: _inputs(1, "c", "g", "b"), "'bn'.* input size 3 not in range"),
    "no parameters": (lambda: _inputs(1, "c"), "'bn'.* input size 1 not in range"),
    "a parameter left out": (
        lambda: _inputs(1, "c", "g", "", "m", "v"),
        "'bn'.* input 2 is marked",
    ),
    "six parameters": (lambda: _inputs(1, "c", *"gbmvv"), "'bn'.* input size 6 not in range"),
    "lengths": (lambda: _net(shapes={"g": (3,)}), r"'bn'.* shapes \[3\], \[4\], \[4\], \[4\]"),
    "no operator": (_nameless, "'conv' has no operator type"),
    "no window": (lambda: _net(op_type="MaxPool"), "'more'.* 'kernel_shape' is missing"),
    "a pool's pads": (
        lambda: _net(op_type="MaxPool", kernel_shape=[2, 2], pads=[1]),
        "MaxPool 'more'.* pads has incorrect size",
    ),
    "a permutation": (lambda: _net(op_type="Transpose", perm=[0, 1, 2, 2]), "repeated value: 2"),
    "in a subgraph": (_in_a_branch, "MaxPool 'inner'.* pads has incorrect size"),
    "its own output": (lambda: _inputs(1, "y", *"gbmv"), "circle through node 'bn'"),
    "each other's outputs": (lambda: _inputs(0, "y", "W"), "circle through node"),
}


@pytest.mark.parametrize("case", _WRONG)
def test_a_model_that_is_not_valid_is_refused_with_what_is_wrong(case: str) -> None:
    make, expected = _WRONG[case]
    with pytest.raises(ModelError, match=expected):
        bnfold.fold(make())


@pytest.mark.parametrize("mode", [["--check"], []])
def test_the_command_line_exits_with_2_whatever_it_is_to_do(
    tmp_path: Path, mode: list[str]
) -> None:
    (tmp_path / "net.onnx").write_bytes(_net({"pads": [1]}).SerializeToString())
    result = run_here("net.onnx", *mode, cwd=tmp_path)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith("bnfold: net.onnx: Conv 'conv' is not valid ONNX: ")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.slow
def test_an_original_that_is_not_valid_is_no_original(tmp_path: Path) -> None:
    original, candidate = tmp_path / "original.onnx", tmp_path / "candidate.onnx"
    original.write_bytes(_net({"strides": [-1, -1]}).SerializeToString())
    candidate.write_bytes(_net().SerializeToString())
    with pytest.raises(ModelError, match=r"original.onnx: Conv 'conv' is not valid ONNX"):
        bnfold.verify(original, candidate)
    assert bnfold.verify(candidate, original).verdict == "failed"


def test_in_a_function_what_an_argument_gives_is_let_pass() -> None:
    node = helper.make_node("MaxPool", ["a"], ["b"])
    for name in ("kernel_shape", "pads"):
        node.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.INTS)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    function = helper.make_function(
        "my", "Pool", ["a"], ["b"], [node], opsets, ["kernel_shape", "pads"]
    )
    model = _net()
    model.functions.append(function)
    require_valid(model)
    del node.attribute[0]
    model.functions[0].node[0].CopyFrom(node)
    with pytest.raises(ModelError, match="'kernel_shape' is missing"):
        require_valid(model)


def test_what_onnx_does_not_know_is_let_pass() -> None:
    model = _net(op_type="EfficientNMS_TRT", pads=[1], group=0)
    require_valid(model)
    model.graph.node[0].domain = "com.example"
    model.graph.node[0].attribute.add(name="pads", type=onnx.AttributeProto.INTS, ints=[1])
    require_valid(model)


@pytest.mark.parametrize(
    ("version", "domain"),
    [*itertools.product([2**31, 2**40, -1], ["", "com.example"]), (0, ""), (0, "ai.onnx")],
)
def test_versions_that_cannot_be(version: int, domain: str) -> None:
    model = _net()
    model.functions.add(name="f", domain="l").opset_import.add(domain=domain, version=version)
    with pytest.raises(ModelError, match=f"names version {version} of its operators"):
        bnfold.fold(model)


@pytest.mark.parametrize(
    "nodes",
    [
        """W = Constant <value = float[3,2,2,2] {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
                                                 1, 2, 3, 4, 5, 6, 7, 8}> ()
           z = DeformConv <kernel_shape = [2, 2]> (x, W, o)""",
        "z = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, i)",
        """q = QuantizeLinear (x, s, b)
           r = QLinearConv <kernel_shape = [1, 1]> (q, s, b, w, s, b, s, b)
           z = DequantizeLinear (r, s, b)""",
        """q = QuantizeLinear (x, s, b)
           r = ConvInteger <strides = [1, 1]> (q, w)
           z = Cast <to = 1> (r)""",
    ],
    ids=["DeformConv", "MaxUnpool", "QLinearConv", "ConvInteger"],
)
def test_whatever_types_and_further_inputs_a_window_has_it_is_valid(nodes: str) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 19]>
        g (float[1,2,5,5] x, float[1,8,4,4] o, int64[1,2,5,5] i) => (float[n,c,l,k] z)
        <uint8[3,2,1,1] w = {{1, 2, 3, 4, 5, 6}}, float s = {{0.5}}, uint8 b = {{3}}>
        {{ {nodes} }}""")
    assert bnfold.fold(model).folds == ()
