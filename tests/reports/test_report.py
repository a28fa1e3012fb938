"""Reports: what they hold, the schema, and the document that explains it."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from click.testing import CliRunner
from commandline import MODELS, ROOT, convolution, load, model_in, run, tampered, write

import bnfold
from bnfold.command_line.fold import fold
from bnfold.files.publish import write_whole
from bnfold.reasons import Reason
from bnfold.reports.report import (
    SCHEMA_VERSION,
    Failure,
    FileRecord,
    Report,
    check_report_path,
    installed_versions,
    write_reports,
)
from bnfold.verification import Verdict, VerifyOptions

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def strict(schema: Any) -> Any:
    """Return the schema with every field forbidden that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def validate(data: Any) -> None:
    jsonschema.validate(data, strict(SCHEMA))
    json.dumps(data, allow_nan=False)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_real_reports_follow_the_schema(tmp_path: Path) -> None:
    for name in ("kept", "mixnet"):
        model_in(tmp_path, name)
    source = tmp_path / "kept.onnx"
    options = VerifyOptions(thorough=True)
    thorough = bnfold.fold_file(source, verify=options).to_dict()
    assert thorough["verification"]["layers"]
    validate(thorough)
    validate(bnfold.fold_file(source, check=True).to_dict())
    validate(bnfold.fold_file(source, verify=None).to_dict())
    through = bnfold.fold_file(tmp_path / "mixnet.onnx").to_dict()
    assert any(fold["through"] for fold in through["folds"])
    validate(through)


def test_report_files_of_the_command_line_follow_the_schema(tmp_path: Path) -> None:
    model_in(tmp_path)
    run("digits.onnx", "--report", "one.json", "-q", cwd=tmp_path)
    one = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    validate(one)
    for part, name in (("source", "digits.onnx"), ("target", "digits.folded.onnx")):
        data = (tmp_path / name).read_bytes()
        assert one[part] == {
            "path": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "data_files": [],
        }
    (tmp_path / "digits.folded.onnx").rename(tmp_path / "folded.onnx")
    words = ("digits.onnx", "missing.onnx", "folded.onnx")
    run(*words, "--report", "all.json", "-q", "--no-verify", cwd=tmp_path)
    several = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    validate(several)
    assert [entry["exit_code"] for entry in several] == [0, 2, 0]
    assert [entry["source"]["path"] for entry in several] == list(words)
    assert "missing.onnx" in several[1]["error"]
    tampered(tmp_path / "folded.onnx", tmp_path / "bad.onnx", lambda w: -w)
    run("verify", "digits.onnx", "bad.onnx", "--report", "v.json", cwd=tmp_path)
    compared = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    validate(compared)
    assert compared["exit_code"] == 3
    assert compared["verification"]["first_divergence"]


def test_one_bad_model_is_an_object_too(tmp_path: Path) -> None:
    run("missing.onnx", "--report", "r.json", cwd=tmp_path)
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    validate(data)
    assert data["exit_code"] == 2


def documented() -> Iterator[tuple[str, str]]:
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        for field in re.findall(r"^\| `([^`]+)` \| \S+", section.split("<!--")[0], re.MULTILINE):
            yield title, field


def test_every_field_is_documented_and_no_other() -> None:
    described = {
        (name, field)
        for name, definition in SCHEMA["$defs"].items()
        for field in definition.get("properties", ())
    }
    assert set(documented()) == described


def test_every_reason_is_documented_in_its_words() -> None:
    table = DOCUMENT.split("<!-- reasons -->")[1].split("<!-- end of reasons -->")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.MULTILINE)
    assert rows == [(reason.value, reason.text) for reason in Reason]


def test_every_field_of_a_report_is_in_the_schema() -> None:
    names = {field.name for field in fields(Report)}
    renamed = {"unlisted": "unlisted_inputs", "inlined": "inlined_functions"}
    told = {renamed.get(name, name) for name in names - {"checked_only", "network"}}
    assert told <= set(SCHEMA["$defs"]["report"]["properties"])
    assert SCHEMA["$defs"]["verification"]["properties"]["verdict"]["enum"] == list(Verdict)
    assert SCHEMA["$defs"]["report"]["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_versions_are_told() -> None:
    versions = installed_versions()
    assert versions["bnfold"] == bnfold.__version__
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values()), versions


