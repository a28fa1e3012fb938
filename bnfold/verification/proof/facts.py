"""What a proof needs to know of a cone before anything is computed."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx

from bnfold.frozen import frozen
from bnfold.verification.dtypes import Array, is_float, unit_roundoff
from bnfold.verification.operators.node import UnsupportedError, attributes_of, opset_of
from bnfold.verification.operators.table import Kind, Row, row_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.identity import says_nothing


def linear_depth(cone: Cone) -> int:
    """Return the largest number of linear operators in series.

    The magnitude grows with every one of them, so a bound over many says little.
    """
    return _most_in_series(cone, [row.is_linear for row in cone.rows])


def roundings_in_series(cone: Cone, changed: Collection[str]) -> int:
    """Return the largest number of changed constants on a path to the output, at least 1.

    Every one of them was rounded, and the errors add up. The weight and the bias of one operator
    count once: each adds its share to a different part of the magnitude. In a product of two
    tensors the errors of both come together.
    """

    def met(node: onnx.NodeProto, row: Row, entering: Sequence[int]) -> int:
        here = sum(entering) if row.multiplies else max(entering)
        return here + any(name in changed for name in node.input)

    return max(1, _in_series(cone, met))


def normalizations_in_series(cone: Cone) -> int:
    """Return the largest number of batch normalizations on a path from a leaf to the output."""
    return _most_in_series(cone, [row.normalizes for row in cone.rows])


def sums_in_series(cone: Cone) -> int:
    """Return the largest number of sums of several branches on a path from a leaf to the output."""

    def met(_: onnx.NodeProto, row: Row, entering: Sequence[int]) -> int:
        return max(entering) + (row.adds and len(entering) > 1)

    return _in_series(cone, met)


def _most_in_series(cone: Cone, counted: Sequence[bool]) -> int:
    """Return the largest number of those nodes of `passing` that count, on a path from a leaf."""
    if sum(counted) <= 1:
        return sum(counted)
    by_node = dict(zip(map(id, cone.passing), counted, strict=True))
    return _in_series(cone, lambda node, _, entering: max(entering) + by_node[id(node)])


def _in_series(cone: Cone, count: Callable[[onnx.NodeProto, Row, Sequence[int]], int]) -> int:
    """Return the largest count of any tensor; `count` makes a node's of those of its inputs.

    Leaves count 0, and constants are not passed to `count`.
    """
    depth: dict[str, int] = dict.fromkeys(cone.leaves, 0)
    deepest = 0
    for node, row in zip(cone.passing, cone.rows, strict=True):
        entering = [depth[name] for name in node.input if name in depth]
        if entering:
            counted = count(node, row, entering)
            depth |= dict.fromkeys(node.output, counted)
            deepest = max(deepest, counted)
    return deepest


def brings_numbers_in(cone: Cone) -> bool:
    """Tell whether an operator adds constants as elements of their own, as a Pad does its value."""
    return any(row.brings_in for row in cone.rows)


def parameters(cone: Cone) -> dict[str, str]:
    """Return the constants that are parameters of operators that are not linear, with the operator.

    Such are the bounds of a Clip, the slopes of a PRelu and the value of a Pad. A constant that is
    also read as anything else is left out.
    """
    found: dict[str, str] = {}
    elsewhere: set[str] = set()
    if not any(row.parameters for row in cone.rows):
        return found
    for node, row in zip(cone.passing, cone.rows, strict=True):
        for index, name in enumerate(node.input):
            if name and cone.scope.is_constant(name):
                if index in row.parameters:
                    found[name] = node.op_type
                else:
                    elsewhere.add(name)
    return {name: op_type for name, op_type in found.items() if name not in elsewhere}


def kept(cone: Cone, constants: Mapping[str, Array]) -> dict[str, "Counter[tuple[object, ...]]"]:
    """Count what operators state that no fold around them changes, by operator and what it is.

    See `Row.kept`. A slope counts by its numbers, however many axes it has.
    """
    found: dict[str, Counter[tuple[object, ...]]] = {}
    for node, row in zip(cone.passing, cone.rows, strict=True):
        for which in row.kept:
            said = _kept(node, which, cone, constants)
            called = "slope" if isinstance(which, int) else which
            found.setdefault(node.op_type, Counter())[called, said] += 1
    return found


def _kept(
    node: onnx.NodeProto, which: str | int, cone: Cone, constants: Mapping[str, Array]
) -> object:
    """Return what a node states; None where it states nothing, or the default."""
    if isinstance(which, int):
        array = constants.get(node.input[which]) if which < len(node.input) else None
        return None if array is None else tuple(array.reshape(-1).tolist())
    opset = opset_of(node, cone.scope.opsets)
    stated = (a for a in node.attribute if a.name == which)
    telling = (a for a in stated if not says_nothing(a, node.op_type, node.domain, opset))
    return next((onnx.helper.get_attribute_value(a) for a in telling), None)


def integer_inputs(cone: Cone) -> dict[str, np.dtype[np.generic]]:
    """Return the dtypes of the leaves of an original that are integers or booleans."""
    types = ((leaf, cone.scope.types.get(leaf, 0)) for leaf in cone.leaves)
    return {n: onnx.helper.tensor_dtype_to_np_dtype(t) for n, t in types if t in _WHOLE}


def table_rows(cone: Cone, constants: Mapping[str, Array]) -> dict[str, int]:
    """Return the leaves that choose rows of constant tables, with the length of the shortest one.

    Such is what an embedding looks words up in.
    """
    chosen_by = {leaf: leaf for leaf in cone.leaves}
    rows: dict[str, int] = {}
    for node, row in zip(cone.passing, cone.rows, strict=True):
        moved = row.kind is Kind.MOVEMENT or row.casts
        indexes = row.indexes
        if indexes and not indexes.several and node.input[indexes.within] in constants:
            leaf = chosen_by.get(node.input[indexes.places])
            axis = attributes_of(node).get(indexes.axis, 0)
            table = constants[node.input[indexes.within]]
            if leaf is not None and table.ndim:
                rows[leaf] = min(rows.get(leaf, table.shape[axis]), table.shape[axis])
        elif moved and node.input[0] in chosen_by:
            chosen_by |= dict.fromkeys(node.output, chosen_by[node.input[0]])
    return rows


def scales(cone: Cone, constants: Mapping[str, Array]) -> "Counter[tuple[float, ...]]":
    """Count the constant factors by which lengths are multiplied, as in a Resize.

    Of short lengths 2 and 2.001 make the same.
    """
    opset = cone.scope.opsets.get("", 0)
    scaling = (n for n, row in zip(cone.passing, cone.rows, strict=True) if row.scales is not None)
    return Counter(found for node in scaling for found in scales_of(node, opset, constants))


def scales_of(
    node: onnx.NodeProto, opset: int, constants: Mapping[str, Array]
) -> Iterator[tuple[float, ...]]:
    """Yield the constant factors by which a node multiplies the lengths of axes, if it does."""
    scales_input = row_of(node).scales
    if scales_input is None:
        return
    place = scales_input(opset)
    stated = [constants[name] for name in node.input[place : place + 1] if name in constants]
    stated += [np.array(a.floats) for a in node.attribute if a.name == "scales"]
    yield from (tuple(map(float, array)) for array in stated if array.size)


_WHOLE = frozenset(
    number
    for name, number in onnx.TensorProto.DataType.items()
    if name == "BOOL" or name.removeprefix("U") in {"INT8", "INT16", "INT32", "INT64"}
)


def casts(cone: Cone) -> "Counter[Cast]":
    """Count the Cast and CastLike nodes of what is not constant, by what they do.

    A probe computes in float64, where a Cast between floating-point types rounds nothing. So Casts
    are compared by what they say.
    """
    nodes = zip(cone.passing, cone.rows, strict=True)
    return Counter(_cast(node) for node, row in nodes if row.casts)


def roundoff_of_shapes(cone: Cone) -> float:
    """Return the coarsest unit roundoff to which a cone casts what it computes from shapes.

    Such numbers are constants where the shapes are fixed, and are rounded as these are.
    """
    nodes = (cone.scope.nodes[index] for index in cone.of_shapes)
    made = (_cast(node, cone.scope.types) for node in nodes if row_of(node).casts)
    return max((cast.roundoff for cast in made), default=0.0)


@frozen
class Cast:
    """What a Cast or CastLike does.

    Attributes:
        target: The `onnx.TensorProto.DataType` that it casts to; 0 for CastLike.
        how: The attributes besides that differ from their defaults and have an effect.
    """

    target: int
    how: tuple[tuple[str, object], ...] = ()

    def __eq__(self, other: object) -> bool:
        """Tell whether another Cast has the same target and attributes."""
        same = isinstance(other, Cast) and (self.target, self.how) == (other.target, other.how)
        return bool(same)

    def __hash__(self) -> int:
        """Return a hash of the target and the attributes."""
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
"""Float8 types, for which a Cast's attribute `saturate` decides what overflow becomes."""
_USUAL = {"saturate": 1, "round_mode": b"up"}


