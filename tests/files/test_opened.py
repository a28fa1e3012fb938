"""Opened models: the same numbers wherever they lie, and the source as it was."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from handmade import everywhere, model, models, numbers, refer, same, save_external, tensor
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import ModelError, RequestError
from bnfold.files import from_proto, materialize, open_model
from bnfold.files.stores import OPEN_LIMIT
from bnfold.files.walk import tensors

READABLE = [
    number
    for name, number in TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING") and not name.startswith(("COMPLEX", "BOOL"))
]


def descriptors() -> int:
    """How many files this process has open, 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.mark.parametrize("data_type", READABLE, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("count", [9, 20_000])
def test_numbers_of_every_type_are_read(tmp_path: Path, data_type: int, count: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    values = np.abs(numbers(count).clip(-1, 1)).astype(dtype).reshape(-1, 1)
    made = model([numpy_helper.from_array(values, "w")])
    inline, external = tmp_path / "inline.onnx", tmp_path / "external.onnx"
    inline.write_bytes(made.SerializeToString())
    save_external(made, external)
    for path in (inline, external):
        with open_model(path) as opened:
            read = opened.read(opened.proto.graph.initializer[0])
            assert read.dtype == values.dtype
            assert read.tobytes() == values.tobytes()
            assert read.shape == values.shape
    opened = from_proto(made)
    assert opened.read(opened.proto.graph.initializer[0]).tobytes() == values.tobytes()


def test_a_string_tensor_is_read() -> None:
    opened = from_proto(
        model([TensorProto(dims=[1], data_type=TensorProto.STRING, string_data=[b"text"])])
    )
    assert opened.read(opened.proto.graph.initializer[0]).tolist() == ["text"]


@pytest.mark.parametrize(
    "wrong",
    [
        TensorProto(name="w", dims=[3], data_type=1, raw_data=bytes(8)),
        TensorProto(name="w", dims=[-2], data_type=1, raw_data=bytes(8)),
        TensorProto(name="w", dims=[-1], data_type=1, float_data=[1, 2]),
        TensorProto(name="w", dims=[3], data_type=1, float_data=[1, 2]),
        TensorProto(name="w", dims=[2**62, 2**62, 4], data_type=1, float_data=[1, 2]),
        TensorProto(name="w", dims=[2**40], data_type=1),
        TensorProto(name="w", dims=[2], data_type=77, int32_data=[1, 2]),
        TensorProto(name="w", dims=[2], int32_data=[1, 2]),
        TensorProto(name="w", dims=[1], data_type=TensorProto.INT4, raw_data=b"12"),
    ],
    ids=lambda t: f"{list(t.dims)} {t.data_type}",
)
def test_a_small_tensor_that_is_wrong_is_refused_when_read(wrong: TensorProto) -> None:
    opened = from_proto(model([wrong]))
    with pytest.raises(ModelError, match="tensor 'w'"):
        opened.read(opened.proto.graph.initializer[0])


@given(models())
def test_a_model_in_memory_is_neither_altered_nor_changed_by_the_way_there_and_back(
    made: onnx.ModelProto,
) -> None:
    before = made.SerializeToString(deterministic=True)
    opened = from_proto(made)
    assert same(materialize(opened, opened.proto, {}), made)
    assert made.SerializeToString(deterministic=True) == before


def test_bulk_is_held_wherever_a_tensor_may_stand() -> None:
    made = everywhere()
    opened = from_proto(made)
    assert len(opened.held) == 18
    assert same(materialize(opened, opened.proto, {}), made)
    for kept, held in zip(tensors(made), tensors(opened.proto), strict=True):
        assert np.array_equal(opened.read(held), numpy_helper.to_array(kept))


def test_a_model_in_memory_keeps_external_tensors_whose_folder_it_does_not_know(
    tmp_path: Path,
) -> None:
    path = save_external(model([tensor("w")]), tmp_path / "m.onnx")
    made = onnx.ModelProto.FromString(path.read_bytes())
    opened = from_proto(made)
    assert same(materialize(opened, opened.proto, {}), made)
    with pytest.raises(ModelError, match="it is not known in which folder"):
        opened.read(opened.proto.graph.initializer[0])
    opened = from_proto(made, tmp_path)
    assert np.array_equal(opened.read(opened.proto.graph.initializer[0]), numbers(8192))


def test_to_open_a_model_does_not_read_its_bulk(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model([tensor("w", 4 << 20)]).SerializeToString())
    with open_model(path) as opened:  # what is imported lazily is imported now
        assert opened.proto.graph.initializer[0].dims == [4 << 20]
    tracemalloc.start()
    with open_model(path):
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_small_index_tensors_come_in_from_a_data_file(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "shape")
    made = model([tensor("w"), shape])
    onnx.save(  # noqa: TID251
        made,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    with open_model(tmp_path / "m.onnx") as opened:
        weight, index = opened.proto.graph.initializer
        assert weight.data_location == TensorProto.EXTERNAL
        assert index.raw_data == np.array([1, -1], np.int64).tobytes()


def test_a_model_of_thousands_of_data_files_needs_few_descriptors(tmp_path: Path) -> None:
    count = 5 * OPEN_LIMIT
    for i in range(count):
        numbers(2, i).tofile(tmp_path / f"d{i}")
    path = tmp_path / "m.onnx"
    path.write_bytes(
        model([refer(f"w{i}", [2], f"d{i}") for i in range(count)]).SerializeToString()
    )
    before = descriptors()
    with open_model(path) as opened:
        assert descriptors() <= before + OPEN_LIMIT + 1
        for i, one in enumerate(opened.proto.graph.initializer):
            assert np.array_equal(opened.read(one), numbers(2, i))
        numbers(3).tofile(tmp_path / "d0")
        with pytest.raises(ModelError, match="d0: the file changed"):
            opened.read(opened.proto.graph.initializer[0])
    assert descriptors() == before


def test_what_is_not_a_readable_file_is_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none.onnx: No such file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(RequestError, match="Is a directory"):
        open_model(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="Not a regular file"):
        open_model(tmp_path / "pipe")
    with pytest.raises(RequestError, match="Not a regular file"):
        open_model(Path("/dev/zero"))
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(RequestError, match="symbolic links"):
        open_model(tmp_path / "a")


def test_what_stands_in_for_a_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    with pytest.raises(ModelError, match="the file is empty"):
        open_model(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="Git LFS pointer"):
        open_model(path)


def test_an_error_names_the_model_and_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model([refer("w", [1], "../w.bin")]).SerializeToString())
    before = descriptors()
    with pytest.raises(ModelError, match=rf"^{path}: data file '../w.bin'"):
        open_model(path)
    assert descriptors() == before


def ranked(place: str, rank: int) -> onnx.ModelProto:
    """A model in which something has so many axes, each as long as can be."""
    dims = [2**62] * rank
    made = model([tensor("w")])
    declared = helper.make_tensor_type_proto(TensorProto.FLOAT, dims)
    if place == "bulk":
        made.graph.initializer[0].dims[:] = dims
    if place == "external":
        made.graph.initializer.append(refer("v", dims, "w.bin"))
    if place == "small":
        made.graph.initializer.append(TensorProto(name="s", data_type=1, dims=dims))
    if place == "input":
        made.graph.input.add(name="x", type=declared)
    if place == "sequence":
        of_optionals = helper.make_optional_type_proto(declared)
        made.graph.output.add(name="x", type=helper.make_sequence_type_proto(of_optionals))
    if place == "sparse":
        sparse = helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, dims)
        made.graph.value_info.add(name="x", type=sparse)
    if place == "branch":
        inner = helper.make_graph([], "g", [], [onnx.ValueInfoProto(name="x", type=declared)])
        made.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner))
    if place == "function":
        made.functions.add(name="f").value_info.add(name="x", type=declared)
    return made


