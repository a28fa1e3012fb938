"""The COMPOSITES table: which small subgraph do runtimes and converters know as *one* operator?

ONNX Runtime, OpenVINO, TensorRT, ncnn and the converters to other formats look for these formulas,
as exporters write them, and put one operator in their place. A number that is taken out of one
takes it apart: what is left is executed piece by piece, or not converted at all. So the affine
nodes inside a composite belong to it, and no run goes through one.

A row is the name that people know an operator by, its formula (`bnfold.rules.expressions`), and
the operator at which to begin to look: from there on, every tensor up to the result is read once.
Where several rows fit, the first counts. Equal letters are equal tensors. In a normalization,
`SCALE` and `SHIFT` are the parameters of its own, which absorb an affine behind it.
"""

from collections.abc import Iterable, Sequence
from math import pi, sqrt
from typing import Final

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.rules.expressions import ANY, Call, Expression, Hole, Parameter, call


@frozen(eq=False)
class CompositeRow:
    """One row of the table.

    Attributes:
        name: What people call it.
        core: The operators of which one is always in it.
        says: The formula in words.
        formula: What it computes.
    """

    name: str
    core: tuple[str, ...]
    says: str
    formula: Expression


EVERY_COMPOSITE: Final = "all"
"""Stands for the names of all rows."""

SCALE: Final = Parameter("scale")
SHIFT: Final = Parameter("shift")

_x, _q, _k = Hole("x"), Hole("q"), Hole("k")
_mask, _window = Hole("mask"), Hole("window")


def _clip(x: Expression, high: float) -> Expression:
    """Clip from 0 on, or Min and Max, or Min and Relu."""
    clip = Call(("Clip",), (x,), {("min", 1): 0, ("max", 2): high})
    above_zero = call("Max", x, 0) | call("Relu", x)
    return clip | call("Min", above_zero, high) | call("Max", call("Min", x, high), 0)


def _affine(normalized: Expression) -> Expression:
    """Return what is normalized, with or without a scale and a shift of its own."""
    return SCALE * normalized + SHIFT | SCALE * normalized | normalized + SHIFT | normalized


_THREE_UP: Final = _clip(_x + 3, 6)
_HALF_UP: Final = _clip(_x / 6 + 0.5, 1)
_SOFTPLUS: Final = call("Log", 1 + call("Exp", _x)) | call("Softplus", _x)
_TANH: Final = sqrt(2 / pi)
_CUBIC: Final = 0.044715


# -- normalizations ---------------------------------------------------------------------------


def _normalized(operators: str, over: str = "") -> tuple[Expression, Expression]:
    """Return (x − E) / √(Var + ε), without parameters and with them as TensorFlow writes it.

    TensorFlow's is x r + (β − E r) with r = γ / √(Var + ε).
    """

    def mean(x: Expression) -> Call:
        return Call(tuple(operators.split()), (x,), over=over)

    centred = _x - mean(_x)
    rate = (ANY + mean(centred**2)) ** -0.5
    spread = SCALE * rate * _x + (SHIFT - SCALE * rate * mean(_x))
    return centred * rate, spread


_LAYER, _LAYER_SPREAD = _normalized("ReduceMean")
_INSTANCE, _INSTANCE_SPREAD = _normalized("ReduceMean GlobalAveragePool", over="spatial")
_GROUPED: Final = call("InstanceNormalization", call("Reshape", _x)) | _LAYER
_SQUARES: Final = call("ReduceSum", _x**2) | call("ReduceSumSquare", _x)
_NORM: Final = call("ReduceL2", _x) | _SQUARES**0.5 | (_SQUARES + ANY) ** 0.5


# -- attention and quantization ---------------------------------------------------------------


def _scaled(x: Expression) -> Expression:
    """Return what is scaled by a number or not, also before a Transpose."""
    return call("Transpose", ANY * x) | ANY * x


def _softmax(scores: Expression) -> Expression:
    """Return the softmax of scores, some of which may be masked."""
    bias = Parameter("bias")
    chosen = call("Where", _mask, scores) | call("Where", Parameter("choice"), scores)
    masked = scores + _mask | scores + bias | chosen
    window = call("Reshape", scores | masked)
    windows = call("Reshape", window + _window | window + Parameter("windows"))
    return call("Softmax", scores | masked | windows)


def _between(x: Expression) -> Expression:
    """Return what is cut off at both ends, wherever they are."""
    return call("Clip", x) | call("Min", call("Max", x)) | call("Max", call("Min", x))