def _cast(node: onnx.NodeProto, types: Mapping[str, int] | None = None) -> Cast:
    """Return what a node does; of a CastLike more where the type that it casts to is known."""
    said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    target = int(said.pop("to", 0) or (types or {}).get(node.input[-1], 0))
    how = {name: said.get(name, usual) for name, usual in _USUAL.items()}
    unusual = tuple(sorted((n, v) for n, v in how.items() if v != _USUAL[n]))
    return Cast(target, unusual if target in _SATURATING or not target else ())


def is_straight(cone: Cone) -> bool:
    """Tell whether a cone computes an affine function.

    Two affine functions that agree on all inputs without negative elements agree everywhere, so
    they need no second probe of such inputs.
    """
    return _consists_of(cone, lambda row: row.is_linear or row.is_affine)


def is_alike_for_all_shapes(cone: Cone) -> bool:
    """Tell whether a cone computes the same for all shapes of its leaves, and for each sample."""
    if not _consists_of(cone, lambda row: row.is_linear or row.is_elementwise):
        return False
    attributes = (attribute for node in cone.passing for attribute in node.attribute)
    return not any(a.name == "output_shape" or a.s.startswith(b"SAME") for a in attributes)


def keeps_samples_apart(cone: Cone) -> bool:
    """Tell whether a cone certainly computes each sample of a batch by itself."""
    return _consists_of(cone, lambda row: row.window is not None or row.is_elementwise)


