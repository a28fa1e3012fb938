"""Data files: what is read, and what a stranger's model cannot make us read."""

import os
from pathlib import Path

import numpy as np
import pytest
from handmade import model, numbers, refer, save_external, tensor
from onnx import helper

from bnfold.errors import ModelError
from bnfold.files import open_model


def write(folder: Path, *tensors: object) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model(tensors).SerializeToString())  # type: ignore[arg-type]
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with eight numbers in w.bin, and eight more in a file outside of it."""
    made = tmp_path / "folder"
    made.mkdir()
    numbers(8).tofile(made / "w.bin")
    numbers(8, 1).tofile(tmp_path / "secret")
    return made


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("C:\\secret", "absolute"),
        ("\\\\host\\share", "absolute"),
        ("../secret", r"'\.\.'"),
        ("sub/../../secret", r"'\.\.'"),
        ("sub/../w.bin", r"'\.\.'"),
        ("..\\secret", r"'\.\.'"),
        ("w\0.bin", "NUL"),
        ("missing.bin", "missing"),
        ("w.bin/deeper", "data file"),
        ("sub", "Is a directory"),
        (".", "Is a directory"),
        ("", "no location"),
        ("x" * 5000, "data file"),
    ],
)
def test_a_location_that_is_no_file_inside_the_folder_is_refused(
    folder: Path, location: str, said: str
) -> None:
    (folder / "sub").mkdir()
    with pytest.raises(ModelError, match=said) as caught:
        open_model(write(folder, refer("w", [8], location)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inside", ["initializer", "Constant", "subgraph", "function"])
def test_a_location_is_checked_wherever_the_tensor_stands(folder: Path, inside: str) -> None:
    bad = refer("w", [8], "../secret")
    constant = helper.make_node("Constant", [], ["c"], value=bad)
    graph = helper.make_graph([], "inner", [], [], [bad])
    made = {
        "initializer": model([bad]),
        "Constant": model([], [constant]),
        "subgraph": model([], [helper.make_node("If", ["x"], ["z"], then_branch=graph)]),
        "function": model(),
    }[inside]
    if inside == "function":
        imports = [helper.make_opsetid("", 17)]
        made.functions.append(helper.make_function("f", "f", [], ["c"], [constant], imports))
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match=r"'\.\.' is not allowed"):
        open_model(folder / "m.onnx")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": 4}, "beyond the end"),
        ({"offset": 2**63}, "beyond the end"),
        ({"offset": 10**30}, "where a byte count belongs"),
        ({"offset": -4}, "where a byte count belongs"),
        ({"offset": "four"}, "where a byte count belongs"),
        ({"offset": "٤"}, "where a byte count belongs"),
        ({"offset": ""}, "where a byte count belongs"),
        ({"length": 28}, "has 28 bytes"),
        ({"length": -1}, "where a byte count belongs"),
        ({"length": "0x20"}, "where a byte count belongs"),
        ({"length": 2**62}, "has 4611686018427387904 bytes"),
    ],
)
def test_what_is_not_a_stretch_of_the_file_is_refused(
    folder: Path, entries: dict[str, object], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        open_model(write(folder, refer("w", [8], "w.bin", **entries)))


@pytest.mark.parametrize("dims", [[9], [2**62, 2**62], [2**63 - 1], [-8], [4, -2]])
def test_a_shape_that_the_file_cannot_fill_is_refused(folder: Path, dims: list[int]) -> None:
    with pytest.raises(ModelError, match="tensor 'w'"):
        open_model(write(folder, refer("w", dims, "w.bin")))


def test_an_entry_that_stands_twice_is_refused(folder: Path) -> None:
    bad = refer("w", [8], "w.bin")
    bad.external_data.add(key="location", value="other.bin")
    with pytest.raises(ModelError, match="says its 'location' twice"):
        open_model(write(folder, bad))


def test_overlapping_tensors_are_refused_but_shared_ones_are_not(folder: Path) -> None:
    first = refer("a", [4], "w.bin", offset=0)
    with pytest.raises(ModelError, match="'a' and 'b' overlap"):
        open_model(write(folder, first, refer("b", [4], "w.bin", offset=12)))
    with pytest.raises(ModelError, match="'a' and 'b' overlap"):
        open_model(write(folder, first, refer("b", [1], "w.bin", offset=4)))
    (folder / "alias.bin").symlink_to("w.bin")
    with pytest.raises(ModelError, match="'a' and 'b' overlap"):
        open_model(write(folder, first, refer("b", [4], "alias.bin", offset=12)))
    others = (refer("b", [2, 2], "w.bin"), refer("c", [4], "w.bin", offset=16))
    with open_model(write(folder, first, *others, refer("none", [0], "w.bin", offset=4))) as opened:
        one, other = map(opened.read, opened.proto.graph.initializer[:2])
        assert np.array_equal(one.ravel(), other.ravel())


def test_links_are_followed_only_inside_the_folder(folder: Path) -> None:
    (folder / "in.bin").symlink_to("w.bin")
    with open_model(write(folder, refer("w", [8], "in.bin"))) as opened:
        assert np.array_equal(opened.read(opened.proto.graph.initializer[0]), numbers(8))
    (folder / "out.bin").symlink_to("../secret")
    with pytest.raises(ModelError, match="symbolic link out of the model's folder"):
        open_model(write(folder, refer("w", [8], "out.bin")))
    (folder / "up").symlink_to("..")
    with pytest.raises(ModelError, match="symbolic link out of the model's folder"):
        open_model(write(folder, refer("w", [8], "up/secret")))
    (folder / "circle").symlink_to("circle")
    with pytest.raises(ModelError, match="data file 'circle'"):
        open_model(write(folder, refer("w", [8], "circle")))
    (folder / "nowhere").symlink_to("missing")
    with pytest.raises(ModelError, match="missing"):
        open_model(write(folder, refer("w", [8], "nowhere")))


def test_hard_links_are_followed_only_inside_the_folder(folder: Path) -> None:
    (folder / "in.bin").hardlink_to(folder / "w.bin")
    with open_model(write(folder, refer("w", [8], "in.bin"))):
        pass
    (folder / "out.bin").hardlink_to(folder.parent / "secret")
    with pytest.raises(ModelError, match="hard link to a file outside its folder"):
        open_model(write(folder, refer("w", [8], "out.bin")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_not_even_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match="Not a regular file"):
        open_model(write(folder, refer("w", [8], "pipe")))
    try:
        os.mknod(folder / "zero", 0o20666, os.makedev(1, 5))
    except PermissionError:
        return
    with pytest.raises(ModelError, match="Not a regular file"):
        open_model(write(folder, refer("w", [8], "zero")))


def test_data_in_several_subfolders_is_read(folder: Path) -> None:
    (folder / "sub" / "deeper").mkdir(parents=True)
    numbers(4, 2).tofile(folder / "sub" / "a.bin")
    numbers(4, 3).tofile(folder / "sub" / "deeper" / "b.bin")
    wanted = [refer("a", [4], "sub/a.bin"), refer("b", [2, 2], "./sub/deeper/b.bin", length=16)]
    with open_model(write(folder, *wanted)) as opened:
        a, b = map(opened.read, opened.proto.graph.initializer)
        assert np.array_equal(a, numbers(4, 2))
        assert np.array_equal(b.ravel(), numbers(4, 3))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model as huggingface_hub caches it: links into a folder of files named by their sum."""
    repository = tmp_path / "hub" / "models--some--net"
    blobs, made = repository / "blobs", repository / "snapshots" / "c0ffee" / "onnx"
    blobs.mkdir(parents=True)
    made.mkdir(parents=True)
    save_external(model([tensor("w")]), tmp_path / "model.onnx", "model.onnx_data")
    for name, blob in (("model.onnx", "1" * 64), ("model.onnx_data", "2" * 64)):
        (tmp_path / name).rename(blobs / blob)
        (made / name).symlink_to(f"../../../blobs/{blob}")
    return made / "model.onnx"


