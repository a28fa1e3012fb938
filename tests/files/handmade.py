"""Models made to measure: small, with bulk in every place where ONNX lets numbers stand."""

from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from bnfold.files.skeleton import BULKY

OPSET = 17


def numbers(count: int, seed: int = 0, dtype: type = np.float32) -> NDArray[np.generic]:
    """Random numbers; the same for the same arguments."""
    return np.random.default_rng(seed).standard_normal(count).astype(dtype)


def tensor(name: str, count: int = 2 * BULKY, seed: int = 0) -> TensorProto:
    """A float32 vector, by default of eight times the size from which numbers are cut out."""
    return numpy_helper.from_array(numbers(count, seed), name)


def model(
    initializers: Iterable[TensorProto] = (), nodes: Iterable[onnx.NodeProto] = ()
) -> onnx.ModelProto:
    """A model around some tensors. It need not compute anything."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    nodes = [*nodes, helper.make_node("Identity", ["x"], ["y"], name="identity")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def everywhere() -> onnx.ModelProto:
    """A model with a bulk tensor in each place that there is."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor("in_node", seed=1))
    inner = helper.make_graph([constant], "inner", [], [], [tensor("in_subgraph", seed=2)])
    branch = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    many = onnx.NodeProto(op_type="Many", domain="custom")
    many.attribute.append(
        AttributeProto(
            name="tensors", type=AttributeProto.TENSORS, tensors=[tensor("a", seed=3), tensor("b")]
        )
    )
    many.attribute.append(AttributeProto(name="graphs", type=AttributeProto.GRAPHS, graphs=[inner]))
    made = model([tensor("w", seed=4)], [constant, branch, many])
    sparse = onnx.SparseTensorProto(dims=[1 << 20])
    sparse.values.CopyFrom(tensor("values", seed=5))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(2 * BULKY), "indices"))
    made.graph.sparse_initializer.append(sparse)
    constant.attribute.append(
        AttributeProto(name="s", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    )
    made.functions.append(
        helper.make_function("local", "F", [], ["c"], [constant], [helper.make_opsetid("", OPSET)])
    )
    made.functions[0].attribute_proto.append(
        AttributeProto(name="d", type=AttributeProto.TENSOR, t=tensor("default", seed=6))
    )
    made.training_info.add().algorithm.CopyFrom(inner)
    return made


def save_external(made: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Write a model with one data file, as onnx does it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / location).unlink(missing_ok=True)
    onnx.save(  # noqa: TID251 - what others write is what is to be read
        copy, path, save_as_external_data=True, location=location, convert_attribute=True
    )
    return path


def refer(name: str, dims: Iterable[int], location: str, **entries: object) -> TensorProto:
    """A float32 tensor that says that its numbers are elsewhere."""
    made = TensorProto(
        name=name, dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    made.external_data.add(key="location", value=location)
    for key, value in entries.items():
        made.external_data.add(key=key, value=str(value))
    return made


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    """Whether two models are equal in everything, unknown fields included."""
    first, second = (m.SerializeToString(deterministic=True) for m in (one, other))
    return bool(first == second)


FLOATS = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)

_counts = st.sampled_from([0, 1, BULKY // 4 - 1, BULKY // 4, BULKY // 4 + 1, BULKY])


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    """Tensors of sizes around the limit, in all encodings that writers use."""
    values = numbers(draw(_counts), draw(st.integers(0, 3)))
    made = numpy_helper.from_array(values, draw(st.text(max_size=3)))
    encoding = draw(st.sampled_from(["raw", "explicit", "float", "double", "unknown"]))
    if encoding == "explicit":
        made.data_location = TensorProto.DEFAULT
    if encoding in ("float", "double"):
        made.ClearField("raw_data")
        double = encoding == "double"
        made.data_type = TensorProto.DOUBLE if double else TensorProto.FLOAT
        (made.double_data if double else made.float_data).extend(values)
    if encoding == "unknown":
        made.MergeFromString(b"\xfa\x7f\x03abc")  # field 2047
    made.doc_string = draw(st.sampled_from(["", "documented"]))
    return made


def stored(count: int) -> st.SearchStrategy[list[TensorProto]]:
    """Up to so many tensors, each of a name of its own."""
    return st.lists(tensors(), max_size=count, unique_by=lambda tensor: tensor.name)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Models with tensors in several places, unknown fields too."""
    constants = [
        helper.make_node("Constant", [], [f"c{i}"], value=t)
        for i, t in enumerate(draw(st.lists(tensors(), max_size=2)))
    ]
    inner = helper.make_graph(constants, "inner", [], [], draw(stored(2)))
    nodes = [helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)]
    made = model(draw(stored(4)), draw(st.sampled_from([[], nodes])))
    if draw(st.booleans()):
        made.graph.MergeFromString(b"\xf8\x7f\x01")  # field 2047 again, a number
    made.metadata_props.add(key="key", value=draw(st.text(max_size=5)))
    return made