@pytest.mark.parametrize(
    "place", ["bulk", "external", "small", "input", "sequence", "sparse", "branch", "function"]
)
def test_more_axes_than_any_array_has_are_refused_at_once(place: str, tmp_path: Path) -> None:
    """Their product has a million digits."""
    (tmp_path / "w.bin").touch()
    path = tmp_path / "m.onnx"
    path.write_bytes(ranked(place, 100_000).SerializeToString())
    with pytest.raises(ModelError, match="has 100000 dimensions; no array has more than 64"):
        open_model(path)
    with pytest.raises(ModelError, match="has 100000 dimensions; no array has more than 64"):
        from_proto(ranked(place, 100_000), tmp_path)


def _twice(what: str) -> onnx.ModelProto:
    """Return a model in which a name stands for two tensors."""
    made = model([tensor("w", 4)])
    graph = made.graph
    if what == "inputs":
        graph.input.append(graph.input[0])
    elif what == "in a branch":
        inner = helper.make_graph([], "g", [], [], [tensor("v", 4), tensor("v", 4)])
        graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner))
    elif what == "a sparse one":
        indices = numpy_helper.from_array(np.zeros(1, np.int64))
        graph.sparse_initializer.append(helper.make_sparse_tensor(tensor("w", 1), indices, [4]))
    else:
        graph.initializer.append(tensor("w", 4, seed=1))
    return made


