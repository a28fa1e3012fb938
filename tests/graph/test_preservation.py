"""What a fold does not name stays as it was, to the byte.

Each feature is something that a model may carry. It is put beside a Conv and a normalization that
fold; the same two, folded without it, say what a fold changes. Everything else must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from invariants import as_bytes
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import bnfold

Feature = Callable[[onnx.ModelProto], None]

_BASE = """
<ir_version: 10, opset_import: ["" : 21]>
base (float[1,2,3,3] x, float[2] side) => (float[1,2,3,3] z, float[2] other)
<float[2,2,1,1] W = {1, 2, 3, 4}, float[2] c = {10, 20},
 float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1}, float[2] v = {1, 4}>
{
  y = Conv (x, W, c)
  z = BatchNormalization <epsilon = 0.0> (y, g, b, e, v)
  other = Relu (side)
}
"""


def _base() -> onnx.ModelProto:
    return onnx.parser.parse_model(_BASE)


def _note(target: onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | TensorProto) -> None:
    target.metadata_props.add(key="made by", value="hand")
    target.doc_string = "words"


def _node(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == op_type)
    return found


def _custom(model: onnx.ModelProto) -> onnx.NodeProto:
    """A node of a domain that nobody knows."""
    model.opset_import.add(domain="com.example", version=3)
    made: onnx.NodeProto = model.graph.node.add(
        op_type="Custom", domain="com.example", input=["side"], output=["made"], name="custom"
    )
    return made


def model_properties(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="made by", value="hand")
    model.doc_string = "words"
    model.producer_name, model.producer_version = "a tool", "1.2"
    model.domain, model.model_version = "com.example", 7


def graph_properties(model: onnx.ModelProto) -> None:
    _note(model.graph)
    model.graph.name = "a graph"


def node_properties(model: onnx.ModelProto) -> None:
    for op_type in ("Conv", "Relu"):
        _note(_node(model, op_type))
        _node(model, op_type).name = f"the {op_type}"


def tensor_properties(model: onnx.ModelProto) -> None:
    for name in ("W", "c"):
        _note(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def value_properties(model: onnx.ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.doc_string = "words"
        value.metadata_props.add(key="layout", value="NCHW")
        value.type.denotation = "IMAGE"
        value.type.tensor_type.shape.dim[1].denotation = "DATA_CHANNEL"


def value_info(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(model.graph.output[1])
    model.graph.value_info.append(helper.make_tensor_value_info("nobody", TensorProto.INT4, [3]))


def symbolic_dimensions(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "batch"


def unused_initializers(model: onnx.ModelProto) -> None:
    for name in ("last", "first", "middle"):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), name))


def strange_tensors(model: onnx.ModelProto) -> None:
    """Element types and encodings that some readers relabel, or do not know."""
    store = model.graph.initializer
    store.add(name="f8", data_type=TensorProto.FLOAT8E4M3FNUZ, dims=[2], raw_data=b"\x01\x80")
    store.add(name="i4", data_type=TensorProto.INT4, dims=[3], raw_data=b"\x21\x03")
    store.add(name="half", data_type=TensorProto.FLOAT16, dims=[2], int32_data=[15360, 31745])
    store.add(name="words", data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff\xfe"])
    store.add(name="nan", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\x01\x00\xa0\x7f")


def overridable_initializers(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "default"))
    value = helper.make_tensor_value_info("default", TensorProto.FLOAT, [2])
    model.graph.input.insert(1, value)


def sparse_initializers(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[5])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.asarray([3])))


def quantization_annotation(model: onnx.ModelProto) -> None:
    note = model.graph.quantization_annotation.add(tensor_name="other")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="somewhere")


def attributes_of_all_types(model: onnx.ModelProto) -> None:
    node = _custom(model)
    typed = node.attribute.add(name="type", type=AttributeProto.TYPE_PROTO, doc_string="words")
    typed.tp.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["n"])))
    sparse = node.attribute.add(name="sparse", type=AttributeProto.SPARSE_TENSOR)
    sparse.sparse_tensor.dims.append(4)
    node.attribute.add(name="bytes", type=AttributeProto.STRING, s=b"\xff\x00\xfe")
    node.attribute.add(name="many", type=AttributeProto.STRINGS, strings=[b"", b"\x80"])
    node.attribute.add(name="empty", type=AttributeProto.INTS)
    node.attribute.add(name="undefined", i=3)


def overload_and_devices(model: onnx.ModelProto) -> None:
    node = _custom(model)
    node.overload = "second"
    node.device_configurations.add(configuration_id="two")
    model.configuration.add(name="two", num_devices=2)


def empty_and_repeated_names(model: onnx.ModelProto) -> None:
    for output in ("p", "q", "r"):
        model.graph.node.add(op_type="Neg", input=["side"], output=[output], name="twin")
    model.graph.node.add(op_type="Abs", input=["p"], output=["s"])


def optional_places(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Clip", input=["side", "", "limit"], output=["clipped"])
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(3, np.float32), "limit"))
    model.graph.node.add(op_type="LSTM", input=["side"] * 3, output=["", "", "state"])


def domains(model: onnx.ModelProto) -> None:
    model.opset_import.insert(0, helper.make_opsetid("com.example", 5))
    model.opset_import.add(domain="ai.onnx.ml", version=3)


def functions(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="f", domain="local", doc_string="words", overload="one")
    function.input.append("a")
    function.output.append("b")
    function.attribute.append("alpha")
    function.attribute_proto.add(name="beta", type=AttributeProto.FLOAT, f=0.5)
    function.node.add(op_type="Neg", input=["a"], output=["b"], name="inside")
    function.opset_import.add(domain="", version=21)
    function.metadata_props.add(key="made by", value="hand")
    function.value_info.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    model.opset_import.add(domain="local", version=1)


def training_info(model: onnx.ModelProto) -> None:
    info = model.training_info.add()
    info.algorithm.name = "step"
    info.update_binding.add(key="untouched", value="changed")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "untouched"))


def subgraphs(model: onnx.ModelProto) -> None:
    body = onnx.GraphProto(name="body", doc_string="words")
    body.node.add(op_type="Abs", input=["side"], output=["inner"], doc_string="words")
    body.output.add(name="inner")
    body.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "unread"))
    node = helper.make_node("If", ["side"], ["chosen"], then_branch=body, else_branch=body)
    model.graph.node.append(node)


def constants(model: onnx.ModelProto) -> None:
    """Constant nodes in every form, read by nobody."""
    forms: dict[str, Any] = {
        "value_float": 0.5,
        "value_floats": [0.5],
        "value_int": 3,
        "value_ints": [3],
        "value_string": "s",
        "value_strings": ["s"],
    }
    for form, value in forms.items():
        model.graph.node.append(helper.make_node("Constant", [], [f"the {form}"], **{form: value}))


FEATURES: Mapping[str, Feature] = {
    feature.__name__: feature
    for feature in (
        model_properties,
        graph_properties,
        node_properties,
        tensor_properties,
        value_properties,
        value_info,
        symbolic_dimensions,
        unused_initializers,
        strange_tensors,
        overridable_initializers,
        sparse_initializers,
        quantization_annotation,
        attributes_of_all_types,
        overload_and_devices,
        empty_and_repeated_names,
        optional_places,
        domains,
        functions,
        training_info,
        subgraphs,
        constants,
    )
}


def _expected(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the Conv and the normalization by hand."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    numbers = {"W": np.asarray([2, 4, 9, 12], np.float32), "c": np.asarray([19, 59], np.float32)}
    for tensor in graph.initializer:
        if tensor.name in numbers:
            tensor.ClearField("float_data")
            tensor.raw_data = numbers[tensor.name].tobytes()
    for name in ("g", "b", "e", "v"):
        graph.initializer.remove(next(t for t in graph.initializer if t.name == name))
    graph.node.remove(_node(folded, "BatchNormalization"))
    _node(folded, "Conv").output[0] = "z"
    return folded


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_preserved(name: str) -> None:
    model = _base()
    FEATURES[name](model)
    folding = bnfold.fold(model)
    assert folding.folds
    assert as_bytes(folding.model) == as_bytes(_expected(model))


@pytest.mark.parametrize("name", FEATURES)
def test_with_nothing_to_fold_a_feature_is_preserved(name: str) -> None:
    model = _base()
    FEATURES[name](model)
    folded = _expected(model)
    folding = bnfold.fold(folded)
    assert not folding.folds
    assert as_bytes(folding.model) == as_bytes(folded)


def test_all_features_together_are_preserved() -> None:
    model = _base()
    for name in FEATURES.keys() - {"overload_and_devices"}:  # it makes a node of one name
        FEATURES[name](model)
    assert as_bytes(bnfold.fold(model).model) == as_bytes(_expected(model))
