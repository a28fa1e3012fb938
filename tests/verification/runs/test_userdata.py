import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from bnfold.errors import RequestError
from bnfold.verification.runs.inputs import InputSpec
from bnfold.verification.runs.userdata import load_inputs

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SPECS = [InputSpec("x", TensorProto.FLOAT, (2, 3))]
TWO = [*SPECS, InputSpec("n", TensorProto.INT64, (1,))]


def test_npz_by_name_and_by_position(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", n=np.array([1]), x=X)
    [feed], _ = load_inputs(tmp_path / "a.npz", TWO, [])
    assert list(feed) == ["x", "n"]
    np.savez(tmp_path / "b.npz", X, np.array([1]))
    [feed], _ = load_inputs(tmp_path / "b.npz", TWO, [])
    assert (feed["x"] == X).all()


def test_npy_feeds_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    [feed], _ = load_inputs(tmp_path / "x.npy", SPECS, [])
    assert (feed["x"] == X).all()
    with pytest.raises(RequestError, match="2 inputs"):
        load_inputs(tmp_path / "x.npy", TWO, [])


def test_onnx_test_data_with_expected_outputs(tmp_path: Path) -> None:
    for index in range(2):
        folder = tmp_path / f"test_data_set_{index}"
        folder.mkdir()
        tensor = numpy_helper.from_array(X + index, "some_old_name")
        (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
        (folder / "output_0.pb").write_bytes(numpy_helper.from_array(X, "y").SerializeToString())
    feeds, expected = load_inputs(tmp_path, SPECS, ["y"])
    assert [float(feed["x"][0, 0]) for feed in feeds] == [0.0, 1.0]
    assert [list(outputs) for outputs in expected] == [["y"], ["y"]]
    [feed], _ = load_inputs(tmp_path / "test_data_set_1", SPECS, ["y"])
    assert feed["x"][0, 0] == 1


def encoded(array: np.ndarray) -> dict[str, str]:
    data = io.BytesIO()
    np.save(data, array)
    text = base64.b64encode(data.getvalue()).decode()
    return {"array": text, "polygraphy_class": "ndarray"}


def test_polygraphy_json(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    lazy = {"values": encoded(X), "polygraphy_class": "LazyArray"}
    path.write_text(json.dumps([{"x": encoded(X)}, {"x": lazy}]))
    feeds, _ = load_inputs(path, SPECS, [])
    assert all((feed["x"] == X).all() for feed in feeds)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    poison = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "x.npy", poison)
    np.savez(tmp_path / "x.npz", x=poison)
    (tmp_path / "x.json").write_text(json.dumps([{"x": encoded(poison)}]))
    for name in ("x.npy", "x.npz", "x.json"):
        with pytest.raises(RequestError, match=f"{name}.*never unpickled"):
            load_inputs(tmp_path / name, SPECS, [])


def test_tensors_that_refer_to_other_files_are_refused(tmp_path: Path) -> None:
    tensor = TensorProto(name="x", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(RequestError, match="another file"):
        load_inputs(tmp_path, SPECS, [])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x.txt", "inputs are .npz"),
        ("missing.npz", "No such file"),
        ("broken.npz", "cannot be read"),
        ("broken.json", "cannot be read"),
        ("nested.json", "nested too deep"),
        ("vast.npy", "not enough memory"),
        ("empty", r"this folder holds no input_\*.pb files"),
        ("pipe.npz", "Not a regular file"),
        ("pipe.npy", "Not a regular file"),
        ("pipe.json", "Not a regular file"),
        ("pipes", "Not a regular file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "nested.json").write_text("[" * 100_000)
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6, 3)}
    with (tmp_path / "vast.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "empty").mkdir()
    (tmp_path / "pipes").mkdir()
    if "pipe" in name:
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(tmp_path / "pipes" / "input_0.pb" if name == "pipes" else tmp_path / name)
    with pytest.raises(RequestError, match=why):
        load_inputs(tmp_path / name, SPECS, [])


def test_what_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", z=X)
    with pytest.raises(RequestError, match="lacks the input 'x'"):
        load_inputs(tmp_path / "a.npz", SPECS, [])
    np.savez(tmp_path / "b.npz", x=X.astype(np.float64))
    with pytest.raises(RequestError, match="float64, where the model takes float32"):
        load_inputs(tmp_path / "b.npz", SPECS, [])
    spec = InputSpec("x", TensorProto.FLOAT, ("n", *X.shape[1:-1], X.shape[-1] + 1))
    np.savez(tmp_path / "c.npz", x=X)
    with pytest.raises(RequestError, match=r"'x' is of shape \[.*\], where the model takes \[n, "):
        load_inputs(tmp_path / "c.npz", [spec], [])
    np.savez(tmp_path / "d.npz", x=X[..., None])
    with pytest.raises(RequestError, match="'x' is of shape"):
        load_inputs(tmp_path / "d.npz", [InputSpec("x", TensorProto.FLOAT, X.shape)], [])
