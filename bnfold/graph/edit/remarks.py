"""Remarks of a model that an edit makes false: declared shapes, quantization, how to train it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx

from bnfold.graph.edit.messages import remove
from bnfold.graph.index.outline import Container
from bnfold.onnx_model.order import names_read


def retype(container: Container, stored: onnx.TensorProto) -> None:
    """Correct the shape that a graph declares of an initializer: a scalar C becomes [N]."""
    listed = container.input if isinstance(container, onnx.GraphProto) else ()
    for value in (*listed, *container.value_info):
        if isinstance(value, onnx.ValueInfoProto) and value.name == stored.name:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for size in stored.dims:
                shape.dim.add(dim_value=size)


def forget_quantization(
    containers: Sequence[Container], *changed: Mapping[int, set[str]]
) -> Iterator[str]:
    """Remove annotations of the range of tensors that are gone or hold other numbers.

    Args:
        containers: The graphs and functions; they are edited.
        changed: Names of such tensors, by the number of their container.

    Yields:
        A note for each graph that had such annotations.
    """
    wrong: dict[int, set[str]] = defaultdict(set)
    for names in changed:
        for number, some in names.items():
            wrong[number] |= some
    for number, container in enumerate(containers):
        if not isinstance(container, onnx.GraphProto):
            continue
        annotations = container.quantization_annotation
        annotated = sorted(wrong[number].intersection(note.tensor_name for note in annotations))
        if annotated:
            remove(annotations, lambda note: note.tensor_name, annotated)
            listed = ", ".join(annotated)
            yield f"no longer annotated with a quantization, for they changed: {listed}"


def forget_training(model: onnx.ModelProto, changed: set[str]) -> Iterator[str]:
    """Remove how to train a model if that names a changed initializer of the main graph.

    Yields:
        A note, if so.
    """
    named = sorted(changed.intersection(_trained(model)))
    if named:
        del model.training_info[:]
        yield (
            "no longer says how to train it (training_info), for that was told of "
            + ", ".join(named)
        )


def _trained(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the names of the model's tensors that its training information may refer to."""
    for training in model.training_info:
        for bound in (*training.initialization_binding, *training.update_binding):
            yield from (bound.key, bound.value)
        for graph in (training.initialization, training.algorithm):
            for node in graph.node:
                yield from names_read(node)
