"""What a proof needs to know of a cone before anything is computed."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import is_float, unit_roundoff
from bnfold.verification.operators.node import UnsupportedError
from bnfold.verification.operators.table import Row, row_of
from bnfold.verification.proof.cone import Cone


def linear_depth(cone: Cone) -> int:
    """Return the largest number of linear operators in series.

    The magnitude grows with every one of them, so a bound over many says little.
    """
    return _in_series(cone, lambda node, entering: max(entering) + row_of(node).is_linear)


def roundings_in_series(cone: Cone, changed: Collection[str]) -> int:
    """Return how many changed constants a value meets at most on its way; at least 1.

    Every one of them was rounded, and the errors add up. The weight and the bias of one operator
    count once: each adds its share to a different part of the magnitude. In a product of two
    tensors the errors of both come together.
    """

    def met(node: onnx.NodeProto, entering: Sequence[int]) -> int:
        here = sum(entering) if row_of(node).multiplies else max(entering, default=0)
        return here + any(name in changed for name in node.input)

    return max(1, _in_series(cone, met))


def normalizations_in_series(cone: Cone) -> int:
    """Return how many batch normalizations a value meets at most on its way."""
    return _in_series(cone, lambda node, entering: max(entering) + row_of(node).normalizes)


def sums_in_series(cone: Cone) -> int:
    """Return how many sums of several branches a value meets at most on its way."""

    def met(node: onnx.NodeProto, entering: Sequence[int]) -> int:
        return max(entering) + (row_of(node).adds and len(entering) > 1)

    return _in_series(cone, met)


def _in_series(cone: Cone, count: Callable[[onnx.NodeProto, Sequence[int]], int]) -> int:
    """Return the largest count of any tensor that varies, from those that enter its node."""
    depth: dict[str, int] = dict.fromkeys(cone.leaves, 0)
    deepest = 0
    for node in cone.passing:
        entering = [depth[name] for name in node.input if name in depth]
        if entering:
            depth |= dict.fromkeys(node.output, count(node, entering))
            deepest = max(deepest, *(depth[name] for name in node.output))
    return deepest


def brings_numbers_in(cone: Cone) -> bool:
    """Tell whether an operator brings in numbers of its own, as the value of a Pad."""
    return any(row_of(node).brings_in for node in cone.passing)


def parameters(cone: Cone) -> dict[str, str]:
    """Return the constants that are parameters of what is not linear, and of which operator.

    The bounds of a Clip, the slopes of a PRelu, the value of a Pad. One that is read elsewhere,
    too, is no parameter.
    """
    found: dict[str, str] = {}
    elsewhere: set[str] = set()
    for node in cone.passing:
        row = row_of(node)
        for index, name in enumerate(node.input):
            if name and cone.scope.is_constant(name):
                if index in row.parameters:
                    found[name] = node.op_type
                else:
                    elsewhere.add(name)
    return {name: op_type for name, op_type in found.items() if name not in elsewhere}


def integer_inputs(cone: Cone) -> dict[str, np.dtype[np.generic]]:
    """Return the tensors that enter and are inputs of the graph of integers or booleans."""
    graph = cone.scope.model.proto.graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.input if v.name in cone.leaves}
    dtypes = {n: onnx.helper.tensor_dtype_to_np_dtype(t) for n, t in types.items() if t in _WHOLE}
    return dtypes if cone.scope.parent is None else {}


_WHOLE = frozenset(
    number
    for name, number in onnx.TensorProto.DataType.items()
    if name == "BOOL" or name.removeprefix("U") in {"INT8", "INT16", "INT32", "INT64"}
)


def casts(cone: Cone) -> "Counter[Cast]":
    """Count the Casts of what varies, by what they do; one to a tensor's type has the target 0.

    In float64 a Cast between floating dtypes does nothing, so a probe cannot see it round.
    """
    return Counter(_cast(node) for node in cone.passing if row_of(node).casts)


@frozen
class Cast:
    """What a Cast does.

    Attributes:
        target: The type that it casts to; 0 for another tensor's type.
        how: What else it says, where that makes a difference.
    """

    target: int
    how: tuple[tuple[str, object], ...] = ()

    def __eq__(self, other: object) -> bool:
        """Tell whether another does the same."""
        same = isinstance(other, Cast) and (self.target, self.how) == (other.target, other.how)
        return bool(same)

    def __hash__(self) -> int:
        """Return the hash of what it does."""
        return hash((self.target, self.how))

    @property
    def roundoff(self) -> float:
        """The unit roundoff of its target; 0 where that is no floating-point type."""
        if not self.target:
            return 0.0
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.target)
        return unit_roundoff(dtype) if is_float(np.empty(0, dtype)) else 0.0


_SATURATING = frozenset(
    number for name, number in onnx.TensorProto.DataType.items() if name.startswith("FLOAT8")
)
"""Types of which a Cast says whether what is too large becomes the largest number."""
_USUAL = {"saturate": 1, "round_mode": b"up"}


def _cast(node: onnx.NodeProto) -> Cast:
    said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    target = int(said.pop("to", 0))
    how = {name: said.get(name, usual) for name, usual in _USUAL.items()}
    unusual = tuple(sorted((n, v) for n, v in how.items() if v != _USUAL[n]))
    return Cast(target, unusual if target in _SATURATING or not target else ())


def is_straight(cone: Cone) -> bool:
    """Tell whether a cone computes an affine function.

    Two affine functions that agree where no input is negative agree everywhere.
    """
    return _consists_of(cone, lambda row: row.is_linear or row.is_affine)


def is_alike_for_all_shapes(cone: Cone) -> bool:
    """Tell whether the same is computed whatever the shape of what enters, and for each sample."""
    attributes = [attribute for node in cone.passing for attribute in node.attribute]
    fitted = any(a.name == "output_shape" or a.s.startswith(b"SAME") for a in attributes)
    return not fitted and _consists_of(cone, lambda row: row.is_linear or row.is_elementwise)


def _consists_of(cone: Cone, belongs: Callable[[Row], bool]) -> bool:
    return len(cone.passed) == len(cone.nodes) and all(
        belongs(row_of(node)) for node in cone.passing
    )


def check_provable(cone: Cone) -> None:
    """Refuse a cone with an operator of whose magnitude nothing is known; nothing is computed.

    Raises:
        UnsupportedError: There is one.
    """
    for node in cone.passing:
        if row_of(node).magnitude is None:
            raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
