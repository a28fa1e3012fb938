"""Two files against each other: what is proved, and that nothing wrong is."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import MODELS, load
from handfold import Builder, Parameters, fold, network
from onnx import TensorProto, helper, numpy_helper
from proving import clone, proved

import bnfold
from bnfold.files import from_proto
from bnfold.region import Region
from bnfold.verification.proof.prove import prove, seed_of
from bnfold.verification.verdict import ProbeVerdict


@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
@pytest.mark.parametrize("named", [True, False])
def test_a_correct_fold_is_proved(tmp_path: Path, kind: str, *, named: bool) -> None:
    model = network(0, kind=kind)
    folded, regions = fold(model)
    proof = proved(tmp_path, model, folded, regions if named else [])
    assert proof.structure.proved, proof
    assert {probe.found for probe in proof.probes} == {not named}
    assert len(proof.probes) == len(regions)


def test_a_model_proves_itself(tmp_path: Path) -> None:
    model = network(0)
    proof = proved(tmp_path, model, model)
    assert proof.structure.proved
    assert proof.probes == ()
    assert proof.structure.identical == len(model.graph.node)


def rewired(graph: onnx.GraphProto) -> None:
    relu = next(node for node in graph.node if node.output[0] == "r2")
    relu.input[0] = "c1_bn"


def swapped(graph: onnx.GraphProto) -> None:
    first, second = (
        next(t for t in graph.initializer if t.name == name) for name in ("c1.W", "c2.W")
    )
    first.raw_data, second.raw_data = second.raw_data, first.raw_data


def touched(graph: onnx.GraphProto) -> None:
    head = next(t for t in graph.initializer if t.name == "head.W")
    values = numpy_helper.to_array(head).copy()
    values.reshape(-1)[0] *= 1.000001
    head.CopyFrom(numpy_helper.from_array(values, "head.W"))


def reattributed(graph: onnx.GraphProto) -> None:
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    gemm.attribute.append(helper.make_attribute("alpha", 1.00001))


def leaky(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.output[0] == "r1").op_type = "LeakyRelu"


def renamed_output(graph: onnx.GraphProto) -> None:
    graph.node[-1].output[0] = graph.output[0].name = "other"


@pytest.mark.slow
@pytest.mark.parametrize("change", [rewired, swapped, touched, reattributed, leaky, renamed_output])
@pytest.mark.parametrize("named", [True, False])
def test_a_change_outside_the_folds_is_not_proved(
    tmp_path: Path, change: Callable[[onnx.GraphProto], None], *, named: bool
) -> None:
    model = network(0, kind="residual")
    folded, regions = fold(model)
    change(folded.graph)
    proof = proved(tmp_path, model, folded, regions if named else [])
    assert not proof.structure.proved
    assert proof.structure.reason


def test_where_the_folds_are_named_close_is_not_the_same(tmp_path: Path) -> None:
    model = network(0)
    folded, regions = fold(model)
    gemm = next(node for node in folded.graph.node if node.op_type == "Gemm")
    gemm.attribute.append(helper.make_attribute("alpha", 1.0000001))
    assert not proved(tmp_path, model, folded, regions).structure.proved
    assert not proved(tmp_path, model, folded).structure.proved  # no weight of it has changed


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    model = network(0)
    folded, regions = fold(model)
    leaky(folded.graph)
    assert "'r1'" in str(proved(tmp_path, model, folded, regions).first_difference)


def test_one_wrong_fold_of_a_stranger_is_a_contradiction(tmp_path: Path) -> None:
    def fault(name: str, p: Parameters) -> Parameters:
        return {**p, "gamma": p["gamma"] * (1.00001 if name == "c2_bn_node" else 1)}

    model = network(0)
    proof = proved(tmp_path, model, fold(model, fault)[0])
    assert proof.contradiction is not None
    assert "c2_bn" in proof.contradiction


def test_a_wrong_region_makes_the_proof_fail(tmp_path: Path) -> None:
    model = network(0)
    folded, regions = fold(model)
    regions[1] = Region((), ("x",), regions[1].outputs)
    assert proved(tmp_path, model, folded, regions).structure.proved, "a larger one is no harm"
    regions[1] = Region((), ("r0",), ("no such tensor",))
    proof = proved(tmp_path, model, folded, regions)
    assert proof.probes[1].verdict is ProbeVerdict.UNCHECKED


def test_a_region_whose_inputs_differ_proves_nothing(tmp_path: Path) -> None:
    model = network(0)
    folded, regions = fold(model)
    conv = next(node for node in folded.graph.node if node.output[0] == "c2_bn")
    conv.input[0] = "r0"
    regions = [
        Region((), ("r1", "r0"), r.outputs) if r.outputs == ("c2_bn",) else r for r in regions
    ]
    assert not proved(tmp_path, model, folded, regions).structure.proved


def test_renamed_tensors_are_no_difference(tmp_path: Path) -> None:
    model = network(0)
    other = clone(model)
    for node in other.graph.node:
        node.input[:] = [f"new_{n}" if n.startswith("r") else n for n in node.input]
        node.output[:] = [f"new_{n}" if n.startswith("r") else n for n in node.output]
    assert proved(tmp_path, model, other).structure.proved


def test_nan_weights_are_compared_by_their_bits(tmp_path: Path) -> None:
    model = network(0)
    head = next(t for t in model.graph.initializer if t.name == "head.W")
    values = numpy_helper.to_array(head).copy()
    values[0, 0] = np.nan
    head.CopyFrom(numpy_helper.from_array(values, "head.W"))
    assert proved(tmp_path, model, clone(model)).structure.proved


def subgraph_model(*, scale: float = 1.0) -> onnx.ModelProto:
    """An If whose branches hold Conv and BN, with the weights outside."""
    net = Builder(np.random.default_rng(0))
    net.conv("x", "c", 3, 4)
    net.bn("c", "t", 4)
    inside = [*net.nodes]
    then = helper.make_graph(inside, "then", [], [helper.make_empty_tensor_value_info("t")])
    otherwise = helper.make_graph(
        [helper.make_node("Conv", ["x", "c.W"], ["e"], pads=[1] * 4)],
        "else", [], [helper.make_empty_tensor_value_info("e")],
    )  # fmt: skip
    net.nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise)]
    net.initializers[0].name = "c.W"
    model = net.model([1, 3, 8, 8], "y")
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    if scale != 1.0:
        bias = next(t for t in model.graph.initializer if t.name == "t.beta")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * scale, bias.name))
    return model


def fold_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the BN of the then-branch, into weights of its own."""
    folded = clone(model)
    branch = next(a.g for a in folded.graph.node[0].attribute if a.name == "then_branch")
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    del flat.graph.node[:]
    flat.graph.node.extend(branch.node)
    done = fold(flat)[0]
    del branch.node[:]
    branch.node.extend(done.graph.node)
    branch.node[0].input[1:] = ["own.W", "own.b"]
    for tensor in done.graph.initializer:
        own = branch.initializer.add()
        own.CopyFrom(tensor)
        own.name = own.name.replace("c.", "own.")
    return folded


