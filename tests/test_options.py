"""A run is repeated from its report alone."""

import json
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import model_in, run_here

import bnfold
from bnfold.command_line.fold import fold
from bnfold.graph.options import FoldOptions
from bnfold.options import FileKeywords, FileOptions
from bnfold.reports.page.chosen import chosen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(4, 3, 32, 32)).astype("float32"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet", "--seed 7 --shape x=5,3,32,32"),
        ("resnet", "--external-data --inputs data.npz --time 0"),
        ("resnet", "--estimate-statistics data.npz --batch-size 2 --no-verify"),
        ("resnet", "--freeze-training --max-kept 0 --per-tensor --for-quantization --no-verify"),
        ("repvgg_raw", "--no-merge --bn-only --keep-overridable --no-verify"),
        ("swiftformer", "--take-apart all --lift-constants --no-verify"),
    ],
)
def test_a_report_repeats_the_run(data: Path, name: str, words: str) -> None:
    model_in(data, name)
    (data / "first").mkdir()
    (data / "again").mkdir()
    target = ("-d", "first", "--report", "r.json")
    run_here(f"{name}.onnx", *words.split(), *target, "-q", cwd=data)
    told: dict[str, Any] = json.loads((data / "r.json").read_text(encoding="utf-8"))
    source = data / told["source"]["path"]
    second = data / "again" / Path(told["target"]["path"]).name
    keywords = bnfold.options_of(told)
    if told["exit_code"] == 5:
        with pytest.raises(bnfold.TooManyKeptError) as failed:
            bnfold.fold_file(source, second, **keywords)
        again = failed.value.report.to_dict()
    else:
        again = bnfold.fold_file(source, second, **keywords).to_dict()
    assert again["options"] == told["options"]
    assert again["target"]["sha256"] == told["target"]["sha256"]
    for file in told["target"]["data_files"]:
        pair = [data / folder / file["location"] for folder in ("first", "again")]
        assert pair[0].read_bytes() == pair[1].read_bytes()
    assert magnitudes(again) == magnitudes(told)


def magnitudes(told: dict[str, Any]) -> list[object]:
    """Return what the numbers depend on that went in: the inputs' shapes and the outputs' size."""
    found = told["verification"]
    if found is None:
        return []
    shapes = [{name: list(shape) for name, shape in each.items()} for each in found["input_shapes"]]
    outputs = [o["magnitude"] for each in found["providers"] for o in each["outputs"]]
    assert shapes
    assert outputs
    return [*shapes, *outputs]


def test_what_was_asked_for_is_told_and_no_more(data: Path) -> None:
    model_in(data, "resnet")
    run_here("resnet.onnx", "--seed", "7", "--check", "--report", "r.json", "-q", cwd=data)
    told = json.loads((data / "r.json").read_text(encoding="utf-8"))
    assert chosen(told) == [("check", ""), ("seed", "7")]
    run_here("resnet.onnx", "--no-merge", "--no-verify", "--report", "r.json", "-q", cwd=data)
    told = json.loads((data / "r.json").read_text(encoding="utf-8"))
    assert chosen(told) == [("no merge", ""), ("no verification", "")]


def test_seconds_are_told_of_each_part(data: Path) -> None:
    model_in(data, "resnet")
    run_here("resnet.onnx", "--report", "r.json", "-q", cwd=data)
    seconds = json.loads((data / "r.json").read_text(encoding="utf-8"))["seconds"]
    assert seconds["fold"] > 0
    assert seconds["verify"] > 0
    assert seconds["total"] == seconds["fold"] + seconds["verify"]
    run_here("verify", "resnet.onnx", "resnet.onnx", "--report", "r.json", "-q", cwd=data)
    compared = json.loads((data / "r.json").read_text(encoding="utf-8"))
    assert compared["seconds"]["fold"] is None
    assert compared["seconds"]["total"] == compared["seconds"]["verify"] > 0
    assert compared["options"]["seed"] == 0


def test_what_is_no_report_of_folding_is_refused() -> None:
    refused: list[dict[str, Any]] = [
        {},
        {"source": {}, "options": None},
        {"original": {}, "options": {"seed": 0}},
    ]
    for told in refused:
        with pytest.raises(bnfold.RequestError, match="no report of folding"):
            bnfold.options_of(told)


def test_functions_and_values_have_the_same_options() -> None:
    of_any, of_files = (
        {
            name
            for name, one in signature(function).parameters.items()
            if one.kind.name != "POSITIONAL_OR_KEYWORD"
        }
        for function in (bnfold.fold, bnfold.fold_file)
    )
    assert of_any == set(FoldOptions.__dataclass_fields__)
    assert of_files == set(FileKeywords.__annotations__)
    assert of_files - of_any == set(FileOptions.__dataclass_fields__) - {"fold", "picture"}


def test_the_command_line_has_every_option_of_files() -> None:
    otherwise = {
        "digest": "report",
        "int8": "report",
        "merge": "no_merge",
        "statistics": "data",
        "verify": "no_verify",
    }
    names = {otherwise.get(name, name) for name in FileKeywords.__annotations__}
    assert names <= {param.name for param in fold.params}