@pytest.mark.parametrize("what", ["initializers", "inputs", "in a branch", "a sparse one"])
def test_two_tensors_of_one_name_are_refused(what: str, tmp_path: Path) -> None:
    """What is folded would be one of them, what a runtime takes the other."""
    path = tmp_path / "m.onnx"
    path.write_bytes(_twice(what).SerializeToString())
    with pytest.raises(ModelError, match=r"two (initializers|inputs) have the name"):
        open_model(path)
    with pytest.raises(ModelError, match=r"two (initializers|inputs) have the name"):
        from_proto(_twice(what))


def test_a_model_that_names_no_version_of_its_operators_is_refused() -> None:
    made = model([tensor("w", 4)])
    del made.opset_import[:]
    made.opset_import.add(domain="own", version=1)
    with pytest.raises(ModelError, match="of which version its operators are"):
        from_proto(made)
    made.ir_version = 2  # of that age none could; they are of version 1
    from_proto(made)
    made.ir_version = 8
    for node in made.graph.node:
        node.domain = "own"
    from_proto(made)


def test_a_model_in_memory_that_no_file_could_hold_is_refused() -> None:
    bad = model([tensor("w")]).SerializeToString().replace(b"identity", b"\xff\xfe\xfd\xfc1234")
    with pytest.raises(ModelError, match="a string in it is not UTF-8"):
        from_proto(onnx.ModelProto.FromString(bad))
    for wide in (False, True):
        deep = model([tensor("w")])
        graph = deep.graph
        for _ in range(3000):
            node = graph.node.add(op_type="If", input=["c"], output=["y"])
            graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        if wide:
            graph.initializer.append(tensor("v"))
        with pytest.raises(ModelError, match="nested deeper than 100"):
            from_proto(deep)


def test_a_segment_of_a_tensor_in_memory_is_kept() -> None:
    made = model([tensor("w")])
    made.graph.initializer[0].segment.begin = 0
    made.graph.initializer[0].segment.end = 5
    opened = from_proto(made)
    assert same(materialize(opened, opened.proto, {}), made)


def test_more_nodes_than_any_network_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    inner = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])] * 3, "g", [], [])
    made = model([])
    made.graph.node.add(op_type="If", input=["c"], output=["y"]).attribute.add(
        name="then_branch", type=onnx.AttributeProto.GRAPH, g=inner
    )
    path.write_bytes(made.SerializeToString())
    monkeypatch.setattr("bnfold.files.opened.NODES", 5)
    open_model(path).close()
    monkeypatch.setattr("bnfold.files.opened.NODES", 4)
    with pytest.raises(ModelError, match="it has 5 nodes; bnfold works on up to 4"):
        open_model(path)
