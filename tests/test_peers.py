"""What bnfold does with each case that other folders of batch normalizations were measured on.

One entry of `ROWS` for each row of the comparison, under the row's own words. A case that folds
leaves no affine node behind; a case that stays says why. What the last rows of the comparison
promise of every fold (names and notes kept, numbers checked, refusals explained) is checked here
for every case, and at length in `graph/test_preservation.py`, `verification/` and `golden/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from evaluation import assert_same
from invariants import check_invariants

import bnfold
from bnfold.reasons import Reason
from bnfold.rules.affine_nodes import AFFINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STORED = (
    "TYPE[2] g = {2, 6}, TYPE[2] b = {1, 2}, TYPE[2] e = {1, 1}, TYPE[2] v = {1, 4},"
    " TYPE[2,2,1,1] W = {1, 2, 3, 4}, TYPE[2,2] M = {1, 2, 3, 4}, TYPE[2] c = {3, 5},"
    " TYPE[2,1,1] k = {2, 3}, TYPE h = {2}, TYPE[4] w = {2, 3, 4, 5}"
)
_BN = "z = BatchNormalization (y, g, b, e, v)"
_CONV = "y = Conv (x, W, c)"


@dataclass(frozen=True)
class Case:
    """A graph in words.

    Attributes:
        body: The nodes; they read `x` and make `z`.
        x: The type of the input.
        z: The rank of the output.
        stored: More initializers.
        kept: Why something stays; None where all affine nodes go.
        left: How many affine nodes stay all the same: the bias of a MatMul, or what was merged.
        opset: The version of the operators.
        ir: The version of the format.
        listed: Initializers that are listed as inputs too.
        elem_type: The element type.
        functions: Local functions.
        options: Options of `bnfold.fold`.
        more: More inputs.
        also: More outputs.
    """

    body: str
    x: str = "1,2,4,4"
    z: int = 4
    stored: str = ""
    kept: Reason | None = None
    left: int = 0
    opset: int = 17
    ir: int = 8
    listed: str = ""
    elem_type: str = "double"
    functions: str = ""
    options: tuple[str, ...] = ()
    more: str = ""
    also: str = ""

    @property
    def model(self) -> onnx.ModelProto:
        stored = self._read_ones()
        inputs = [f"{self.elem_type}[{self.x}] x", *filter(None, [self.more])]
        inputs += [declared.split("=")[0] for declared in stored if self._is_listed(declared)]
        outputs = [
            f"{self.elem_type}[{', '.join('PQRST'[: self.z])}] z",
            *filter(None, [self.also]),
        ]
        text = f"""<ir_version: {self.ir}, opset_import: ["" : {self.opset}, "local" : 1]>
            g ({", ".join(inputs)}) => ({", ".join(outputs)})
            <{", ".join(stored)}> {{ {self.body} }} {self.functions}"""
        model = onnx.parser.parse_model(text.replace("TYPE", self.elem_type))
        if not self.functions:
            del model.opset_import[1:]
        return model

    def _read_ones(self) -> list[str]:
        """The initializers that are read: one that nobody reads would be a graph's own affair."""
        everything = ", ".join(filter(None, [self.stored, _STORED])).replace("TYPE", self.elem_type)
        declared = re.findall(r"[a-z0-9]+(?:\[[0-9,]*\])? +\w+ = \{[^}]*\}", everything)
        found = {_name(one): one for one in reversed(declared)}
        words = set(re.findall(r"\w+", self.body))
        return [one for name, one in found.items() if name in words]

    def _is_listed(self, declared: str) -> bool:
        return _name(declared) in self.listed.split()


def _name(declared: str) -> str:
    """The name in `type name = {numbers}`."""
    words, _, _ = declared.partition(" = ")
    return words.split()[-1]


def _behind(node: str, *, z: int = 4, stored: str = "", x: str = "1,2,4,4") -> Case:
    """A Conv, a node from `p` to `y`, and a normalization."""
    return Case(f"p = Conv (x, W, c) {node} {_BN}", x=x, z=z, stored=stored)


