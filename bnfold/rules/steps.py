"""The STEP table: where is a small change no small change any more?

Floor, a comparison or ArgMax answers with whole numbers or with yes and no. In front of one a
number that is rounded differently may fall on the other side, and then the answer is another. Of
sums of arbitrary floating-point numbers none is met exactly. Sums of whole numbers are exact, meet
the steps exactly, and do so often: networks of integers that are stored as floats, as exporters for
integer hardware write them, have been built on it.
"""

from collections.abc import Mapping

import onnx

from bnfold.rules.operator import FLOATS, Operator

_NUMBERS = "it answers with whole numbers"
_YES_OR_NO = "it answers with yes or no"
_PLACES = "it answers with places"

STEP: Mapping[str, str] = {
    "Floor": _NUMBERS,
    "Ceil": _NUMBERS,
    "Round": _NUMBERS,
    "Sign": _NUMBERS,
    "Mod": _NUMBERS,
    "QuantizeLinear": _NUMBERS,
    "DynamicQuantizeLinear": _NUMBERS,
    "Cast": _NUMBERS,
    "CastLike": _NUMBERS,
    "Greater": _YES_OR_NO,
    "GreaterOrEqual": _YES_OR_NO,
    "Less": _YES_OR_NO,
    "LessOrEqual": _YES_OR_NO,
    "Equal": _YES_OR_NO,
    "ArgMax": _PLACES,
    "ArgMin": _PLACES,
    "TopK": _PLACES,
    "NonZero": _PLACES,
    "Unique": _PLACES,
    "Quant": _NUMBERS,
    "IntQuant": _NUMBERS,
    "BipolarQuant": _NUMBERS,
    "MultiThreshold": _NUMBERS,
    "Trunc": _NUMBERS,
}
"""Operators that make steps, and how; those behind `Unique` are of QONNX's domains."""

_OF_QONNX = frozenset({"Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"})
_CASTS = frozenset({"Cast", "CastLike"})

BOUNDED = frozenset({"Abs", "Clip", "Max", "Min"})
"""Operators that let whole numbers stay what they are, and that no affine passes."""


def is_step(op: Operator, domain: str) -> bool:
    """Whether an operator makes steps."""
    own = domain in ("", "ai.onnx")
    if op.op_type not in STEP or own is (op.op_type in _OF_QONNX):
        return domain == "com.microsoft" and op.op_type == "QuantizeLinear"
    if op.op_type not in _CASTS:
        return True
    made = op.integer("to", 0) or op.output.elem_type
    return made not in FLOATS and made != onnx.TensorProto.UNDEFINED