def test_a_hugging_face_cache_is_read(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").symlink_to("hub")
    relative = snapshot.relative_to(tmp_path / "hub")
    monkeypatch.chdir(snapshot.parent)
    for path in (snapshot, tmp_path / "cache" / relative, Path("model.onnx")):
        with open_model(path) as opened:
            assert np.array_equal(opened.read(opened.proto.graph.initializer[0]), numbers(8192))


def test_a_link_out_of_the_hugging_face_cache_is_refused(snapshot: Path, tmp_path: Path) -> None:
    data = snapshot.with_name("model.onnx_data")
    blob = data.resolve()
    data.unlink()
    numbers(8192).tofile(tmp_path / "secret")
    data.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="out of the model's folder and its cache's blobs"):
        open_model(snapshot)
    data.unlink()
    data.symlink_to(blob)
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="out of the model's folder and its cache's blobs"):
        open_model(snapshot)
    blob.unlink()
    other = tmp_path / "hub" / "models--other--net" / "blobs"
    other.mkdir(parents=True)
    numbers(8192).tofile(other / "3")
    data.unlink()
    data.symlink_to(other / "3")
    with pytest.raises(ModelError, match="out of the model's folder and its cache's blobs"):
        open_model(snapshot)


def test_a_cache_whose_blobs_are_elsewhere_is_none(snapshot: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "hub" / "models--some--net" / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="out of the model's folder"):
        open_model(snapshot)


def test_a_link_to_a_snapshot_is_read_as_the_snapshot(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "net").symlink_to(snapshot.parent)
    with open_model(tmp_path / "net" / "model.onnx") as opened:
        assert np.array_equal(opened.read(opened.proto.graph.initializer[0]), numbers(8192))
