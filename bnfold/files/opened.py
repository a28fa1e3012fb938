"""An opened model: its structure is in memory, its large tensors stay in their files."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Final, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import ModelError, RequestError
from bnfold.files.external import DataFiles
from bnfold.files.foreign import LONGEST, foreign
from bnfold.files.memory import Copier, HeldTensor
from bnfold.files.pieces import Slice
from bnfold.files.references import HELD, HERE, Reference, is_external
from bnfold.files.skeleton import read_skeleton, require_known
from bnfold.files.stores import OPEN_LIMIT, FileStore, open_regular
from bnfold.files.values import SMALL, byte_count, decode, decode_inline, require_rank, widen
from bnfold.files.walk import OWN_DOMAINS, graphs, node_count, tensors, values
from bnfold.frozen import slotted
from bnfold.limits import NODES

_INDICES: Final = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)


@slotted
class OpenedModel:
    """A model whose bulk tensors are still in their files.

    Attributes:
        proto: The skeleton: the whole model, except that large tensors refer to their numbers.
            It is never edited.
        path: The model's file as it was asked for; None for a model from memory.
        file: The model's file.
        data: Its data files; None if there is no folder where they could be.
        held: The bulk tensors of a model in memory.
    """

    proto: onnx.ModelProto
    path: Path | None = None
    file: FileStore | None = None
    data: DataFiles | None = None
    held: list[HeldTensor] = field(default_factory=list)

    def read(self, tensor: onnx.TensorProto) -> NDArray[np.generic]:
        """Return the numbers of a tensor of this model, in its own dtype and shape.

        The array may be read-only; bfloat16 and the other types that numpy lacks are of ml_dtypes.

        Raises:
            ModelError: The numbers are not there or not as many as the shape says.
        """
        if not is_external(tensor):
            return decode_inline(tensor)
        found = self.slice_of(tensor)
        return decode(tensor, found.store.read(found.offset, found.length))

    def read_start(self, tensor: onnx.TensorProto, count: int) -> NDArray[np.generic]:
        """Return the first numbers of a tensor of this model, or all of them, in its own dtype.

        Raises:
            ModelError: The numbers are not there or not as many as the shape says.
        """
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if not is_external(tensor) or dtype.kind != "f":
            return self.read(tensor)
        found = self.slice_of(tensor)
        length = min(found.length, count * dtype.itemsize)
        return np.frombuffer(found.store.read(found.offset, length), dtype)

    def read_wide(self, tensor: onnx.TensorProto) -> NDArray[np.float64]:
        """Return the numbers of a floating-point tensor of this model in float64.

        Raises:
            ModelError: The numbers are not there or not as many as the shape says.
        """
        if not is_external(tensor):
            return decode_inline(tensor).astype(np.float64)
        found = self.slice_of(tensor)
        if len(found) != byte_count(tensor):
            raise ModelError(f"tensor {tensor.name!r}: its bytes disagree with its shape")
        return widen(tensor, found.blocks())

    def slice_of(self, tensor: onnx.TensorProto) -> Slice:
        """Return where the numbers of an external tensor of this model lie.

        Raises:
            ModelError: They are nowhere that may be read.
        """
        reference = Reference.of(tensor)
        if reference.location == HERE and self.file is not None:
            return Slice(self.file, reference.offset, reference.length or 0)
        if reference.location.startswith(HELD):
            store = self.held[int(reference.location.removeprefix(HELD))]
            return Slice(store, reference.offset, reference.length or 0)
        if self.data is None:
            raise ModelError(
                f"the numbers of tensor {tensor.name!r} are in {reference.location!r},"
                " and it is not known in which folder: give the model's path, or load it with its"
                " data, as onnx.load does"
            )
        return self.data.slice_of(tensor, reference)

    def require_unchanged(self) -> None:
        """Raise `ModelError` if a file was written to, or replaced, since it was opened."""
        for store in self.stores:
            store.require_unchanged()
            store.require_in_place()

    @property
    def locations(self) -> Collection[str]:
        """The locations of the data files that the model reads."""
        return () if self.data is None else self.data.by_location.keys()

    @property
    def for_threads(self) -> bool:
        """Whether several threads can read the files: all are open and none has to make room."""
        stores = self.stores
        fit = len(stores) <= OPEN_LIMIT and all(store.is_open for store in stores)
        return fit and hasattr(os, "preadv") and hasattr(os, "pwrite")

    @property
    def stores(self) -> tuple[FileStore, ...]:
        """The open files."""
        own = () if self.file is None else (self.file,)
        return own if self.data is None else (*own, *self.data.stores)

    @property
    def size(self) -> int:
        """How many bytes the model has, with its data files."""
        held = sum(store.size for store in self.held)
        inside = self.proto.ByteSize() if self.file is None else 0
        return inside + held + sum(store.size for store in self.stores)

    def close(self) -> None:
        """Close the files."""
        for store in self.stores:
            store.close()

    def __enter__(self) -> Self:
        """Return itself; leaving the context closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def open_model(path: Path) -> OpenedModel:
    """Open the model at `path`, and check where the numbers of all its tensors are.

    Raises:
        RequestError: There is no such file, or it may not be read.
        ModelError: The file is not a sane model.
    """
    try:
        store = FileStore(path, open_regular(path))
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    opened = OpenedModel(onnx.ModelProto(), path, store, DataFiles(path.parent))
    try:
        with naming(path):
            _require_content(store)
            opened.proto = read_skeleton(store)
            _require_sane(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def from_proto(proto: onnx.ModelProto, folder: Path | None = None) -> OpenedModel:
    """Present a model in memory as an opened one. It is not altered, nor is its bulk copied.

    Its data files, if it has any, are in `folder`.

    Raises:
        ModelError: It is newer than the installed onnx, has no graph, or a tensor is not sane.
    """
    require_known(proto)
    held: list[HeldTensor] = []
    skeleton = Copier(held).copy(proto)
    data = None if folder is None else DataFiles(folder)
    opened = OpenedModel(skeleton, None, None, data, held)
    _require_sane(opened)
    return opened


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Begin the text of every `ModelError` with the model's path."""
    try:
        yield
    except ModelError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ModelError(f"{path}: {error}") from error


def _require_content(store: FileStore) -> None:
    """Raise `ModelError` for an empty file or a Git LFS pointer in the place of a model."""
    if not store.size:
        raise ModelError("the file is empty")
    what = foreign(bytes(store.read(0, min(LONGEST, store.size))))
    if what:
        raise ModelError(what)


def _require_sane(opened: OpenedModel) -> None:
    """Raise `ModelError` if it is not clear what a name means, or where its numbers are."""
    nodes = node_count(opened.proto)
    if nodes > NODES:
        raise ModelError(f"it has {nodes} nodes; bnfold works on up to {NODES}")
    every = [*tensors(opened.proto)]
    for tensor in every:
        require_rank(len(tensor.dims), f"tensor {tensor.name!r}")
    for value in values(opened.proto):
        require_rank(_rank(value.type), f"{value.name!r}")
    _require_opset(opened.proto)
    for graph in graphs(opened.proto):
        _require_distinct(graph)
    references = [(t, Reference.of(t)) for t in every if is_external(t)]
    external = [tensor for tensor, reference in references if not reference.private]
    if opened.file is None and len(references) - len(external) != len(opened.held):
        raise ModelError("a tensor's location contains a NUL character")
    if opened.data is not None:
        opened.data.require_sane(external)
        for tensor in external:
            _bring_in_if_small(opened, tensor)


def _require_opset(model: onnx.ModelProto) -> None:
    """Raise `ModelError` if nobody can tell what the nodes of ONNX's own domain mean.

    Before IR version 3 models did not say; their operators are of version 1.
    """
    named = any(imported.domain in OWN_DOMAINS for imported in model.opset_import)
    if named or 0 < model.ir_version < _FIRST_IR_WITH_OPSETS:
        return
    if any(node.domain in OWN_DOMAINS for node in model.graph.node):
        raise ModelError("it does not say of which version its operators are (opset_import)")


_FIRST_IR_WITH_OPSETS: Final = 3


def _require_distinct(graph: onnx.GraphProto) -> None:
    """Raise `ModelError` for a name that stands for two tensors: nobody can tell which is meant."""
    stored = [tensor.name for tensor in graph.initializer]
    stored += [sparse.values.name for sparse in graph.sparse_initializer]
    inputs = [value.name for value in graph.input]
    for names, what in ((stored, "initializers"), (inputs, "inputs")):
        twice = [name for name, count in Counter(names).items() if name and count > 1]
        if twice:
            raise ModelError(f"two {what} have the name {twice[0]!r}")


def _rank(declared: onnx.TypeProto) -> int:
    """Return how many axes a type's tensors have, whatever holds them."""
    if declared.HasField("tensor_type"):
        return len(declared.tensor_type.shape.dim)
    kind = declared.WhichOneof("value")
    if kind == "sparse_tensor_type":
        return len(declared.sparse_tensor_type.shape.dim)
    if kind in ("sequence_type", "optional_type"):
        return _rank(getattr(declared, kind).elem_type)
    return _rank(declared.map_type.value_type) if kind == "map_type" else 0


def _bring_in_if_small(opened: OpenedModel, tensor: onnx.TensorProto) -> None:
    """Read a small integer tensor from its data file into the skeleton.

    It may be a shape or an axis. Shape inference needs its numbers and reads no data files, where
    some exporters put every tensor.
    """
    if tensor.data_type in _INDICES and byte_count(tensor) <= SMALL:
        numbers = opened.slice_of(tensor)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = bytes(numbers.store.read(numbers.offset, numbers.length))