_IF = """z = If (q) <
    then_branch = g1 () => (TYPE[P,Q,R,S] t) OWN { y = Conv (x, WEIGHT)
        t = BatchNormalization (y, g, b, e, v) },
    else_branch = g2 () => (TYPE[P,Q,R,S] s) { s = Sigmoid (x) }>"""
_FUNCTION = """<domain: "local", opset_import: ["" : 17]> block (x INPUTS) => (z) {
    CONSTANTS y = Conv (x, W) z = BatchNormalization (y, g, b, e, v) }"""
_CONSTANTS = " ".join(
    f"{name} = Constant <value = double[{shape}] {{{values}}}> ()"
    for name, shape, values in [
        ("W", "2,2,1,1", "1, 2, 3, 4"),
        ("g", "2", "2, 6"),
        ("b", "2", "1, 2"),
        ("e", "2", "1, 1"),
        ("v", "2", "1, 4"),
    ]
)

ROWS: Mapping[str, Mapping[str, Case]] = {
    "Conv 1/2/3D, depthwise, grouped": {
        "1D": Case(f"y = Conv (x, W1) {_BN}", "1,2,5", 3, "TYPE[2,2,1] W1 = {1, 2, 3, 4}"),
        "2D": Case(f"{_CONV} {_BN}"),
        "3D": Case(f"y = Conv (x, W3) {_BN}", "1,2,3,3,3", 5, "TYPE[2,2,1,1,1] W3 = {1, 2, 3, 4}"),
        "depthwise": Case(
            f"y = Conv <group = 2> (x, W1) {_BN}", stored="TYPE[2,1,1,1] W1 = {1, 2}"
        ),
        "grouped": Case(
            f"y = Conv <group = 2, pads = [0, 1, 1, 0], strides = [2, 1]> (x, W1) {_BN}",
            "1,4,4,4",
            stored="TYPE[2,2,1,1] W1 = {1, 2, 3, 4}",
        ),
    },
    "ConvTranspose group 1 / grouped": {
        "group 1": Case(f"y = ConvTranspose <strides = [2, 2]> (x, W) {_BN}"),
        "grouped": Case(
            f"y = ConvTranspose <group = 2, pads = [1, 0, 0, 1]> (x, W1) {_BN}",
            "1,4,4,4",
            stored="TYPE[4,1,1,1] W1 = {1, 2, 3, 4}",
        ),
        "grouped, two outputs each": Case(
            "y = ConvTranspose <group = 2> (x, W1) z = BatchNormalization (y, G, B, B, G)",
            stored="TYPE[2,2,1,1] W1 = {1, 2, 3, 4}, TYPE[4] G = {1, 2, 3, 4},"
            " TYPE[4] B = {5, 6, 7, 8}",
        ),
    },
    "Gemm transB 0/1, alpha, beta, any legal C": {
        f"{b}, C [{shape}]": Case(
            f"y = Gemm <transB = {b}, alpha = 0.5, beta = 0.3> (x, M, C) {_BN}",
            "2,2",
            2,
            f"TYPE{f'[{shape}]' if shape else ''} C = {{{', '.join('5678'[:count])}}}",
        )
        for b in (0, 1)
        for shape, count in [("", 1), ("1", 1), ("2", 2), ("1,2", 2), ("2,1", 2), ("2,2", 4)]
    }
    | {"no C": Case(f"y = Gemm <beta = 0.3> (x, M) {_BN}", "2,2", 2)},
    "MatMul rank 2; MatMul→Add→BN; rank 3 where the axis is provably last": {
        "rank 2": Case(f"y = MatMul (x, M) {_BN}", "3,2", 2),
        "MatMul→Add→BN": Case(f"p = MatMul (x, M) y = Add (p, c) {_BN}", "3,2", 2, left=1),
        "rank 3": Case("y = MatMul (x, M) n = Mul (y, g) z = Add (n, b)", "1,3,2", 3, left=1),
    },
    "BN→Conv without padding, BN→Gemm, BN→Flatten→Gemm": {
        "BN→Conv": Case("y = BatchNormalization (x, g, b, e, v) z = Conv (y, W, c)"),
        "BN→Gemm": Case("y = BatchNormalization (x, g, b, e, v) z = Gemm (y, M, c)", "3,2", 2),
        "BN→Flatten→Gemm": Case(
            "y = BatchNormalization (x, g, b, e, v) p = Flatten (y) z = Gemm (p, F)",
            "1,2,1,2",
            2,
            "TYPE[4,1] F = {1, 2, 3, 4}",
        ),
    },
    "Conv→Identity/Dropout→BN": {
        "Identity": _behind("y = Identity (p)"),
        "Dropout": _behind("y = Dropout (p)"),
    },
    "Conv→Add const→BN": {"Add": _behind("y = Add (p, k)"), "scalar": _behind("y = Add (h, p)")},
    "Conv→{Transpose, Reshape, Squeeze, Flatten, Pad, MaxPool (s>0), AveragePool,"
    " GlobalAveragePool, DepthToSpace, Resize}→BN": {
        "Transpose": _behind("y = Transpose <perm = [0, 1, 3, 2]> (p)"),
        "Reshape": _behind("y = Reshape (p, i)", z=3, stored="int64[3] i = {0, 2, -1}"),
        "Squeeze": _behind("y = Squeeze (p, i)", z=3, stored="int64[1] i = {3}", x="1,2,4,1"),
        "Flatten": _behind("y = Flatten (p)", z=2, x="1,2,1,1"),
        "Pad": _behind(
            'y = Pad <mode = "edge"> (p, i)', stored="int64[8] i = {0, 0, 1, 2, 0, 0, 0, 1}"
        ),
        "MaxPool": _behind("y = MaxPool <kernel_shape = [2, 2]> (p)"),
        "AveragePool": _behind("y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (p)"),
        "GlobalAveragePool": _behind("y = GlobalAveragePool (p)"),
        "DepthToSpace": Case(
            f"p = Conv (x, W8) y = DepthToSpace <blocksize = 2> (p) {_BN}",
            stored=f"TYPE[8,2,1,1] W8 = {{{', '.join(map(str, range(16)))}}}",
        ),
        "Resize": _behind(
            'y = Resize <mode = "linear"> (p, , i)', stored="float[4] i = {1, 1, 2, 2}"
        ),
    },
    "Concat of convs→BN; Add of convs→BN": {
        "Concat": Case(
            f"p = Conv (x, U) q = Conv (x, V) y = Concat <axis = 1> (p, q) {_BN}",
            stored="TYPE[1,2,1,1] U = {1, 2}, TYPE[1,2,1,1] V = {3, 4}",
        ),
        "Add": Case(
            f"p = Conv (x, W) q = Conv (x, V) y = Add (p, q) {_BN}",
            stored="TYPE[2,2,1,1] V = {5, 6, 7, 8}",
        ),
    },
    "Conv(x) + BN(x) (RepVGG, MobileOne identity branches)": {
        "sum": Case(
            "y = Conv (x, W) n = BatchNormalization (x, g, b, e, v) s = Add (y, n) z = Relu (s)",
        ),
    },
    "Conv→Mul→Add, const 2nd operand / 1st operand or scalar": {
        "2nd": Case(f"{_CONV} n = Mul (y, k) z = Add (n, k)"),
        "1st": Case(f"{_CONV} n = Mul (k, y) z = Add (k, n)"),
        "scalar": Case(f"{_CONV} n = Mul (y, h) z = Add (h, n)"),
    },
    "Sub→Div→Mul→Add after Conv; BN→BN anywhere; standalone BN": {
        "Sub→Div→Mul→Add": Case(
            f"{_CONV} n = Sub (y, k) m = Div (n, k) o = Mul (m, h) z = Add (o, k)"
        ),
        "BN→BN": Case(
            f"p = Sigmoid (x) y = BatchNormalization (p, g, b, e, v) {_BN}",
            kept=Reason.NOT_LINEAR,
            left=1,
        ),
        "standalone": Case(f"y = Sigmoid (x) {_BN}", kept=Reason.NOT_LINEAR, left=1),
    },
    "Conv→Mul([C]) with W == C (scales W, not channels)": {
        "kept": Case(f"{_CONV} z = Mul (y, c)", "1,2,2,2", kept=Reason.OTHER_AXIS, left=1),
    },
    "parameters as Constant nodes / computed constants": {
        "Constant": Case(
            f"W1 = Constant <value = TYPE[2,2,1,1] {{1, 2, 3, 4}}> () y = Conv (x, W1, c) {_BN}"
        ),
        "computed": Case(
            "s = Shape (g) h1 = CastLike (t, g) b1 = Expand (h1, s)"
            " W1 = Transpose <perm = [1, 0, 2, 3]> (W)"
            " y = Conv (x, W1, b1) i = Identity (v) z = BatchNormalization (y, g, b1, b1, i)",
            stored="float t = {0.5}",
        ),
    },
    "weight or bias shared by two Convs": {
        "both fold": Case(
            f"{_CONV} n = BatchNormalization (y, g, b, e, v) o = Relu (n) p = Conv (o, W, c)"
            " z = BatchNormalization (p, v, e, b, g)"
        ),
        "one folds": Case(f"p = Conv (x, W, c) o = Relu (p) y = Conv (o, W, c) {_BN}"),
    },
    "IR 3 weights listed as inputs": {
        "IR 3": Case(f"{_CONV} {_BN}", opset=8, ir=3, listed="W c g b e v"),
    },
    "IR 8 overridable initializers": {
        "folded, said": Case(f"{_CONV} {_BN}", listed="W c g b e v"),
        "kept by flag": Case(
            f"{_CONV} {_BN}",
            listed="W c g b e v",
            options=("keep_overridable",),
            kept=Reason.OVERRIDABLE,
            left=1,
        ),
    },
    "Conv output is graph output / has another consumer / captured by If": {
        "graph output": Case(
            f"{_CONV} {_BN}", also="TYPE[P,Q,R,S] y", kept=Reason.GRAPH_OUTPUT, left=1
        ),
        "another consumer": Case(
            f"{_CONV} n = BatchNormalization (y, g, b, e, v) s = Sigmoid (y) z = Max (n, s)",
            kept=Reason.OTHER_READER,
            left=1,
        ),
        "captured": Case(
            f"{_CONV} {_BN} u = If (q) <then_branch = g1 () => (TYPE[P,Q,R,S] t) {{ t = Abs (y) }},"
            " else_branch = g2 () => (TYPE[P,Q,R,S] s) { s = Sigmoid (x) }>",
            more="bool q",
            also="TYPE[P,Q,R,S] u",
            kept=Reason.CAPTURED,
            left=1,
        ),
    },
    "all consumers of the Conv are equal BNs": {
        "two": Case(
            f"{_CONV} m = BatchNormalization (y, g, b, e, v) n = BatchNormalization (y, g, b, e, v)"
            " o = Relu (m) p = Sigmoid (n) z = Max (o, p)"
        ),
    },
    "inside If, own weights / outer-scope weights": {
        "own": Case(
            _IF.replace("OWN", "<TYPE[2,2,1,1] W1 = {1, 2, 3, 4}>").replace("WEIGHT", "W1"),
            more="bool q",
        ),
        "outer": Case(_IF.replace("OWN", "").replace("WEIGHT", "W"), more="bool q"),
    },
    "inside a local function": {
        "constants of its own": Case(
            "z = local.block (x)",
            functions=_FUNCTION.replace("INPUTS", "").replace("CONSTANTS", _CONSTANTS),
        ),
        "arguments": Case(
            "z = local.block (x, W, g, b, e, v)",
            functions=_FUNCTION.replace("INPUTS", ", W, g, b, e, v").replace("CONSTANTS", ""),
        ),
    },
    "float16 Conv with float32 BN parameters": {
        "mixed": Case(
            f"{_CONV} {_BN}",
            stored="float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1},"
            " float[2] v = {1, 4}",
            elem_type="float16",
        ),
    },
    "float16 / float64": {
        "float16": Case(f"{_CONV} {_BN}", elem_type="float16"),
        "float64": Case(f"{_CONV} {_BN}"),
    },
    "opset 7–22; opset 6 with is_test=1": {
        str(opset): Case(f"{_CONV} {_BN}", opset=opset, ir=10) for opset in range(7, 23)
    }
    | {
        "6": Case(
            f"{_CONV} z = BatchNormalization <is_test = 1> (y, g, b, e, v)",
            opset=6,
            ir=3,
            listed="W c g b e v",
        ),
        "6, training": Case(
            f"{_CONV} z, m, r, s, t = BatchNormalization (y, g, b, e, v)",
            opset=6,
            ir=3,
            listed="W c g b e v",
            kept=Reason.TRAINING_MODE,
            left=1,
        ),
    },
    "spatial=0": {
        "kept": Case(
            f"{_CONV} z = BatchNormalization <spatial = 0> (y, G, G, G, G)",
            "1,2,1,1",
            stored="TYPE[2,1,1] G = {1, 2}",
            opset=8,
            kept=Reason.PER_ELEMENT_STATISTICS,
            left=1,
        ),
    },
    "training_mode=1": {
        "kept": Case(
            f"{_CONV} z, m, s = BatchNormalization <training_mode = 1> (y, g, b, e, v)",
            kept=Reason.TRAINING_MODE,
            left=1,
        ),
    },
    "QDQ weight": {
        "per tensor": Case(
            f"W1 = DequantizeLinear <axis = 0> (Q, s) y = Conv (x, W1) {_BN}",
            stored="int8[2,2,1,1] Q = {1, -2, 3, -4}, float s = {0.5}",
            elem_type="float",
        ),
        "per channel": Case(
            f"W1 = DequantizeLinear <axis = 0> (Q, s) y = Conv (x, W1) {_BN}",
            stored="int8[2,2,1,1] Q = {1, -2, 3, -4}, float[2] s = {0.5, 0.25}",
            elem_type="float",
            opset=19,
        ),
    },
}
"""The rows of the comparison, but for its last three, which are about every fold."""

