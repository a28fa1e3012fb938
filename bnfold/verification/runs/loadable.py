"""A model in the form in which ONNX Runtime gets it where it cannot get the file itself.

It is serialized without its bulk: large initializers refer to the bytes in the model's own file, as
external data do. Nothing is written, and the numbers are read once, by ONNX Runtime.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from bnfold.files.opened import OpenedModel, open_model
from bnfold.files.references import Reference, is_external
from bnfold.files.stores import FileStore
from bnfold.files.walk import tensors
from bnfold.paths import real_path
from bnfold.verification.runs.sessions import Target


def runnable(path: Path) -> Target:
    """Return the model, without what takes ONNX Runtime down; nearly always that is the file.

    A batch normalization whose unused outputs are empty names is a segmentation fault where it is
    not fused away. Empty names at the end mean what no names mean, so they are left out.
    """
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return with_outputs(path, ()) if _is_ragged(path, state) else Target(path)


def with_outputs(path: Path, names: Sequence[str], nodes: Sequence[onnx.NodeProto] = ()) -> Target:
    """Return the model with tensors inside it as further outputs, or what more `nodes` make."""
    with open_model(path) as model:
        proto = onnx.ModelProto()
        proto.CopyFrom(model.proto)
        folder = _refer_to_files(model, proto)
    for node in _normalizations(proto):
        while node.output and not node.output[-1]:
            node.output.pop()
    proto.graph.node.extend(nodes)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return Target(proto.SerializeToString(), folder)


def as_target(model: OpenedModel, proto: onnx.ModelProto) -> Target:
    """Return an edited copy of an opened model's record as what ONNX Runtime loads."""
    folder = _refer_to_files(model, proto)
    return Target(proto.SerializeToString(), folder)


@functools.lru_cache(maxsize=8)
def _is_ragged(path: Path, _: tuple[int, ...]) -> bool:
    """Tell whether unused outputs have empty names; the file's state is part of the cache's key."""
    with open_model(path) as model:
        return any(n.output and not n.output[-1] for n in _normalizations(model.proto))


def _refer_to_files(model: OpenedModel, proto: onnx.ModelProto) -> Path:
    """Let all large initializers refer to files in or below a folder, which is returned.

    The files are called by their real names: ONNX Runtime refuses links that lead elsewhere, as
    they do in a Hugging Face cache. Other tensors are brought in.
    """
    external = [tensor for tensor in proto.graph.initializer if is_external(tensor)]
    slices = [model.slice_of(tensor) for tensor in external]
    stores = [numbers.store for numbers in slices if isinstance(numbers.store, FileStore)]
    files = [real_path(store.path) for store in stores]
    folder = os.path.commonpath([file.parent for file in files]) if files else "."
    for tensor, numbers, file in zip(external, slices, files, strict=True):
        location = os.path.relpath(file, folder)
        Reference(location, numbers.offset, numbers.length).put(tensor)
    rest = {id(tensor) for tensor in external}
    for tensor in tensors(proto):
        if is_external(tensor) and id(tensor) not in rest:  # `external` keeps those alive
            numbers = model.slice_of(tensor)
            content = numbers.store.read(numbers.offset, numbers.length)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = bytes(content)
    return Path(folder)


def _normalizations(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while pending:
        node = pending.pop()
        if node.op_type == "BatchNormalization":
            yield node
        pending += [inner for a in node.attribute for inner in a.g.node]
