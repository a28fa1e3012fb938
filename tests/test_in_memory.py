"""Models, and inputs, that are in memory rather than in files."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import ml_dtypes
import numpy as np
import onnx
import pytest
from commandline import ENVIRONMENT, MODELS, ROOT, convolution, files, load, normalizations

import bnfold
from bnfold.files import open_model
from bnfold.files.given import as_file

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS = MODELS / "digits.onnx"
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is needed for a while, to see that nothing is left in it."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folding_verifies_itself() -> None:
    folding = bnfold.fold(load(MODELS / "digits.onnx"))
    steps: list[str] = []
    found = folding.verify(step=steps.append)
    assert found.verdict == "passed"
    assert len(found.probes) == len(folding.regions) == 8
    assert not any(probe.found for probe in found.probes)
    assert steps


def test_a_folding_is_verified_as_it_is_now() -> None:
    folding = bnfold.fold(convolution())
    assert folding.verify(options=bnfold.VerifyOptions(seed=3))
    weight = next(t for t in folding.model.graph.initializer if len(t.dims) == 4)
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    assert folding.verify().verdict == "failed"


def test_a_folding_is_told_as_plain_data() -> None:
    told = bnfold.fold(load(MODELS / "kept.onnx")).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert not {"model", "original"} & told.keys()
    assert len(told["kept"]) == 4


def test_a_model_in_memory_is_folded_into_a_file(tmp_path: Path, scratch: Path) -> None:
    model = load(MODELS / "digits.onnx")
    before = model.SerializeToString(deterministic=True)
    report = bnfold.fold_file(model, tmp_path / "folded.onnx")
    assert report.written
    assert report.source.path == "a model in memory"
    assert report.verification
    assert report.verification.verdict == "passed"
    assert normalizations(load(tmp_path / "folded.onnx")) == 0
    assert (tmp_path / "folded.onnx").read_bytes() == files_fold(tmp_path)
    assert model.SerializeToString(deterministic=True) == before
    assert files(scratch) == set()
    assert str(scratch) not in json.dumps(report.to_dict())


def files_fold(folder: Path) -> bytes:
    """Return what becomes of the same model as a file."""
    bnfold.fold_file(MODELS / "digits.onnx", folder / "expected.onnx", verify=None)
    return (folder / "expected.onnx").read_bytes()


def test_a_model_in_memory_is_checked_without_a_target(tmp_path: Path) -> None:
    report = bnfold.fold_file(load(MODELS / "digits.onnx"), check=True)
    assert (report.exit_code, len(report.folds), report.target) == (1, 8, None)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "name a target, or use bnfold.fold, which returns a model"),
        ({"in_place": True}, "in_place and share_data are for files"),
        ({"share_data": True}, "in_place and share_data are for files"),
    ],
)
def test_a_model_in_memory_is_in_no_folder(options: dict[str, Any], told: str) -> None:
    with pytest.raises(bnfold.RequestError, match=told):
        bnfold.fold_file(convolution(), **options)


def test_errors_call_a_model_in_memory_so(tmp_path: Path, scratch: Path) -> None:
    broken = convolution()
    broken.graph.node[-1].output[0] = "elsewhere"
    with pytest.raises(bnfold.ModelError, match=r"^a model in memory: "):
        bnfold.fold_file(broken, tmp_path / "folded.onnx")
    with pytest.raises(bnfold.TooManyKeptError, match=r"^a model in memory: 4 ") as caught:
        bnfold.fold_file(load(MODELS / "kept.onnx"), tmp_path / "folded.onnx", max_kept=0)
    assert caught.value.report.source.path == "a model in memory"
    assert files(scratch) == set()
    assert files(tmp_path) == set()


def test_numbers_that_are_not_in_memory_are_told(tmp_path: Path) -> None:
    model = convolution(channels=64)
    onnx.external_data_helper.convert_model_to_external_data(model, location="w", size_threshold=0)
    onnx.external_data_helper.write_external_data_tensors(model, str(tmp_path))
    advice = "load it with its data, as onnx.load does"
    uses: list[Callable[[], object]] = [
        lambda: bnfold.fold(model),
        lambda: bnfold.fold_file(model, tmp_path / "folded.onnx"),
        lambda: bnfold.verify(model, model),
        lambda: bnfold.estimate_statistics(model, []),
    ]
    for use in uses:
        with pytest.raises(bnfold.ModelError, match=advice):
            use()


def test_without_a_place_for_temporary_files_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    folding = bnfold.fold(convolution())
    uses: list[Callable[[], object]] = [
        folding.verify,
        lambda: bnfold.fold_file(folding.original, tmp_path / "folded.onnx"),
        lambda: bnfold.fold_file(DIGITS, tmp_path / "folded.onnx"),
    ]
    for use in uses:
        with pytest.raises(bnfold.RequestError, match="a temporary folder cannot be made: "):
            use()


@pytest.mark.full
def test_a_model_in_memory_may_have_more_than_2_gb() -> None:
    model = convolution()
    numbers = 275_000_000
    for name in ("first", "second"):
        graph = model.graph
        graph.initializer.add(name=name, data_type=1, dims=[numbers], raw_data=bytes(4 * numbers))
        graph.node.add(op_type="ReduceMax", input=[name], output=[f"of {name}"])
        value = onnx.helper.make_tensor_value_info(f"of {name}", onnx.TensorProto.FLOAT, [1])
        graph.output.add().CopyFrom(value)
    folding = bnfold.fold(model)
    assert (folding.before.nodes, folding.after.nodes) == (4, 3)
    assert sum(len(t.raw_data) for t in folding.model.graph.initializer) > 2**31
    with as_file(folding.model, "a model in memory") as path:
        assert files(path.parent) == {"model.onnx", "model.onnx.data"}
        with open_model(path) as opened:
            assert opened.size > 2**31


def test_what_is_no_model_is_told_by_its_type(tmp_path: Path) -> None:
    folding: Any = bnfold.fold(convolution())
    nothing: Any = None
    uses: list[Callable[[], object]] = [
        lambda: bnfold.fold_file(folding, tmp_path / "folded.onnx"),
        lambda: bnfold.verify(folding, convolution()),
        lambda: bnfold.verify(convolution(), folding),
        lambda: bnfold.estimate_statistics(folding, []),
    ]
    for use in uses:
        with pytest.raises(TypeError, match=r"as an onnx\.ModelProto or a path, not Folding"):
            use()
    with pytest.raises(TypeError, match=r"a path is a str or a pathlib\.Path, not ModelProto"):
        list(bnfold.fold_many([(folding.model, nothing)]))
    with pytest.raises(TypeError, match="options takes VerifyOptions, not None"):
        bnfold.verify(convolution(), convolution(), options=nothing)
    with pytest.raises(TypeError, match=r"a batch is a mapping of arrays .*, not ndarray"):
        bnfold.estimate_statistics(convolution(), [np.zeros(3)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"statistics": "data"}, "statistics takes StatisticsOptions, or None"),
        ({"max_kept": "0"}, "max_kept takes an integer, or None for no limit, not '0'"),
        ({"explain": 3, "check": True}, "explain takes the name of a node .*, not 3"),
        ({"max_kept": -1}, "max_kept is -1; it must be 0 or more"),
        ({"take_apart": "GELU"}, "take_apart is a collection of names, not 'GELU'"),
    ],
)
def test_options_of_folding_are_told_before_anything_is_read(option: Any, told: str) -> None:
    with pytest.raises((TypeError, bnfold.RequestError), match=told):
        bnfold.fold_file("nowhere.onnx", **option)


def digits(count: int) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(MODELS / "digits_test.npz") as data:
        return {"image": data["image"][:count]}


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        (digits(5), [5]),
        ([digits(2), digits(3)], [2, 3]),
        ({"image": digits(4)["image"].astype(">f4")}, [4]),
        ({"image": digits(4)["image"].transpose(2, 3, 0, 1).copy().transpose(2, 3, 0, 1)}, [4]),
    ],
)
def test_inputs_may_be_arrays(inputs: Any, shapes: list[int], scratch: Path) -> None:
    options = bnfold.VerifyOptions(inputs=inputs, providers=("cpu",), time=0)
    found = bnfold.fold(load(DIGITS)).verify(options=options)
    assert found.verdict == "passed"
    assert [list(fed["image"]) for fed in found.input_shapes] == [[n, 1, 8, 8] for n in shapes]
    assert files(scratch) == set()


def test_arrays_verify_what_the_same_numbers_in_a_file_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=digits(6)["image"])
    found = [
        bnfold.verify(DIGITS, DIGITS, options=bnfold.VerifyOptions(inputs=inputs, time=0))
        for inputs in (digits(6), str(tmp_path / "data.npz"))
    ]
    first, second = ([o.to_dict() for p in each.providers for o in p.outputs] for each in found)
    assert first == second != []


def network(kind: int, given: onnx.TypeProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model of one node from one input to one output of a tensor type."""
    made = onnx.helper.make_tensor_value_info("y", kind, None)
    graph = onnx.helper.make_graph([node], "g", [onnx.helper.make_value_info("x", given)], [made])
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_sequences_and_texts_are_fed() -> None:
    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n"])
    joining = onnx.helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)
    sequence = onnx.helper.make_sequence_type_proto(tensor)
    arrays = [np.ones(2, np.float32), np.arange(3, dtype=np.float32)]
    text = onnx.helper.make_tensor_type_proto(onnx.TensorProto.STRING, ["n"])
    same = onnx.helper.make_node("Identity", ["x"], ["y"])
    words = np.asarray(["one", "another"], dtype=object)
    for model, given in (
        (network(onnx.TensorProto.FLOAT, sequence, joining), arrays),
        (network(onnx.TensorProto.STRING, text, same), words),
    ):
        options = bnfold.VerifyOptions(inputs={"x": given}, providers=("cpu",), time=0)
        found = bnfold.verify(model, model, options=options)
        assert [provider.state for provider in found.providers] == ["ran"], found
        assert found
        assert found.input_shapes == ({"x": (2,)},)
    with pytest.raises(bnfold.RequestError, match="the model takes one array, and no list for 'x'"):
        bnfold.verify(model, model, options=bnfold.VerifyOptions(inputs={"x": arrays}))


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (3, "inputs takes a path, a mapping of arrays .*, or a list of such, not int"),
        (np.zeros(3), "or a list of such, not ndarray"),
        ([np.zeros(3)], "or a list of such, not a list that holds ndarray"),
        ({"x": 1.5}, r"inputs\['x'\] takes an array, .* not float: numpy\.asarray makes one"),
        ({"x": [1.0]}, r"inputs\['x'\] takes an array, .* not float"),
        ({0: np.zeros(3)}, "inputs are named by strings, not int"),
    ],
)
def test_what_is_no_input_is_told_by_its_type(inputs: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        bnfold.VerifyOptions(inputs=inputs)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"providers": None}, "providers takes a tuple of names, not None"),
        ({"providers": ("cpu", 3)}, "providers takes a tuple of names, not one with 3"),
        ({"shapes": "image=1"}, "shapes takes a mapping of shapes by the inputs' names, not 'im"),
        ({"shapes": {"image": 3}}, r"shapes\['image'\] takes a tuple of sizes, not 3"),
        ({"shapes": {"image": "1,1"}}, r"shapes\['image'\] takes a tuple of sizes, not '1,1'"),
        ({"seed": 1.5}, r"seed takes an integer, not 1\.5"),
        ({"timeout": "3"}, "timeout takes a number of seconds, or None, not '3'"),
        ({"time": "3"}, "time takes a number of seconds, or None, not '3'"),
    ],
)
def test_options_of_another_type_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        bnfold.VerifyOptions(**options)