def test_a_fold_inside_a_subgraph(tmp_path: Path) -> None:
    model = subgraph_model()
    region = Region((("y", "then_branch"),), ("x",), ("t",))
    folded = fold_inside(model)
    proof = proved(tmp_path, model, folded, [region])
    assert proof.structure.proved, proof
    assert proof.probes[0].verdict is ProbeVerdict.HELD
    wrong = proved(tmp_path, subgraph_model(scale=1.001), folded, [region])
    assert wrong.probes[0].verdict is ProbeVerdict.BROKEN
    assert not wrong.structure.proved


def function_model() -> onnx.ModelProto:
    net = Builder(np.random.default_rng(0))
    for array in ("W", "b"):
        net.weight(f"f.{array}", np.zeros(0))
    net.initializers.clear()
    net.bn(net.conv("a", "c", 3, 4), "t", 4)
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in net.initializers]
    function = helper.make_function(
        "own", "Block", ["a"], ["t"], [*constants, *net.nodes], [helper.make_opsetid("", 15)]
    )
    net.initializers, net.nodes = [], [helper.make_node("Block", ["x"], ["y"], domain="own")]
    model = net.model([1, 3, 8, 8], "y")
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def test_a_difference_inside_a_function_is_seen(tmp_path: Path) -> None:
    model = function_model()
    assert proved(tmp_path, model, clone(model)).structure.proved
    other = clone(model)
    other.functions[0].node[0].attribute[0].t.raw_data = b"\0" * len(
        other.functions[0].node[0].attribute[0].t.raw_data
    )
    assert not proved(tmp_path, model, other).structure.proved


def test_an_inlined_function_is_no_difference(tmp_path: Path) -> None:
    import onnx.inliner

    model = function_model()
    flat = onnx.inliner.inline_local_functions(model)
    assert proved(tmp_path, model, flat).structure.proved
    flat.graph.node[-1].attribute[-1].f = 0.5
    assert not proved(tmp_path, model, flat).structure.proved


