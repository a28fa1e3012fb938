"""Models that draw random numbers: what these touch shows nothing, all else is judged."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import convolution, write
from onnx import TensorProto, helper

import bnfold
from bnfold.files.opened import from_proto
from bnfold.verification import Verdict, Verification, VerifyOptions
from bnfold.verification.comparison import OutputVerdict
from bnfold.verification.proof.drawing import random_outputs

node = helper.make_node
SHAPE = [1, 4, 6, 6]


def noisy(tail: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    """Return Conv → BatchNormalization to n, and what follows."""
    model = convolution()
    model.graph.node[1].output[0] = "n"
    model.graph.node.extend(tail)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs
    )
    return model


def folded(folder: Path, model: onnx.ModelProto) -> Verification:
    source = write(model, folder / "model.onnx")
    options = VerifyOptions(("cpu",))
    report = bnfold.fold_file(source, folder / "folded.onnx", verify=options)
    assert report.verification is not None
    assert report.verification.structure.proved
    found = bnfold.verify(source, folder / "folded.onnx", options=options)
    assert found.verdict is report.verification.verdict
    return report.verification


def judged(found: Verification) -> dict[str, OutputVerdict]:
    return {output.name: output.verdict for output in found.providers[0].outputs}


NORMAL = [node("RandomNormalLike", ["n"], ["e"]), node("Add", ["n", "e"], ["y"])]
DROPPED = [
    node("Constant", [], ["r"], value_float=0.5),
    node("Constant", [], ["one"], value_float=1.0),
    node("Greater", ["one", "r"], ["training"]),
    node("Dropout", ["n", "r", "training"], ["y"]),
]
BERNOULLI = [node("Sigmoid", ["n"], ["p"]), node("Bernoulli", ["p"], ["y"])]
UNIFORM = [node("RandomUniform", [], ["e"], shape=SHAPE), node("Mul", ["n", "e"], ["y"])]
MULTINOMIAL = [
    node("GlobalAveragePool", ["n"], ["g"]),
    node("Flatten", ["g"], ["logits"]),
    node("Multinomial", ["logits"], ["drawn"], sample_size=3),
    node("Cast", ["drawn"], ["y"], to=TensorProto.FLOAT),
]
LOOPED = [
    node("Constant", [], ["no"], value_float=0.0),
    node("Constant", [], ["most"], value_float=-1.0),
    node("Greater", ["no", "most"], ["always"]),
    node(
        "If", ["always"], ["y"],
        then_branch=helper.make_graph(
            [node("RandomNormalLike", ["n"], ["d"]), node("Sub", ["n", "d"], ["t"])], "then", [],
            [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        ),
        else_branch=helper.make_graph(
            [node("Neg", ["n"], ["f"])], "else", [],
            [helper.make_tensor_value_info("f", TensorProto.FLOAT, None)],
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "tail", [NORMAL, DROPPED, BERNOULLI, UNIFORM, MULTINOMIAL, LOOPED],
    ids=["normal", "dropout", "bernoulli", "uniform", "multinomial", "if"],
)  # fmt: skip
def test_what_is_drawn_is_no_evidence(tmp_path: Path, tail: list[onnx.NodeProto]) -> None:
    found = folded(tmp_path, noisy([*tail, node("Relu", ["n"], ["z"])], ["y", "z"]))
    assert found.verdict is Verdict.PASSED_BY_PROOF
    assert judged(found) == {"y": OutputVerdict.INCONCLUSIVE, "z": OutputVerdict.AGREES}
    assert "random numbers" in found.reason


def test_a_seed_makes_numbers_that_can_be_compared(tmp_path: Path) -> None:
    tail = [node("RandomNormalLike", ["n"], ["e"], seed=3.0), NORMAL[1]]
    assert folded(tmp_path, noisy(tail, ["y"])).verdict is Verdict.PASSED


def test_the_shape_of_random_numbers_is_not_random() -> None:
    tail = [node("RandomNormalLike", ["n"], ["e"]), node("Shape", ["e"], ["s"]),
            node("Expand", ["n", "s"], ["y"])]  # fmt: skip
    assert random_outputs(from_proto(noisy(tail, ["y"]))) == set()


def test_functions_draw_too() -> None:
    opsets = [helper.make_opsetid("", 17)]
    inner = [node("RandomNormalLike", ["a"], ["b"])]
    noise = helper.make_function("own", "Noise", ["a"], ["b"], inner, opsets)
    model = noisy([node("Noise", ["n"], ["y"], domain="own"), node("Relu", ["n"], ["z"])],
                  ["y", "z"])  # fmt: skip
    model.functions.append(noise)
    assert random_outputs(from_proto(model)) == {"y"}


def test_a_wrong_fold_beside_random_numbers_fails(tmp_path: Path) -> None:
    model = noisy([*NORMAL, node("Relu", ["n"], ["z"])], ["y", "z"])
    source = write(model, tmp_path / "model.onnx")
    bnfold.fold_file(source, tmp_path / "folded.onnx", verify=VerifyOptions(("cpu",)))
    wrong = onnx.ModelProto.FromString((tmp_path / "folded.onnx").read_bytes())
    weight = next(t for t in wrong.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.5)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    found = bnfold.verify(model, wrong, options=VerifyOptions(("cpu",)))
    assert found.verdict is Verdict.FAILED