def test_shapes_of_inputs_that_are_given_are_refused() -> None:
    for inputs in ("inputs.npz", digits(1)):
        with pytest.raises(bnfold.RequestError, match="shapes are those of generated inputs"):
            bnfold.VerifyOptions(inputs=inputs, shapes={"image": (1, 1, 8, 8)})


def test_arrays_that_do_not_fit_are_told() -> None:
    image = digits(1)["image"]
    refused = {
        "the model has no input 'pixels'; it has image": {"pixels": image},
        "the inputs: lacks the input 'image'": {},
        "'image' is float64, where the model takes float32": {"image": image.astype(float)},
        r"'image' is of shape \[8, 8\], where the model takes \[": {"image": image[0, 0]},
    }
    for told, inputs in refused.items():
        with pytest.raises(bnfold.RequestError, match=told):
            bnfold.verify(DIGITS, DIGITS, options=bnfold.VerifyOptions(inputs=inputs))


def test_what_cannot_be_fed_from_python_is_told() -> None:
    given = {"x": np.zeros(3, ml_dtypes.bfloat16)}
    told = r"inputs\['x'\] is of bfloat16, which ONNX Runtime cannot be fed from Python"
    with pytest.raises(bnfold.RequestError, match=told):
        bnfold.VerifyOptions(inputs=given)
    with pytest.raises(bnfold.RequestError, match="is an empty list"):
        bnfold.VerifyOptions(inputs=[])
    kind = onnx.TensorProto.BFLOAT16
    model = network(
        kind,
        onnx.helper.make_tensor_type_proto(kind, [3]),
        onnx.helper.make_node("Identity", ["x"], ["y"]),
    )
    found = bnfold.verify(model, model, options=bnfold.VerifyOptions(providers=("cpu",)))
    assert found.verdict == "passed by proof"
    assert "input 'x' is bfloat16, which ONNX Runtime cannot be fed from Python" in found.reason
    options = bnfold.VerifyOptions(inputs={"x": np.zeros(3, np.float32)})
    told = "'x' is float32, where the model takes bfloat16, which ONNX Runtime cannot be fed"
    with pytest.raises(bnfold.RequestError, match=told):
        bnfold.verify(model, model, options=options)


