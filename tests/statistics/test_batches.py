"""Data from files, batch by batch."""

import base64
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bnfold.errors import RequestError
from bnfold.statistics.batches import read_batches
from bnfold.verification.runs.inputs import InputSpec

X = InputSpec("x", TensorProto.FLOAT, ("N", 2))
Z = InputSpec("z", TensorProto.INT64, ("N",))
FIXED = InputSpec("x", TensorProto.FLOAT, (2, 2))
ROWS = np.arange(14, dtype=np.float32).reshape(7, 2)


def shapes(path: Path, specs: tuple[InputSpec, ...] = (X,), size: int | None = None) -> list[Any]:
    return [batch["x"].shape for batch in read_batches(path, specs, size)]


def joined(path: Path, size: int | None = None) -> NDArray[Any]:
    return np.concatenate([batch["x"] for batch in read_batches(path, [X], size)])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_long_array_is_cut(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "d.npz", x=ROWS, other=np.zeros(3))
    assert shapes(tmp_path / "d.npz") == [(7, 2)]
    assert shapes(tmp_path / "d.npz", size=3) == [(3, 2), (3, 2), (1, 2)]
    assert np.array_equal(joined(tmp_path / "d.npz", 3), ROWS)


def test_arrays_without_names_go_by_position(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", ROWS)
    np.savez(tmp_path / "d.npz", ROWS, np.arange(7))
    assert np.array_equal(joined(tmp_path / "d.npy", 2), ROWS)
    (first, *_) = read_batches(tmp_path / "d.npz", [X, Z], 2)
    assert np.array_equal(first["z"], [0, 1])


def test_what_the_model_fixes_is_the_size(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", ROWS)  # of which one is left over
    assert shapes(tmp_path / "d.npy", (FIXED,)) == [(2, 2)] * 3
    with pytest.raises(RequestError, match="the model takes batches of 2, not of 3"):
        shapes(tmp_path / "d.npy", (FIXED,), 3)


def test_a_folder_holds_several_files(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", ROWS[3:])
    np.savez(tmp_path / "a.npz", x=ROWS[:3])
    (tmp_path / "notes.txt").write_text("not data")
    assert shapes(tmp_path) == [(3, 2), (4, 2)]
    assert np.array_equal(joined(tmp_path), ROWS)


def test_onnx_test_data_and_polygraphy(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / "onnx" / f"test_data_set_{number}"
        folder.mkdir(parents=True)
        tensor = numpy_helper.from_array(ROWS[: number + 2], "x")
        (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    assert shapes(tmp_path / "onnx") == [(2, 2), (3, 2)]
    file = io.BytesIO()
    np.save(file, ROWS)
    feeds = [{"x": {"array": base64.b64encode(file.getvalue()).decode()}}] * 2
    (tmp_path / "p.json").write_text(json.dumps(feeds))
    assert shapes(tmp_path / "p.json") == [(7, 2)] * 2


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    """A file of 1 GB, which is a hole on disk."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 27, 2)}
    )
    with (tmp_path / "d.npy").open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + (1 << 30))
    tracemalloc.start()
    batches = read_batches(tmp_path / "d.npy", [X], 1000)
    total = sum(len(batch["x"]) for batch, _ in zip(batches, range(100), strict=False))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 100_000
    assert peak < 1 << 20


def test_data_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    def refused(match: str, specs: tuple[InputSpec, ...] = (X,)) -> None:
        with pytest.raises(RequestError, match=match):
            list(read_batches(next(tmp_path.iterdir()), specs, 3))
        next(tmp_path.iterdir()).unlink()

    np.savez(tmp_path / "d.npz", x=ROWS, z=np.arange(3))
    refused("different numbers of samples: x 7, z 3", (X, Z))
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    refused("never unpickled")
    np.save(tmp_path / "d.npy", np.asfortranarray(ROWS))
    refused("Fortran order")
    np.save(tmp_path / "d.npy", np.float32(1))
    refused("no batch axis")
    np.save(tmp_path / "d.npy", ROWS.astype(np.float64))
    refused("'x' is float64, where the model takes float32")
    np.save(tmp_path / "d.npy", ROWS[:, :1])
    refused(r"of shape \[3, 1\], where the model takes \[N, 2\]")
    np.save(tmp_path / "d.npy", ROWS)
    refused("one array cannot feed the model's 2 inputs", (X, Z))
    np.save(tmp_path / "d.npy", ROWS)
    whole = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(whole[:-4])
    refused("it is cut off")
    (tmp_path / "d.txt").write_text("x")
    refused("data are .npz, .npy, .json or a folder")
