"""Saved models: what was edited is new, the rest is as it was, in whichever form they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from handmade import everywhere, model, models, numbers, refer, same, save_external, tensor
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import ModelError, RequestError
from bnfold.files import (
    FoldOverflow,
    Literal,
    OpenedModel,
    Recipe,
    Scaled,
    copy_model,
    from_proto,
    materialize,
    open_model,
    reference,
    save,
    save_model,
)
from bnfold.files.assemble import ALIGNMENT
from bnfold.files.references import Reference, is_external
from bnfold.files.walk import tensors


def load(path: Path) -> onnx.ModelProto:
    """A model with all its numbers inside, as onnx reads it."""
    return onnx.load(path)  # noqa: TID251 - what others read is what must have been written


def write(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def edit() -> tuple[onnx.ModelProto, dict[str, Recipe]]:
    """An edit that is about to begin."""
    return onnx.ModelProto(), {}


def doubled(opened: OpenedModel) -> tuple[onnx.ModelProto, dict[str, Recipe]]:
    """An edit: every float32 tensor of the model, wherever it stands, times two."""
    proto, recipes = edit()
    proto.CopyFrom(opened.proto)
    for old, new in zip(tensors(opened.proto), tensors(proto), strict=True):
        if old.data_type == TensorProto.FLOAT:
            new.CopyFrom(reference(old.name, Scaled(opened, old, np.array([2.0])), recipes))
    return proto, recipes


def assert_doubled(path: Path, original: onnx.ModelProto) -> None:
    folder = str(path.parent)
    made = onnx.ModelProto.FromString(path.read_bytes())
    for old, new in zip(tensors(original), tensors(made), strict=True):
        factor = 2 if old.data_type == TensorProto.FLOAT else 1
        values = numpy_helper.to_array(new, folder)
        assert np.array_equal(values, numpy_helper.to_array(old) * factor), old.name


@given(made=models())
@settings(max_examples=50)
def test_an_unedited_model_is_saved_as_it_was(
    made: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = made.SerializeToString()
    (folder / "source.onnx").write_bytes(data)
    with open_model(folder / "source.onnx") as opened:
        save_model(opened, opened.proto, {}, folder / "target.onnx")
    assert (folder / "target.onnx").read_bytes() == data


def test_a_recipe_is_made_wherever_a_tensor_may_stand(tmp_path: Path) -> None:
    made = everywhere()
    source = write(made, tmp_path / "source.onnx")
    with open_model(source) as opened:
        proto, recipes = doubled(opened)
        for name, external in {"inline": None, "external": True}.items():
            target = tmp_path / f"{name}.onnx"
            save_model(opened, proto, recipes, target, external_data=external)
            assert_doubled(tmp_path / f"{name}.onnx", made)
        in_memory = materialize(opened, proto, recipes)
        assert not any(is_external(t) for t in tensors(in_memory))
        assert in_memory.SerializeToString() == (tmp_path / "inline.onnx").read_bytes()
    assert source.read_bytes() == made.SerializeToString(), "the source is never touched"


def test_a_model_in_memory_can_be_saved(tmp_path: Path) -> None:
    made = everywhere()
    opened = from_proto(made)
    save_model(opened, *doubled(opened), tmp_path / "m.onnx")
    assert_doubled(tmp_path / "m.onnx", made)
    copy_model(opened, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == made.SerializeToString()


def test_small_literals_are_put_in_large_ones_too(tmp_path: Path) -> None:
    opened = from_proto(model())
    proto, recipes = edit()
    proto.CopyFrom(opened.proto)
    literals = [numbers(2), numbers(10_000).reshape(100, 100), np.array(3, np.int64)]
    literals.append(numbers(9).astype(helper.tensor_dtype_to_np_dtype(TensorProto.INT4)))
    for i, values in enumerate(literals):
        proto.graph.initializer.append(reference(f"t{i}", Literal(values), recipes))
    for external in (False, True):
        save_model(opened, proto, recipes, tmp_path / "m.onnx", external_data=external)
        for one, values in zip(load(tmp_path / "m.onnx").graph.initializer, literals, strict=True):
            read = numpy_helper.to_array(one)
            assert read.dtype == values.dtype
            assert np.array_equal(read, values)
    assert (tmp_path / "m.onnx.data").stat().st_size == 40_000


def test_a_data_file_is_aligned_and_named_after_the_model(tmp_path: Path) -> None:
    weights = [tensor(f"w{i}", 3000 + i, i) for i in range(4)]
    with open_model(write(model(weights), tmp_path / "m.onnx")) as opened:
        save_model(opened, opened.proto, {}, tmp_path / "out.onnx", external_data=True)
    made = onnx.ModelProto.FromString((tmp_path / "out.onnx").read_bytes())
    for one in made.graph.initializer:
        found = Reference.of(one)
        assert found.location == "out.onnx.data"
        assert found.offset % ALIGNMENT == 0
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    assert same(load(tmp_path / "out.onnx"), with_explicit_location(model(weights)))


def with_explicit_location(made: onnx.ModelProto) -> onnx.ModelProto:
    """The model as onnx leaves it when it has brought in external data."""
    for one in made.graph.initializer:
        one.data_location = TensorProto.DEFAULT
    return made


def test_a_model_keeps_the_form_that_it_came_in(tmp_path: Path) -> None:
    made = model([tensor("w"), tensor("v", seed=1)])
    save_external(made, tmp_path / "m.onnx", "sub/weights.bin")
    with open_model(tmp_path / "m.onnx") as opened:
        save_model(opened, *doubled(opened), tmp_path / "out.onnx")
        assert_doubled(tmp_path / "out.onnx", made)
        assert (tmp_path / "out.onnx.data").stat().st_size == 2 * 32768
        save_model(opened, opened.proto, {}, tmp_path / "inline.onnx", external_data=False)
        assert (tmp_path / "inline.onnx").read_bytes() == made.SerializeToString()


def test_shared_numbers_are_written_once(tmp_path: Path) -> None:
    numbers(8192).tofile(tmp_path / "w.bin")
    made = model([refer("a", [8192], "w.bin"), refer("b", [4096, 2], "w.bin", offset=0)])
    with open_model(write(made, tmp_path / "m.onnx")) as opened:
        proto, recipes = edit()
        proto.CopyFrom(opened.proto)
        recipe = reference("c", Literal(numbers(5000)), recipes)
        proto.graph.initializer.extend([recipe, recipe])
        save_model(opened, proto, recipes, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size == 8192 * 4 + 5000 * 4
    a, b, c, d = (numpy_helper.to_array(t) for t in load(tmp_path / "out.onnx").graph.initializer)
    assert np.array_equal(a, b.ravel())
    assert np.array_equal(c, d)


def test_a_model_too_large_for_one_file_gets_a_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model([tensor("w")])
    monkeypatch.setattr(save, "LARGEST_FILE", 20_000)
    with open_model(write(made, tmp_path / "m.onnx")) as opened:
        save_model(opened, opened.proto, {}, tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx.data").exists()
        with pytest.raises(RequestError, match="it needs external data"):
            save_model(opened, opened.proto, {}, tmp_path / "no.onnx", external_data=False)
        assert not (tmp_path / "no.onnx").exists()


def test_only_what_changed_is_written_when_data_is_shared(tmp_path: Path) -> None:
    made = model([tensor("w"), tensor("v", seed=1)])
    save_external(made, tmp_path / "sub" / "m.onnx", "data/weights.bin")
    with open_model(tmp_path / "sub" / "m.onnx") as opened:
        proto, recipes = edit()
        proto.CopyFrom(opened.proto)
        old = opened.proto.graph.initializer[0]
        proto.graph.initializer[0].CopyFrom(
            reference("w", Scaled(opened, old, np.array([2.0])), recipes)
        )
        for target in (tmp_path / "sub" / "out.onnx", tmp_path / "out.onnx"):
            save_model(opened, proto, recipes, target, share_data=True)
            assert target.with_name("out.onnx.data").stat().st_size == 32768
            w, v = (numpy_helper.to_array(t) for t in load(target).graph.initializer)
            assert np.array_equal(w, numbers(8192) * 2)
            assert np.array_equal(v, numbers(8192, 1))
        (tmp_path / "elsewhere").mkdir()
        with pytest.raises(RequestError, match="cannot be shared with a model in"):
            save_model(opened, proto, recipes, tmp_path / "elsewhere" / "m.onnx", share_data=True)
    with (
        open_model(write(made, tmp_path / "inline.onnx")) as opened,
        pytest.raises(RequestError, match="has no data file"),
    ):
        save_model(opened, opened.proto, {}, tmp_path / "out.onnx", share_data=True)


@pytest.mark.parametrize("name", ["m.onnx", "w.bin"])
def test_a_source_that_is_replaced_meanwhile_is_noticed(name: str, tmp_path: Path) -> None:
    """What a file of its name holds now is not what was read, and must not be replaced by it."""
    source = save_external(model([tensor("w")]), tmp_path / "m.onnx", "w.bin")
    with open_model(source) as opened:
        newer = tmp_path / "newer"
        newer.write_bytes((tmp_path / name).read_bytes())
        newer.replace(tmp_path / name)
        for act in (
            lambda: save_model(opened, opened.proto, {}, source),
            lambda: copy_model(opened, tmp_path / "out.onnx"),
            lambda: materialize(opened, opened.proto, {}),
        ):
            with pytest.raises(ModelError, match=f"{name}: the file was replaced while it was"):
                act()
        (tmp_path / name).unlink()
        save_model(opened, opened.proto, {}, tmp_path / "out.onnx")
    (saved,) = load(tmp_path / "out.onnx").graph.initializer
    assert np.array_equal(numpy_helper.to_array(saved), numbers(8192))


def test_parts_of_a_sparse_tensor_are_inside_where_onnx_looks_at_them(tmp_path: Path) -> None:
    """onnx's checker refuses a model with the indices in a data file."""
    made = model([tensor("w")])
    sparse = made.graph.sparse_initializer.add(dims=[100_000])
    sparse.values.CopyFrom(numpy_helper.from_array(numbers(3000), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(3000)))
    with open_model(write(made, tmp_path / "m.onnx")) as opened:
        save_model(opened, opened.proto, {}, tmp_path / "out.onnx", external_data=True)
    assert (tmp_path / "out.onnx.data").stat().st_size == 32768
    onnx.checker.check_model(tmp_path / "out.onnx")
    (saved,) = load(tmp_path / "out.onnx").graph.sparse_initializer
    assert same_tensors([saved.values, saved.indices], [sparse.values, sparse.indices])


