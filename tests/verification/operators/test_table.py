"""The verifier knows operators by its table: elsewhere in the proof few of them have a name."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx

from bnfold.verification import proof

_NAMED = {
    "Constant": "what holds a constant",
    "Identity": "what gives back what it is given",
    "Transpose": "whose permutation is followed",
    "If": "what is told by that name",
    "Dropout": "which draws numbers in training mode only",
    "Max": "where several compete",
    "Min": "where several compete",
    "RoiAlign": "older words for the same",
    "GridSample": "older words for the same",
    "TopK": "older words for the same",
    "Add": "what a recurrent cell is taken apart into",
    "MatMul": "what a recurrent cell is taken apart into",
    "Reshape": "what a recurrent cell is taken apart into",
}


def test_few_operators_are_named_beside_the_table() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    sources = Path(next(iter(proof.__path__))).glob("*.py")
    nodes = (node for source in sources for node in ast.walk(ast.parse(source.read_text("utf-8"))))
    named = {node.value for node in nodes if isinstance(node, ast.Constant)} & known
    assert named == _NAMED.keys()