def test_a_constant_may_move_into_the_branch_that_reads_it(tmp_path: Path) -> None:
    def made(*, inside: bool) -> onnx.ModelProto:
        values = numpy_helper.from_array(np.arange(3000, dtype=np.float32), "k")
        body = [helper.make_node("Constant", [], ["k"], value=values)] if inside else []
        body.append(helper.make_node("Mul", ["k", "x"], ["t"]))
        other = [helper.make_node("Neg", ["x"], ["e"])]
        branches = {
            "then_branch": helper.make_graph(body, "t", [], [value("t")]),
            "else_branch": helper.make_graph(other, "e", [], [value("e")]),
        }
        nodes = [helper.make_node("If", ["c"], ["y"], **branches)]
        inputs = [value("x", 3000), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
        graph = helper.make_graph(nodes, "g", inputs, [value("y")], [] if inside else [values])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    for first in (False, True):
        found = proved(tmp_path, made(inside=first), made(inside=not first))
        assert found.structure.proved


def value(name: str, *dims: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims or None)


def calling(depth: int, *, times: int = 1, around: bool = False) -> onnx.ModelProto:
    """Functions that call the next one so many times, the last one perhaps the first."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = []
    for i in range(depth):
        following = "f0" if around else "Relu"
        operator, domain = (f"f{i + 1}", "f") if i + 1 < depth else (following, "f" * around)
        names = ["a", *(f"t{k}" for k in range(times - 1)), "r"]
        nodes = [
            helper.make_node(operator, [one], [two], domain=domain) for one, two in pairwise(names)
        ]
        functions.append(helper.make_function("f", f"f{i}", ["a"], ["r"], nodes, opsets))
    graph = helper.make_graph(
        [helper.make_node("f0", ["x"], ["y"], domain="f")], "g", [value("x", 1)], [value("y")]
    )
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


@pytest.mark.parametrize("model", [calling(2000), calling(1, around=True), calling(3, around=True)])
def test_functions_that_call_one_another_without_end_are_refused(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    with pytest.raises(bnfold.ModelError, match="its functions call one another too deep"):
        proved(tmp_path, model, model)


def test_functions_that_come_to_too_much_are_not_inlined(tmp_path: Path) -> None:
    """Each of 40 calls the next one twice: a million million nodes."""
    relu = calling(1)
    del relu.functions[:]
    relu.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"]))
    assert not proved(tmp_path, calling(40, times=2), relu).structure.proved
    assert not proved(tmp_path, relu, calling(40, times=2)).structure.proved


def test_a_node_that_reads_nothing_is_looked_at_too(tmp_path: Path) -> None:
    model = calling(1)
    model.graph.node.append(helper.make_node("Source", [], ["z"], domain="com.example"))
    assert proved(tmp_path, model, model).structure.proved


def chain(gains: dict[int, float], layers: int = 8) -> onnx.ModelProto:
    """Convolutions and Relus, some weights wrong, and which channel is the largest at the end."""
    rng, nodes, stored, last = np.random.default_rng(0), [], [], "x"
    for i in range(layers):
        weight = rng.standard_normal((4, 4, 3, 3)) / 6 * gains.get(i, 1.0)
        stored.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last = f"r{i}"
    nodes.append(helper.make_node("ArgMax", [last], ["y"], axis=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [1, 1, 8, 8])
    graph = helper.make_graph(nodes, "chain", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("wrong", [(1,), (1, 5), (0, 2, 7)])
def test_several_wrong_layers_that_no_output_shows_are_found(
    tmp_path: Path, wrong: tuple[int, ...]
) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, gains in zip(paths, ({}, dict.fromkeys(wrong, 1.01)), strict=True):
        path.write_bytes(chain(gains).SerializeToString())
    found = prove(paths[0], paths[1], (), seed=0)
    assert not found.structure.proved
    assert found.contradiction is not None
    assert found.contradiction.startswith(f"tensor 'c{wrong[0]}' ")


def test_what_reads_a_relu_need_not_bear_negative_numbers(tmp_path: Path) -> None:
    paths = []
    for name, nodes in (
        ("a", "r = Relu (x)  s = Relu (r)  y = Conv (s, W)"),
        ("b", "r = Relu (x)  y = Conv (r, W)"),
    ):
        text = f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,1,1] W = {{2}}> {{ {nodes} }}"""
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(onnx.parser.parse_model(text).SerializeToString())
    found = prove(paths[0], paths[1], (), seed=0)
    assert found.structure.proved
    assert found.contradiction is None


def test_an_operator_of_another_domain_is_not_the_one_of_its_name(tmp_path: Path) -> None:
    paths = []
    for factor in (2.0, 2.000001):
        text = f"""<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
            g (float[4] x) => (float[4] y) {{ y = my.Identity (x) }}
            <domain: "my", opset_import: ["" : 17]>
            Identity (a) => (b) {{ c = Constant <value_float = {factor}> ()  b = Mul (a, c) }}"""
        paths.append(tmp_path / f"{factor}.onnx")
        paths[-1].write_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert not prove(paths[0], paths[1], (), seed=0).structure.proved


def weights_behind_linear(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    read = {node.input[1] for node in graph.node if node.op_type in {"Conv", "Gemm"}}
    return [tensor for tensor in graph.initializer if tensor.name in read]


@pytest.mark.slow
@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise"])
def test_no_wider_region_explains_a_single_weight_away(
    tmp_path: Path, kind: str, elem_type: int
) -> None:
    """Behind a Relu, beside a shortcut, a wrong weight is still a wrong weight."""
    model = network(0, kind=kind, elem_type=elem_type)
    folded, _ = fold(model)
    dice = np.random.default_rng(0)
    for _ in range(10):
        wrong = clone(folded)
        tensors = weights_behind_linear(wrong.graph)
        tensor = tensors[dice.integers(len(tensors))]
        values = numpy_helper.to_array(tensor).copy()
        flat = values.reshape(-1)
        place = dice.integers(flat.size)
        if abs(flat[place]) < np.median(np.abs(flat)) / 2:
            continue
        flat[place] *= values.dtype.type(-1 if dice.integers(2) else 1.1)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        assert not proved(tmp_path, model, wrong).structure.proved, (tensor.name, place)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("named", [True, False])
def test_a_fold_behind_a_pad_of_zeros(tmp_path: Path, kernel: int, *, named: bool) -> None:
    """The pad value takes the shift, and at the border it and the bias cancel."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        net = Builder(rng)
        margin = max(kernel // 2, 1)
        sides = net.weight("p", np.zeros(8))
        net.initializers[-1].CopyFrom(
            numpy_helper.from_array(np.array([0, 0, margin, margin] * 2), sides)
        )
        net.node("Sub", ["x", net.weight("m", np.array(0.1307))], "c")
        net.node("Div", ["c", net.weight("s", np.array(0.3081))], "d")
        net.node("Pad", ["d", "p"], "e")
        net.node("Conv", ["e", net.weight("W", rng.standard_normal((16, 1, kernel, kernel)))], "y")
        model = net.model([1, 1, 28, 28], "y")
        folding = bnfold.fold(model)
        assert len(folding.folds) == 1
        regions = list(folding.regions) if named else []
        assert proved(tmp_path, model, folding.model, regions).structure.proved


def test_outputs_that_nobody_needs_are_no_unchecked_folds(tmp_path: Path) -> None:
    model = load(MODELS / "shufflenet_raw.onnx")
    folding = bnfold.fold(model)
    proof = proved(tmp_path, model, folding.model, list(folding.regions))
    assert proof.structure.proved
    assert {probe.verdict for probe in proof.probes} == {ProbeVerdict.HELD}


def test_the_seed_is_drawn_from_both_files() -> None:
    """Nobody can make a candidate that is right for the inputs of its probes alone."""

    def changed(model: onnx.ModelProto) -> onnx.ModelProto:
        other = clone(model)
        stored = other.graph.initializer[0]
        array = numpy_helper.to_array(stored).copy()
        array.flat[-1] = np.nextafter(array.flat[-1], np.inf)
        stored.CopyFrom(numpy_helper.from_array(array, stored.name))
        return other

    def seed(first: onnx.ModelProto, second: onnx.ModelProto, number: int = 0) -> int:
        return seed_of(from_proto(first), from_proto(second), number)

    original = network(0)
    candidate, _ = fold(original)
    seeds = [
        seed(original, candidate), seed(changed(original), candidate),
        seed(original, changed(candidate)), seed(candidate, original),
        seed(original, candidate, 1),
    ]  # fmt: skip
    assert len({*seeds}) == len(seeds)
    assert seed(clone(original), clone(candidate)) == seeds[0]