def same_tensors(ones: list[TensorProto], others: list[TensorProto]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
        for one, other in pairs
    )


def test_numbers_that_an_external_tensor_also_holds_do_not_come_along(tmp_path: Path) -> None:
    source = save_external(model([tensor("w")]), tmp_path / "m.onnx", "w.bin")
    made = onnx.ModelProto.FromString(source.read_bytes())
    made.graph.initializer[0].float_data.append(1.0)
    with open_model(write(made, source)) as opened:
        for external in (False, True):
            save_model(opened, opened.proto, {}, tmp_path / "out.onnx", external_data=external)
            onnx.checker.check_model(tmp_path / "out.onnx")
            (saved,) = load(tmp_path / "out.onnx").graph.initializer
            assert not saved.float_data
            assert np.array_equal(numpy_helper.to_array(saved), numbers(8192))


def test_data_is_shared_by_its_own_path_not_by_a_link(tmp_path: Path) -> None:
    """onnx refuses data files that are links, as those of a Hugging Face cache are."""
    repository = tmp_path / "models--some--net"
    made, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    made.mkdir(parents=True)
    blobs.mkdir()
    save_external(model([tensor("w")]), made / "m.onnx", "weights")
    (made / "weights").rename(blobs / "1")
    (made / "weights").symlink_to("../../blobs/1")
    with open_model(made / "m.onnx") as opened:
        for target in (repository / "out.onnx", made / "out.onnx"):
            save_model(opened, opened.proto, {}, target, share_data=True)
    (weight,) = load(repository / "out.onnx").graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), numbers(8192))
    with open_model(made / "out.onnx") as linked:
        assert np.array_equal(linked.read(linked.proto.graph.initializer[0]), numbers(8192))