def test_options_with_arrays_are_compared_by_their_numbers() -> None:
    some, same = (bnfold.VerifyOptions(inputs=digits(2)) for _ in range(2))
    assert some == same
    assert hash(some) == hash(same)
    assert some != bnfold.VerifyOptions(inputs={"image": digits(2)["image"] + 1})
    assert some != bnfold.VerifyOptions()
    assert some != "inputs"


def test_a_run_with_arrays_is_repeated_from_its_report(tmp_path: Path) -> None:
    options = bnfold.VerifyOptions(inputs=digits(3), seed=5)
    report = bnfold.fold_file(load(DIGITS), tmp_path / "first.onnx", verify=options)
    told = json.loads(json.dumps(report.to_dict()))
    jsonschema.validate(told, SCHEMA)
    (fed,) = told["options"]["verify"]["inputs"]
    assert (fed["image"]["dtype"], fed["image"]["shape"]) == ("float32", [3, 1, 8, 8])
    keywords = bnfold.options_of(told, inputs=digits(3))
    assert keywords["verify"] == options
    again = bnfold.fold_file(load(DIGITS), tmp_path / "again.onnx", **keywords)
    assert again.options == report.options
    with pytest.raises(bnfold.RequestError, match="the inputs were arrays, which are not told"):
        bnfold.options_of(told)
    with pytest.raises(bnfold.RequestError, match="these inputs are others"):
        bnfold.options_of(told, inputs=digits(2))
    report.to_html(tmp_path / "report.html")
    assert "3, 1, 8, 8" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_is_left_of_arrays_when_the_process_is_killed(scratch: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np, bnfold\n"
        "def killed(step):\n"
        "    if 'running' in step:\n"
        "        sys.stdout.write(' '.join(os.listdir(sys.argv[2])))\n"
        "        sys.stdout.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "inputs = {'image': np.zeros((1, 1, 8, 8), np.float32)}\n"
        "options = bnfold.VerifyOptions(inputs=inputs)\n"
        "bnfold.verify(sys.argv[1], sys.argv[1], options=options, step=killed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, DIGITS, scratch],
        env={**ENVIRONMENT, "TMPDIR": str(scratch)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = set(done.stdout.split()) - {".ses"}  # ONNX Runtime's own, which comes and goes
    assert there
    assert all(name.startswith("bnfold-") for name in there)
    until = time.monotonic() + 60
    while list(scratch.glob("bnfold-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list(scratch.glob("bnfold-*"))
