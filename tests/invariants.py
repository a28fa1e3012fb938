"""What holds for every fold of every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.inliner
from evaluation import assert_same, graphs

import bnfold
from bnfold.verification.proof.scopes import all_names

if TYPE_CHECKING:
    from collections.abc import Iterable


def as_bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def signature(values: Iterable[onnx.ValueInfoProto]) -> list[tuple[str, bytes]]:
    return [(value.name, value.type.SerializeToString(deterministic=True)) for value in values]


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have to be fed."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def computing(model: onnx.ModelProto) -> int:
    """How many nodes compute: in IR 3 a new weight is a Constant node, which does not.

    What a call runs counts once for every call, so that inlining a function changes nothing.
    """
    whole = onnx.inliner.inline_local_functions(model)
    return sum(node.op_type != "Constant" for graph in graphs(whole) for node in graph.node)


def declared(model: onnx.ModelProto) -> set[str]:
    """The tensors that something is declared of, in any graph or function."""
    return {value.name for graph in graphs(model) for value in graph.value_info}


def spares(model: onnx.ModelProto, folded: onnx.ModelProto) -> list[str]:
    """New names that bear a number although the constant that was called so is gone."""
    before, after = all_names(model), all_names(folded)
    nodes = (node for graph in graphs(model) for node in graph.node)
    made = {name for node in nodes if node.input for name in node.output}
    free = before - made - after
    stems = {name: name.rpartition("_") for name in after - before}
    return [name for name, (stem, _, end) in stems.items() if end.isdigit() and stem in free]


def check_invariants(model: onnx.ModelProto, folding: bnfold.Folding) -> None:
    """Check everything that a fold promises but that the numbers are the same."""
    folded = folding.model
    onnx.checker.check_model(folded, full_check=True)
    assert signature(real_inputs(folded)) == signature(real_inputs(model))
    assert signature(folded.graph.output) == signature(model.graph.output)
    assert folded.ir_version == model.ir_version
    assert list(folded.opset_import) == list(model.opset_import)
    assert computing(folded) <= computing(model)
    assert folding.after.batch_normalizations <= folding.before.batch_normalizations
    assert declared(folded) - all_names(folded) <= declared(model) - all_names(model)
    assert not spares(model, folded)
    if not folding.folds:
        assert as_bytes(folded) == as_bytes(model)
        return  # to fold that again is to do the same again
    again = bnfold.fold(folded)
    assert not again.folds, [record.to_dict() for record in again.folds]
    assert as_bytes(again.model) == as_bytes(folded)


def checked(text: str) -> bnfold.Folding:
    """Fold a model in ONNX's text form; it computes the same, and all invariants hold."""
    model = onnx.parser.parse_model(text)
    folding = bnfold.fold(model)
    assert_same(model, folding.model)
    check_invariants(model, folding)
    return folding


def operators(folding: bnfold.Folding) -> list[str]:
    return [node.op_type for node in folding.model.graph.node]