def test_an_overflow_leaves_no_trace(tmp_path: Path) -> None:
    made = model([numpy_helper.from_array(np.full(4096, 60000, np.float16), "too_large")])
    with open_model(write(made, tmp_path / "m.onnx")) as opened:
        proto, recipes = edit()
        proto.CopyFrom(opened.proto)
        recipe = Scaled(opened, opened.proto.graph.initializer[0], np.array([2.0]))
        proto.graph.initializer[0].CopyFrom(reference("too_large", recipe, recipes))
        for external in (False, True):
            with pytest.raises(FoldOverflow, match="too_large"):
                save_model(opened, proto, recipes, tmp_path / "o.onnx", external_data=external)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@dataclass(frozen=True)
class Short:
    """A recipe that makes less than it announces."""

    data_type: int = TensorProto.FLOAT
    dims: tuple[int, ...] = (2,)

    def blocks(self) -> Iterator[memoryview]:
        yield memoryview(b"1234")


def test_a_recipe_that_breaks_its_word_is_our_bug(tmp_path: Path) -> None:
    opened = from_proto(model())
    proto, recipes = edit()
    proto.CopyFrom(opened.proto)
    proto.graph.initializer.append(reference("w", Short(), recipes))
    with pytest.raises(ValueError, match="announced 8 bytes and made 4"):
        save_model(opened, proto, recipes, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["inline", "external"])
def test_a_source_that_changes_while_it_is_read_is_noticed(tmp_path: Path, form: str) -> None:
    made = model([tensor("w")])
    source = tmp_path / "m.onnx"
    changed = write(made, source) if form == "inline" else tmp_path / "weights.bin"
    if form == "external":
        save_external(made, source)
    with open_model(source) as opened:
        changed.write_bytes(changed.read_bytes()[:-1] + b"!")
        for act in (
            lambda: save_model(opened, opened.proto, {}, tmp_path / "out.onnx"),
            lambda: copy_model(opened, tmp_path / "out.onnx"),
            lambda: materialize(opened, opened.proto, {}),
        ):
            with pytest.raises(ModelError, match="changed while it was being read"):
                act()
        changed.write_bytes(changed.read_bytes()[:5000])
        with pytest.raises(ModelError, match="changed while it was being read"):
            save_model(opened, opened.proto, {}, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
