"""Skeletons: small, and the whole model once the numbers are back."""

import onnx
import pytest
from handmade import everywhere, model, models, numbers, same, tensor
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import ModelError
from bnfold.files import from_proto, materialize, open_model
from bnfold.files.recipe import PRIVATE
from bnfold.files.references import HERE, Reference, is_external
from bnfold.files.skeleton import BULKY, read_skeleton
from bnfold.files.stores import MemoryStore
from bnfold.files.walk import tensors
from bnfold.files.wire import key


def skeleton_of(data: bytes) -> onnx.ModelProto:
    return read_skeleton(MemoryStore(data))


def test_bulk_is_cut_out_wherever_a_tensor_may_stand() -> None:
    made = everywhere()
    skeleton = skeleton_of(made.SerializeToString())
    pairs = list(zip(tensors(made), tensors(skeleton), strict=True))
    assert len(pairs) == 18
    data = made.SerializeToString()
    for original, cut in pairs:
        assert is_external(cut)
        assert (cut.name, cut.dims, cut.data_type) == (
            original.name,
            original.dims,
            original.data_type,
        )
        reference = Reference.of(cut)
        assert reference.location == HERE
        assert reference.length is not None
        end = reference.offset + reference.length
        assert data[reference.offset : end] == original.raw_data
    assert len(skeleton.SerializeToString()) < len(data) // 50


@pytest.mark.parametrize("field", ["raw_data", "float_data", "double_data"])
def test_every_field_that_holds_the_bytes_as_they_are_is_cut(field: str) -> None:
    values = numbers(BULKY)
    made = TensorProto(name="w", dims=[BULKY], data_type=TensorProto.FLOAT)
    if field == "raw_data":
        made.raw_data = values.tobytes()
    else:
        getattr(made, field).extend(values)
    if field == "double_data":
        made.data_type = TensorProto.DOUBLE
    skeleton = skeleton_of(model([made]).SerializeToString())
    assert is_external(skeleton.graph.initializer[0])


def test_small_tensors_stay_in_sight_of_shape_inference() -> None:
    shape = numpy_helper.from_array(numbers(BULKY // 4 - 1), "just_below")
    bulk = numpy_helper.from_array(numbers(BULKY // 4), "just_not")
    skeleton = skeleton_of(model([shape, bulk]).SerializeToString())
    assert [is_external(t) for t in skeleton.graph.initializer] == [False, True]


@given(made=models())
def test_a_skeleton_with_its_numbers_back_is_the_model(
    made: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "m.onnx"
    path.write_bytes(made.SerializeToString())
    with open_model(path) as opened:
        assert all(t.ByteSize() < BULKY + 100 for t in tensors(opened.proto))
        assert same(materialize(opened, opened.proto, {}), made)


def contradictory() -> TensorProto:
    twice = tensor("w")
    twice.float_data.extend(numbers(2 * BULKY))
    return twice


@pytest.mark.parametrize(
    "odd",
    [
        tensor("w").SerializeToString() + key(9, 8) + bytes(8),
        contradictory().SerializeToString(),
        tensor("w").SerializeToString()
        + TensorProto(
            data_location=TensorProto.EXTERNAL, external_data=[{"key": "a"}]
        ).SerializeToString(),
    ],
    ids=["raw data twice", "in two fields", "also external"],
)
def test_odd_encodings_are_left_to_protobuf(odd: bytes) -> None:
    data = model().SerializeToString() + key(7, len(key(5, len(odd)) + odd))
    data += key(5, len(odd)) + odd
    assert same(skeleton_of(data), onnx.ModelProto.FromString(data))


@pytest.mark.parametrize("dims", [[BULKY], [2 * BULKY, 2], [-2 * BULKY], [2**62, 2**62], []])
def test_a_shape_that_disagrees_with_the_bytes_is_refused(dims: list[int]) -> None:
    wrong = tensor("w")
    wrong.ClearField("dims")
    wrong.dims.extend(dims)
    with pytest.raises(ModelError, match="tensor 'w'"):
        skeleton_of(model([wrong]).SerializeToString())


@pytest.mark.parametrize("data_type", [TensorProto.UNDEFINED, TensorProto.STRING, 99])
def test_bytes_of_no_known_type_are_refused(data_type: int) -> None:
    wrong = tensor("w")
    wrong.data_type = data_type
    with pytest.raises(ModelError, match="tensor 'w' has bytes of element type"):
        skeleton_of(model([wrong]).SerializeToString())


@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_nobody_can_forge_a_reference(place: str) -> None:
    forged = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT)
    Reference(HERE, 0, 4).put(forged)
    node = helper.make_node("Constant", [], ["c"], value=forged)
    made = model([forged]) if place == "initializer" else model([tensor("real")], [node])
    with pytest.raises(ModelError, match="NUL"):
        skeleton_of(made.SerializeToString())
    assert PRIVATE.startswith("\0")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no graph"),
        (b"not a model at all", "not an ONNX model"),
        (b"<!DOCTYPE html><html>", "not an ONNX model"),
        (model().SerializeToString()[:-1], "not an ONNX model"),
        (onnx.ModelProto(ir_version=9).SerializeToString(), "no graph"),
        (model().SerializeToString().replace(b"identity", b"\xff\xfe\xfd\xfc1234"), "not UTF-8"),
        (bytes(50_000_000), "the byte at 0 begins no field"),
    ],
    ids=["empty", "text", "page", "truncated", "no graph", "not UTF-8", "zeros"],
)
def test_what_is_no_model_is_refused_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        skeleton_of(data)
    assert "\n" not in str(caught.value)


def test_models_newer_than_the_installed_onnx_are_refused() -> None:
    newer = model()
    newer.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(ModelError, match="a newer onnx may read it"):
        skeleton_of(newer.SerializeToString())
    newer = model()
    newer.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.raises(ModelError, match="opset"):
        skeleton_of(newer.SerializeToString())
    with pytest.raises(ModelError, match="opset"):
        from_proto(newer)
    newer.opset_import[0].domain = "some.vendor"
    skeleton_of(newer.SerializeToString())
