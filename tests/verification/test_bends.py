"""Bounds and choices that one model lacks: told unless a run shows them, or they change nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from proving import proved
from test_deliberate import Nodes, Weights, accepted, node, pair, whole
from test_wrong_pairs import chosen, single, step

from bnfold.verification import VerifyOptions, verify
from bnfold.verification.verdict import Verdict, Verification

SHAPE = (1, 8, 16, 16)
STORED: Weights = {
    "tiny": single(1e-7), "huge": single(1e6), "least": single(-1e6), "seven": single(7.0),
    "nil": single(0.0), "one": single(1.0), "six": single(6.0), "three": single(3.0),
    "minus": single(-1.0), "along": whole(1), "flat": whole(1, -1), "high": single(1e6),
    "k2.0": np.full((1, 8, 1, 1), 2.0), "k3.0": np.full((1, 8, 1, 1), 3.0),
}  # fmt: skip
OPAQUE = step("Asinh", "d", "o")
"""What a probe does not look into."""
POSITIVE = [step("Exp", "d", "s"), step("Sub", "s tiny", "o")]


def judged(behind: Nodes, instead: Nodes) -> Verification:
    """Return the verdict on Conv → BN → `behind` and its fold with `instead`, which both run."""
    models = pair(behind, instead, SHAPE, STORED)
    for model in models:
        del model.graph.node[-1], model.opset_import[-1]
        model.graph.output[0].name = "y"
    return verify(*models, options=VerifyOptions(("cpu",), time=0))


def split(*nodes: onnx.NodeProto) -> Nodes:
    return [OPAQUE, *nodes]


GONE: Mapping[str, tuple[Nodes, Nodes, str]] = {
    "a lower bound": (
        [step("Softsign", "d", "o"), step("Softmax", "o", "p"), step("Max", "p tiny", "b1"),
         step("Log", "b1")],
        [step("Softsign", "d", "o"), step("Softmax", "o", "b1"), step("Log", "b1")],
        "the original has a Max",
    ),
    "an upper bound": (
        split(step("Min", "o huge")), node("Asinh", "d"), "the original has a Min"
    ),
    "an upper bound of the candidate's": (
        node("Asinh", "d"), split(step("Clip", "o least huge")), "the candidate has a Clip"
    ),
    "a bound that moves": (
        split(step("Clip", "o least huge")),
        [step("Clip", "d least huge", "o"), step("Asinh", "o")], "has a Clip there",
    ),
    "a norm that is never zero": (
        [step("ReduceL2", "d along", "n"), step("Max", "n tiny", "b1"), step("Div", "d b1")],
        node("LpNormalization", "d", axis=1, p=2), "the original has a Max",
    ),
    "a slope below zero": (
        [*POSITIVE, step("Elu", "o", alpha=0.1)], [*POSITIVE[:1], step("Sub", "s tiny")],
        "the original has an Elu",
    ),
    "a threshold": (
        split(step("ThresholdedRelu", "o", alpha=-1e6)), node("Asinh", "d"),
        "the original has a ThresholdedRelu",
    ),
    "a small interval": (
        split(step("Shrink", "o", lambd=1e-9, bias=0.0)), node("Asinh", "d"),
        "the original has a Shrink",
    ),
    "numbers halfway": (
        node("Round", "d"), [step("Add", "d half", "h"), step("Floor", "h")], "has a Round"
    ),
    "a remainder": (
        split(step("Mod", "o huge", fmod=1)), node("Asinh", "d"), "the original has a Mod"
    ),
    "what is not finite": (
        split(step("IsNaN", "o", "q"), step("Where", "q nil o")), node("Asinh", "d"),
        "the original has an IsNaN",
    ),
    "a choice": (
        split(step("Greater", "o high", "q"), step("Where", "q nil o")), node("Asinh", "d"),
        "the original has a Greater",
    ),
    "an If of the candidate's": (
        [step("Mul", "d k3.0")], chosen("k2.0", "k3.0"), "the candidate has"
    ),
}  # fmt: skip
STORED |= {"quarter": single(0.25), "half": single(0.5)}


@pytest.mark.parametrize("how", GONE)
def test_a_bound_that_no_run_reaches_is_told(how: str) -> None:
    behind, instead, told = GONE[how]
    found = judged(behind, instead)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert told in found.reason


SHOWN: Mapping[str, tuple[Nodes, Nodes]] = {
    "a bound that is reached, in other words": (
        split(step("Neg", "o", "m1"), step("Relu", "m1", "r"), step("Relu", "o", "q"),
              step("Sub", "q r")),
        node("Asinh", "d"),
    ),
    "a hard swish in other words": (
        split(step("Softsign", "o", "t"), step("HardSwish", "t", "h"), step("Asinh", "h")),
        split(step("Softsign", "o", "t"), step("Add", "t three", "u"),
              step("Clip", "u nil six", "v1"), step("Mul", "t v1", "w"), step("Div", "w six", "h"),
              step("Asinh", "h")),
    ),
    "a hard swish as a hard sigmoid": (
        split(step("Softsign", "o", "t"), step("HardSwish", "t", "h"), step("Asinh", "h")),
        split(step("Softsign", "o", "t"), step("HardSigmoid", "t", "u", alpha=1 / 6, beta=0.5),
              step("Mul", "t u", "h"), step("Asinh", "h")),
    ),
    "a comparison that is negated": (
        split(step("Greater", "o high", "q"), step("Where", "q nil o")),
        split(step("LessOrEqual", "o high", "q"), step("Where", "q o nil")),
    ),
    "two bounds one by one": (
        split(step("Clip", "o least huge", "b1"), step("Asinh", "b1")),
        split(step("Max", "o least", "m1"), step("Min", "huge m1", "b1"), step("Asinh", "b1")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SHOWN)
def test_what_a_run_shows_or_both_have_passes(how: str) -> None:
    behind, instead = SHOWN[how]
    assert judged(behind, instead).ok


RELU = step("Relu", "d", "r")
MOOT: Mapping[str, tuple[Nodes, Nodes]] = {
    "a Relu behind a Relu": ([RELU, step("Relu", "r")], node("Relu", "d")),
    "the bounds that it has": (
        [step("Clip", "d nil six", "r"), step("Clip", "r nil six")],
        [step("Clip", "d nil six")],
    ),
    "a wider bound": ([RELU, step("Max", "minus r")], node("Relu", "d")),
    "a probability's bounds": (
        [step("Softmax", "d", "p"), step("Clip", "p nil one", "q"), step("Log", "q")],
        [step("Softmax", "d", "q"), step("Log", "q")],
    ),
    "a Relu behind what moves": (
        [step("Exp", "d", "e"), step("Reshape", "e flat", "f"), step("Relu", "f", "g1"),
         step("Log", "g1")],
        [step("Exp", "d", "e"), step("Reshape", "e flat", "g1"), step("Log", "g1")],
    ),
    "a Relu behind what is put together": (
        [RELU, step("Sigmoid", "d", "s"), step("Concat", "r s", "t", axis=1),
         step("Relu", "t", "g1"), step("Log", "g1")],
        [RELU, step("Sigmoid", "d", "s"), step("Concat", "r s", "g1", axis=1), step("Log", "g1")],
    ),
    "a slope behind a sum": (
        [RELU, step("Abs", "d", "a"), step("Add", "r a", "t"), step("LeakyRelu", "t", "g1"),
         step("Asinh", "g1")],
        [RELU, step("Abs", "d", "a"), step("Add", "r a", "g1"), step("Asinh", "g1")],
    ),
    "no bounds": ([OPAQUE, step("Clip", "o")], node("Asinh", "d")),
    "a comparison the other way round": (
        [OPAQUE, step("Greater", "o six", "q"), step("Where", "q nil o")],
        [OPAQUE, step("Less", "six o", "q"), step("Where", "q nil o")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("how", MOOT)
def test_a_bound_that_changes_nothing_is_proved(tmp_path: Path, how: str, *, turned: bool) -> None:
    behind, instead = reversed(MOOT[how]) if turned else MOOT[how]
    proof = proved(tmp_path, *pair(behind, instead, SHAPE, STORED))
    assert accepted(proof), proof.structure.reason


NOT_MOOT: Mapping[str, tuple[Nodes, Nodes]] = {
    "a bound within": ([RELU, step("Max", "r tiny", "g1"), step("Log", "g1")],
                       [RELU, step("Log", "r")]),
    "a bound below the largest": (
        [step("Sigmoid", "d", "r"), step("Min", "r half", "g1"), step("Log", "g1")],
        [step("Sigmoid", "d", "g1"), step("Log", "g1")],
    ),
    "what is taken away": (
        [RELU, step("Sub", "r tiny", "t"), step("Relu", "t", "g1"), step("Log", "g1")],
        [RELU, step("Sub", "r tiny", "g1"), step("Log", "g1")],
    ),
    "a product of what has a sign": (
        [RELU, step("Mul", "r d", "t"), step("Relu", "t", "g1"), step("Log", "g1")],
        [RELU, step("Mul", "r d", "g1"), step("Log", "g1")],
    ),
    "a bound of another shape": (
        [step("GlobalMaxPool", "d", "t"), step("Relu", "t", "r"), step("Max", "r wide", "g1"),
         step("Log", "g1")],
        [step("GlobalMaxPool", "d", "t"), step("Relu", "t", "g1"), step("Log", "g1")],
    ),
}  # fmt: skip
STORED |= {"wide": np.full((1, 8, 2, 2), -1.0)}


@pytest.mark.parametrize("how", NOT_MOOT)
def test_a_bound_that_may_change_something_is_not(tmp_path: Path, how: str) -> None:
    behind, instead = NOT_MOOT[how]
    assert not accepted(proved(tmp_path, *pair(behind, instead, SHAPE, STORED)))