def treats_samples_alike(cone: Cone, constants: Mapping[str, Array], rank: int) -> bool:
    """Tell whether a cone does the same with each sample of tensors of so many axes.

    It does not where a constant holds other numbers for each, or where it multiplies two tensors
    that vary.
    """
    if not (keeps_samples_apart(cone) or is_alike_for_all_shapes(cone)):
        return False
    for node, row in zip(cone.passing, cone.rows, strict=True):
        stored = [constants[name].shape for name in node.input if name in constants]
        if row.is_linear and len(stored) < sum(map(bool, node.input)) - 1:
            return False
        if not row.is_linear and any(
            len(shape) >= rank and max(shape[: len(shape) - rank + 1]) > 1 for shape in stored
        ):
            return False
    return True


def _consists_of(cone: Cone, belongs: Callable[[Row], bool]) -> bool:
    return len(cone.passed) == len(cone.nodes) and all(map(belongs, cone.rows))


def several_compete(cone: Cone) -> bool:
    """Tell whether the largest or the least of several tensors that vary is chosen somewhere."""
    varying = (
        sum(bool(name) and not cone.scope.is_constant(name) for name in node.input)
        for node in cone.passing if node.op_type in {"Max", "Min"}
    )  # fmt: skip
    return any(count > 1 for count in varying)


def scale_matters(cone: Cone) -> bool:
    """Tell whether an operator is flat for large numbers, or for small ones."""
    return any(row.scale_matters for row in cone.rows)


def is_only_measured(cone: Cone, leaf: str) -> bool:
    """Tell whether a cone asks for nothing of a leaf but its shape."""
    nodes, scope = {*cone.nodes}, cone.scope
    readers = (node for node, _ in scope.readers.get(leaf, ()) if scope.places[id(node)] in nodes)
    return all(row_of(node).sees_shape_only for node in readers)


def check_provable(cone: Cone, *, multiplied: bool = False) -> None:
    """Check, before anything is computed, that every operator of a cone has a magnitude.

    Raises:
        UnsupportedError: The table of operators has none for one of them, the model has a function
            of its own in its place; or no factor passes it, and what enters is `multiplied`, or not
            all that is around it is elementwise: where it is flat it hides a wrong weight.
    """
    own = {f.name for f in cone.scope.model.proto.functions if f.domain in {"", "ai.onnx"}}
    for node, row in zip(cone.passing, cone.rows, strict=True):
        if node.op_type in own:
            raise UnsupportedError(f"{node.op_type} is a function of the model")
        if row.magnitude is None:
            raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
        if row.scale_matters and (multiplied or not all(each.is_elementwise for each in cone.rows)):
            raise UnsupportedError(f"{node.op_type} is not an operator that a fold passes")