_EVALUABLE_OPSET = 19  # the first of which the reference has a DequantizeLinear


def _cases() -> Iterator[object]:
    for row, cases in ROWS.items():
        for name, case in cases.items():
            yield pytest.param(case, id=f"{row} - {name}")


def _left(model: onnx.ModelProto) -> int:
    """How many affine nodes compute something in a model, its branches and its functions."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    stored = {tensor.name for tensor in model.graph.initializer}
    found = 0
    while waiting:
        for node in waiting.pop().node:
            found += node.op_type in AFFINE and not stored.issuperset(node.input)
            waiting.extend(a.g for a in node.attribute if a.HasField("g"))
    return found


def _evaluable(model: onnx.ModelProto) -> bool:
    return all(
        node.op_type != "DequantizeLinear" or model.opset_import[0].version >= _EVALUABLE_OPSET
        for node in model.graph.node
    )


@pytest.mark.parametrize("case", list(_cases()))
def test_a_case_of_the_comparison(case: Case) -> None:
    model = case.model
    onnx.checker.check_model(model, full_check=True)
    for node in model.graph.node:
        node.name, node.doc_string = f"the {node.op_type} of {node.output[0]}", "words"
    model.graph.doc_string = "words"
    options: dict[str, Any] = dict.fromkeys(case.options, True)
    folding = bnfold.fold(model, **options)
    if not case.options:
        check_invariants(model, folding)
    reasons = {kept.above.reason for kept in folding.kept}
    if case.kept is None:
        assert not reasons
    else:
        assert case.kept.value in reasons | {k.below.reason for k in folding.kept if k.below}
    if case.kept is not Reason.GRAPH_INPUT:
        assert _left(folding.model) == case.left
    names = {node.name for node in model.graph.node}
    kept = [node for node in folding.model.graph.node if node.name in names]
    assert all(node.doc_string == "words" for node in kept)
    assert folding.model.graph.doc_string == "words"
    if _evaluable(model) and case.kept is not Reason.TRAINING_MODE:
        elem_type = model.graph.input[0].type.tensor_type.elem_type
        assert_same(model, folding.model, elem_type=elem_type, magnitude=float(np.pi) ** 4)


def test_what_was_overridable_is_said() -> None:
    case = ROWS["IR 8 overridable initializers"]["folded, said"]
    assert bnfold.fold(case.model).unlisted


def test_only_what_must_be_is_inlined() -> None:
    cases = ROWS["inside a local function"]
    assert not bnfold.fold(cases["constants of its own"].model).inlined
    assert bnfold.fold(cases["arguments"].model).inlined == ("local::block",)