@pytest.mark.parametrize("name", ["r.txt", "r", "model.onnx", "r.json.bak"])
def test_a_report_has_a_known_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(bnfold.RequestError, match=r"\.json, \.jsonl or \.html"):
        check_report_path(tmp_path / name)


def test_a_report_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(bnfold.RequestError, match="does not exist"):
        check_report_path(tmp_path / "nowhere" / "r.json")
    (tmp_path / "r.json").mkdir()
    with pytest.raises(bnfold.RequestError, match="this is a folder"):
        check_report_path(tmp_path / "r.json")
    with pytest.raises(bnfold.RequestError, match="this is a folder"):
        write_reports(tmp_path / "r.json", [Failure("net.onnx", "no")])


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    write_reports(tmp_path / "r.json", [Failure("net\udcff.onnx", "γ ≠ ε")])
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert data["source"]["path"] == "net\udcff.onnx"
    assert data["error"] == "γ ≠ ε"


def test_digests_are_made_when_asked_for(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    assert FileRecord.of(source, digest=False).sha256 is None
    report = bnfold.fold_file(source, verify=None, digest=False)
    assert report.source.sha256 is None
    assert report.source.size == source.stat().st_size
    assert load(tmp_path / "net.folded.onnx").graph.node


@pytest.mark.parametrize("victim", ["source", "link", "target"])
def test_a_report_does_not_overwrite_a_model(tmp_path: Path, victim: str) -> None:
    source = model_in(tmp_path, as_name="net.json")
    (tmp_path / "link.json").symlink_to(source)
    before = source.read_bytes()
    names = {"source": "net.json", "link": "link.json", "target": "out.json"}
    result = run("net.json", "-o", "out.json", "--report", names[victim], cwd=tmp_path)
    assert result.code == 2
    assert "a report would overwrite it" in result.err
    assert source.read_bytes() == before
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("words", [("net.onnx",), ("verify", "net.onnx", "net.onnx")])
def test_a_report_overwrites_nothing_that_is_read(words: Sequence[str], tmp_path: Path) -> None:
    model = onnx.load(MODELS / "digits.onnx")  # noqa: TID251 - to be saved in another form
    onnx.save(  # noqa: TID251
        model, tmp_path / "net.onnx", save_as_external_data=True, location="w.json"
    )
    (tmp_path / "inputs.json").write_text("[]")
    before = (tmp_path / "w.json").read_bytes()
    data = run(*words, "--report", "w.json", cwd=tmp_path)
    assert data.code == 2
    assert "w.json: this is data of net.onnx, a report would overwrite it" in data.err
    inputs = run(*words, "--inputs", "inputs.json", "--report", "inputs.json", cwd=tmp_path)
    assert inputs.code == 2
    assert "inputs.json: this file is used, a report would overwrite it" in inputs.err
    assert (tmp_path / "w.json").read_bytes() == before
    assert (tmp_path / "inputs.json").read_text() == "[]"


def test_the_source_of_a_report_is_what_was_read(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    data = source.read_bytes()
    report = bnfold.fold_file(source, in_place=True, verify=None)
    assert report.source.size == len(data)
    assert report.source.sha256 == hashlib.sha256(data).hexdigest()
    assert report.target is not None
    assert report.target.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_report_that_cannot_be_written_at_the_end_says_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = model_in(tmp_path), tmp_path / "r.json"
    path.write_text("the old one", encoding="utf-8")

    def refuse(descriptor: int, data: object) -> int:
        del descriptor, data
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_on_a_full_disk(path: Path, data: bytes) -> None:
        with monkeypatch.context() as full:
            full.setattr("bnfold.files.transfer.os.write", refuse)
            write_whole(path, data)

    monkeypatch.setattr("bnfold.reports.report.write_whole", write_on_a_full_disk)
    words = [str(source), "--no-verify", "--report", str(path)]
    result = CliRunner().invoke(fold, words)
    assert result.exit_code == 2
    assert "No space left on device; the model was written" in result.output
    assert path.read_text(encoding="utf-8") == "the old one"
    assert (tmp_path / "digits.folded.onnx").exists()
