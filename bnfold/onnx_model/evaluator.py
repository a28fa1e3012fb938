"""One node, computed by onnx's reference evaluator in the dtypes of its inputs.

The evaluator is a yardstick, not a runtime: it is slow, and wrong or missing for some operators
and opsets. Who needs those right has kernels of its own.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import first_sentence
from bnfold.files.walk import OWN_DOMAINS

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

Array = NDArray[np.generic]

_EVALUATED_AS: Final = {"DequantizeLinear": 19, "QuantizeLinear": 19}
"""The first opset for which the reference evaluator has an operator whose meaning was the same
before."""


class CannotEvaluateError(Exception):
    """The reference evaluator does not compute a node; the text says why."""


def evaluate(
    node: onnx.NodeProto, opsets: Mapping[str, int], inputs: Sequence[Array | None]
) -> list[Array]:
    """Compute a node.

    Args:
        node: Any node without subgraphs.
        opsets: Versions of the operator sets by domain, ONNX's own under the empty string.
        inputs: Its inputs, in order; None for one that is left out.

    Returns:
        Its outputs, in order, without those that have no name. What only repeats numbers is a
        view of them, which takes no room, and which nobody can change.

    Raises:
        CannotEvaluateError: It does not compute it.
    """
    repeated = _repeated(node, inputs)
    if repeated is not None:
        return [repeated]
    present = [i for i, value in enumerate(inputs) if value is not None]
    versions = dict(opsets)
    if node.domain in OWN_DOMAINS and node.op_type in _EVALUATED_AS:
        versions[""] = max(versions.get("", 0), _EVALUATED_AS[node.op_type])
    try:
        evaluator = _evaluator(_anonymous(node, present), tuple(sorted(versions.items())))
        with np.errstate(all="ignore"):
            values = evaluator.run(None, {f"i{i}": inputs[i] for i in present})
    except Exception as error:  # it raises whatever numpy raises
        raise CannotEvaluateError(first_sentence(error)) from error
    if len(values) != sum(map(bool, node.output)) or any(value is None for value in values):
        raise CannotEvaluateError("the reference evaluator does not give all of its outputs")
    return [np.asarray(value) for value in values]


def _repeated(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array | None:
    """Return what a ConstantOfShape, Expand or Unsqueeze makes; None for any other node.

    Some networks write all of their weights so.
    """
    given = [value for value in inputs if value is not None]
    if node.domain not in OWN_DOMAINS or node.op_type not in _REPEATING:
        return None
    stated = [tuple(a.ints) for a in node.attribute if a.name == _AXES]  # before opset 13
    if len(given) + len(stated) != len(_REPEATING[node.op_type]):
        return None
    try:
        if node.op_type == "Unsqueeze":
            return np.expand_dims(given[0], stated[0] if stated else tuple(map(int, given[1])))
        lengths = tuple(map(int, given[-1]))
        if node.op_type == "Expand":
            return np.broadcast_to(given[0], np.broadcast_shapes(given[0].shape, lengths))
        numbers = [onnx.numpy_helper.to_array(attribute.t) for attribute in node.attribute]
        return np.broadcast_to((numbers or [np.zeros(1, np.float32)])[0].reshape(()), lengths)
    except (TypeError, ValueError):  # the evaluator says what is wrong
        return None


_AXES: Final = "axes"
_REPEATING: Final = {
    "ConstantOfShape": ("input",),
    "Expand": ("input", "shape"),
    "Unsqueeze": ("data", _AXES),
}
"""What is given to operators that only repeat numbers."""


def _anonymous(node: onnx.NodeProto, present: Sequence[int]) -> bytes:
    """Return the node with positional tensor names, so that equal nodes share an evaluator."""
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:]
    bare.input.extend(f"i{i}" if i in present else "" for i in range(len(node.input)))
    del bare.output[:]
    bare.output.extend(f"o{i}" if name else "" for i, name in enumerate(node.output))
    bare.name = bare.doc_string = ""
    serialized: bytes = bare.SerializeToString(deterministic=True)
    return serialized


@functools.lru_cache(maxsize=256)
def _evaluator(node_bytes: bytes, opsets: tuple[tuple[str, int], ...]) -> "ReferenceEvaluator":
    from onnx.reference import ReferenceEvaluator

    node = onnx.NodeProto.FromString(node_bytes)
    graph = onnx.GraphProto(name="node", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in node.input if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    model = onnx.ModelProto(ir_version=onnx.IR_VERSION, graph=graph)
    for domain, version in opsets:
        model.opset_import.add(domain=domain, version=version)
    return ReferenceEvaluator(model)