_PRODUCT: Final = call("MatMul", _scaled(_q), _scaled(_k))
_STEPS: Final = call("Round Floor Ceil", ANY * _x | Parameter("step") * _x)
_CUT: Final = _between(_STEPS + ANY) + ANY | _between(_STEPS)


COMPOSITES: Final[Sequence[CompositeRow]] = (
    CompositeRow(
        "GELU", ("Erf",), "½ x (1 + erf(x / √2))", 0.5 * _x * (1 + call("Erf", _x / sqrt(2)))
    ),
    CompositeRow(
        "GELU by tanh",
        ("Tanh",),
        "½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))",
        0.5 * _x * (1 + call("Tanh", _TANH * (_x + _CUBIC * _x**3)))
        | 0.5 * _x * (1 + call("Tanh", _TANH * _x * (1 + _CUBIC * _x**2))),
    ),
    CompositeRow("SiLU", ("Sigmoid",), "x σ(x)", _x * call("Sigmoid", _x)),
    CompositeRow("QuickGELU", ("Sigmoid",), "x σ(k x)", _x * call("Sigmoid", ANY * _x)),
    CompositeRow("Mish", ("Tanh",), "x tanh(log(1 + eˣ))", _x * call("Tanh", _SOFTPLUS)),
    CompositeRow("softplus", ("Log",), "log(1 + eˣ)", call("Log", 1 + call("Exp", _x))),
    CompositeRow(
        "hard-swish",
        ("Clip", "Min", "Max", "HardSigmoid"),
        "x min(max(x + 3, 0), 6) / 6, also with HardSigmoid",
        _x * _THREE_UP / 6 | _x * _HALF_UP | _x * call("HardSigmoid", _x),
    ),
    CompositeRow(
        "hard-sigmoid",
        ("Clip", "Min", "Max"),
        "min(max(x + 3, 0), 6) / 6",
        _THREE_UP / 6 | _HALF_UP,
    ),
    CompositeRow(
        "group normalization",
        ("InstanceNormalization", "ReduceMean"),
        "normalization of groups between two Reshapes, with scale and shift",
        _affine(call("Reshape", _GROUPED)),
    ),
    CompositeRow(
        "instance normalization",
        ("ReduceMean", "GlobalAveragePool"),
        "(x − E) / √(Var + ε) over the spatial axes, with or without scale and shift",
        _affine(_INSTANCE) | _INSTANCE_SPREAD,
    ),
    CompositeRow(
        "layer normalization",
        ("ReduceMean",),
        "(x − E) / √(Var + ε), with or without scale and shift",
        _affine(_LAYER) | _LAYER_SPREAD,
    ),
    CompositeRow(
        "RMS normalization",
        ("ReduceMean",),
        "x / √(mean x² + ε), with or without scale and shift",
        _affine(_x * (ANY + call("ReduceMean", _x**2)) ** -0.5),
    ),
    CompositeRow(
        "L2 normalization",
        ("ReduceL2", "ReduceSum", "ReduceSumSquare"),
        "x / ‖x‖, the norm bounded from below or not",
        _x / call("ReduceL2", _x)
        | _x * _SQUARES**-0.5
        | _x * (_SQUARES + ANY) ** -0.5
        | _x / call("Clip Max", _NORM)
        | _x / call("Expand", _NORM | call("Clip Max", _NORM))
        | _x * call("Max Clip", _SQUARES) ** -0.5,
    ),
    CompositeRow(
        "attention scores",
        ("Softmax",),
        "softmax(k Q Kᵀ), or with a scale on Q and on K; masked or not",
        _softmax(Parameter("temperature") * _PRODUCT | _scaled(_PRODUCT)),
    ),
    CompositeRow(
        "fake quantization",
        ("Round", "Floor", "Ceil"),
        "s round(x / s), cut off at both ends or not, with or without a zero point",
        ANY * _STEPS | ANY * _CUT | Parameter("size") * _STEPS | Parameter("size") * _CUT,
    ),
)
"""The rows; the first that fits counts."""


def checked_names(names: Iterable[str]) -> frozenset[str]:
    """Return names of composites as the tables have them, once each; capitals do not matter.

    Raises:
        RequestError: There is no composite of a name, or it is one name and no collection.
    """
    if isinstance(names, str):
        raise RequestError(f"take_apart is a collection of names, not {names!r}")
    known = {name.lower(): name for name in (*(row.name for row in COMPOSITES), EVERY_COMPOSITE)}
    chosen = {name: known.get(name.lower()) for name in names}
    for name, meant in chosen.items():
        if meant is None:
            there_are = ", ".join(known.values())
            raise RequestError(f"no composite is called {name!r}; there are {there_are}")
    return frozenset(meant for meant in chosen.values() if meant is not None)
