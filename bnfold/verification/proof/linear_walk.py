"""Write what a cone computes as linear maps of the tensors that enter (`operators.linear_map`)."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.linear_map import Kernel, Map, OtherMapError, Way
from bnfold.verification.operators.linear_rules import SPATIAL, Operands, Region
from bnfold.verification.operators.node import attributes_of
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.cone import Cone

_MATRIX = 2  # axes


def results(cone: Cone, constants: Mapping[str, Array]) -> list[tuple[str, Map]]:
    """Return the linear maps that a cone consists of, between the operators that are not linear.

    Returns:
        For each operator that is not linear its type, and as a linear map what enters it; at the
        end the same for the output, without a type. The maps behind such an operator are maps of a
        new tensor, `cut n`.

    Raises:
        OtherMapError: Its linear operators do not go together.
    """
    return list(_Walk(cone, constants).results())


class _Walk:
    def __init__(self, cone: Cone, constants: Mapping[str, Array]) -> None:
        self._cone, self._axes = cone, _spatial_axes(cone.passing, constants)
        maps = {leaf: self._itself(leaf) for leaf in cone.leaves}
        self._region = Region(maps, constants, self._axes, _matrices(cone.passing, constants))
        self._maps, self._cuts = maps, 0

    def results(self) -> Iterator[tuple[str, Map]]:
        for node in self._cone.passing:
            try:
                self._maps[node.output[0]] = self._of(node)
            except OtherMapError:
                yield from self._cut_before(node)
        yield "", self._maps[self._cone.output]

    def _cut_before(self, node: onnx.NodeProto) -> Iterator[tuple[str, Map]]:
        """End the maps before a node that is no linear map; new ones begin behind that."""
        varying = [name for name in node.input if name in self._maps]
        yield from ((node.op_type, self._maps[name]) for name in varying)
        if row_of(node).weight is not None and len(varying) == 1:
            self._maps[varying[0]] = self._fresh()
            try:
                self._maps[node.output[0]] = self._of(node)
            except OtherMapError:
                self._maps[node.output[0]] = self._fresh()
            return
        self._maps |= {name: self._fresh() for name in node.output if name}

    def _fresh(self) -> Map:
        self._cuts += 1
        return self._itself(f"cut {self._cuts}")

    def _itself(self, name: str) -> Map:
        one = np.ones((1, 1, 1) + (1,) * self._axes)
        way = Way(name, (1,) * self._axes)
        zero = np.zeros(1)
        return Map({way: Kernel(one, one, (0,) * self._axes, alone=True)}, zero, zero)

    def _of(self, node: onnx.NodeProto) -> Map:
        rule = row_of(node).linear_map
        if rule is None or len(node.output) > 1:
            raise OtherMapError(node.op_type)
        return rule(Operands(node, self._region))


def _spatial_axes(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array]) -> int:
    """Return how many spatial axes the linear operators among some nodes have in common.

    Raises:
        OtherMapError: They have different numbers of them, or a weight that varies.
    """
    linear = [node for node in nodes if row_of(node).weight is not None]
    if not all(len(node.input) > 1 and node.input[1] in constants for node in linear):
        raise OtherMapError("a weight varies")
    axes = {
        constants[node.input[1]].ndim - SPATIAL if row_of(node).window else 0 for node in linear
    }
    if len(axes) != 1:
        raise OtherMapError("operators of different ranks")
    return axes.pop()


def _matrices(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array]) -> Collection[str]:
    """Return the tensors that certainly have two axes.

    Some operators, as Gemm, take nothing else. What is computed from matrices by operators with a
    rule for linear maps is a matrix, unless something with more axes is broadcast to it.
    """
    known = {node.input[0] for node in nodes if _demands_matrix(node)}
    keeping = [
        ([name for name in node.input if name and name not in constants], node.output[0])
        for node in nodes
        if row_of(node).linear_map is not None
        and all(constants[name].ndim <= _MATRIX for name in node.input if name in constants)
    ]
    before = -1
    while before < len(known):
        before = len(known)
        for operands, result in keeping:
            if known.issuperset(operands):
                known.add(result)
            elif len(operands) == 1 and result in known:
                known.add(operands[0])
    return known


def _demands_matrix(node: onnx.NodeProto) -> bool:
    demand = row_of(node).demand
    shape = demand(0, (), attributes_of(node), None) if demand else None
    return shape is not None and len(shape) == _MATRIX
